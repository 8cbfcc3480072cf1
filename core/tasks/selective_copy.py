"""Selective copy: a few tokens among noise, to be said again in their order.

    . . 5 . 2 . . . 7 . | ? ? ?           asked at the three ?: 5, 2, 7

What to keep depends on what it is and not on where it stands, so a layer whose weights do not look at the input cannot
do it; and order has to be kept, which a sum forgets. Tokens: 0 is noise, 1 asks, the data follow.

Source: Gu and Dao 2023, "Mamba" (arXiv 2312.00752), after Jing et al. 2019.
Shape legend: B sequences, T time, N data tokens.
"""

from __future__ import annotations

import torch
from torch import Generator

from .batch import TokenBatch

NOISE, ASK, FIRST_DATUM = 0, 1, 2


def selective_copy(
    batch_size: int,
    *,
    length: int = 64,
    num_data: int = 8,
    data_vocabulary: int = 14,
    generator: Generator,
) -> TokenBatch:
    """Sequences with `num_data` data at random places of the first T - N, and N questions behind them.

    Args:
        batch_size: sequences B.
        length: T, 2 N or more.
        num_data: N.
        data_vocabulary: different data; tokens 2 to data_vocabulary + 1. They may repeat in a sequence.
        generator: where all randomness comes from.

    Raises:
        ValueError: where the data do not fit into the length or a size is not positive.
    """
    if num_data < 1 or data_vocabulary < 1:
        raise ValueError(
            f"selective_copy: num_data {num_data} and data_vocabulary {data_vocabulary} must be at least 1"
        )
    if length < 2 * num_data:
        raise ValueError(f"selective_copy: {num_data} data need length {2 * num_data} or more, got {length}")
    device = generator.device
    noise_BT = torch.rand(batch_size, length - num_data, generator=generator, device=device)
    place_BN = noise_BT.argsort(1)[:, :num_data].sort(1).values
    datum_BN = torch.randint(
        FIRST_DATUM, FIRST_DATUM + data_vocabulary, place_BN.shape, generator=generator, device=device
    )
    tokens = torch.full((batch_size, length), NOISE, device=device)
    tokens.scatter_(1, place_BN, datum_BN)
    tokens[:, -num_data:] = ASK
    answers, asked = torch.zeros_like(tokens), tokens == ASK
    answers[:, -num_data:] = datum_BN
    return TokenBatch(tokens, answers, asked)

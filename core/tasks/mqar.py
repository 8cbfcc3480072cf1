"""Multi-query associative recall: pairs of key and value, then each key once more, to be answered by its value.

    k1 v1 k2 v2 k3 v3  0  0  k2  0  k1  0  0  0  k3 ...       asked at k2: v2, at k1: v1, at k3: v3

What language models without attention fail at, in its smallest form. Keys are tokens 1 to V/2 - 1, values V/2 to V - 1,
0 fills the rest; inside a sequence keys are distinct, and so are values. Each query comes an even number 2 g of places
after the pairs, g drawn without replacement with probability ~ (g + 1)^(alpha - 1): "power" gaps are mostly short,
"uniform" ones ask as often for what is long past.

Source: Arora et al. 2023, "Zoology" (arXiv 2312.04927).
Shape legend: B sequences, T time, P pairs, G places for queries, V vocabulary.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from .batch import TokenBatch

Gaps = Literal["power", "uniform"]


def mqar(
    batch_size: int,
    *,
    length: int = 64,
    num_pairs: int = 8,
    vocabulary: int = 256,
    gaps: Gaps = "power",
    alpha: float = 0.01,
    generator: Generator,
) -> TokenBatch:
    """Sequences of `num_pairs` pairs and as many queries.

    Args:
        batch_size: sequences B.
        length: T; at least 4 tokens a pair: key, value, and room for a query at every second place.
        num_pairs: P.
        vocabulary: V, even; P of V/2 - 1 keys and V/2 values are used in a sequence.
        gaps: how long after the pairs the queries come.
        alpha: exponent of "power"; 1 is uniform.
        generator: where all randomness comes from.

    Raises:
        ValueError: where the pairs do not fit into the length or the vocabulary, or `gaps` is unknown.
    """
    if gaps not in get_args(Gaps):
        raise ValueError(f"mqar: gaps is {gaps!r}; use one of {list(get_args(Gaps))}")
    if num_pairs < 1 or length < 4 * num_pairs:
        raise ValueError(
            f"mqar: {num_pairs} pairs do not fit into length {length}; wanted 1 to length / 4 = {length // 4}"
        )
    if vocabulary % 2 or vocabulary // 2 - 1 < num_pairs:
        raise ValueError(
            f"mqar: vocabulary {vocabulary} is odd or holds less than {num_pairs} keys;"
            f" wanted an even number, {2 * num_pairs + 2} or more"
        )
    half, places = vocabulary // 2, (length - 2 * num_pairs) // 2
    key_BP = 1 + _distinct(batch_size, torch.ones(half - 1), num_pairs, generator)
    value_BP = half + _distinct(batch_size, torch.ones(half), num_pairs, generator)
    weight_G = torch.arange(1, places + 1).double() ** (alpha - 1 if gaps == "power" else 0.0)
    query_BP = 2 * num_pairs + 2 * _distinct(batch_size, weight_G, num_pairs, generator)

    tokens = torch.zeros(batch_size, length, dtype=torch.long, device=generator.device)
    tokens[:, : 2 * num_pairs] = torch.stack([key_BP, value_BP], -1).flatten(1)
    tokens.scatter_(1, query_BP, key_BP)
    answers = torch.zeros_like(tokens).scatter_(1, query_BP, value_BP)
    return TokenBatch(tokens, answers, answers > 0)


def _distinct(batch_size: int, weight_G: Tensor, count: int, generator: Generator) -> Tensor:
    """`count` different numbers below G a row, drawn one after the other with these weights, all rows at once.

    The order of exponential waiting times of these rates is that of drawing without replacement.
    """
    shape = (batch_size, len(weight_G))
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    wait_BG = -torch.log1p(-uniform) / weight_G.to(uniform)
    return wait_BG.topk(count, largest=False, sorted=True).indices

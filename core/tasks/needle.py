"""The needle: a passkey somewhere in filler, asked for at the end.

    f f f f [key] 7 1 4 f f f f f f f [ask] 7 1 4           asked at [ask]: 7, at 7: 1, at 1: 4

One thing to keep, any time ago, with nothing else worth keeping: a memory with forgetting fails at long lengths, one
that looks up by content does not. Tokens: 0 marks the key, 1 asks for it, then the digits, then the filler.

Source: the passkey task of Mohtashami and Jaggi 2023 (arXiv 2305.16300), with tokens for words.
Shape legend: B sequences, T time, N digits of the key.
"""

from __future__ import annotations

import torch
from torch import Generator

from .batch import TokenBatch

KEY, ASK, FIRST_DIGIT = 0, 1, 2


def needle(
    batch_size: int,
    *,
    length: int = 128,
    key_length: int = 5,
    digits: int = 10,
    filler: int = 20,
    depth: float | None = None,
    generator: Generator,
) -> TokenBatch:
    """Sequences of filler with one passkey, its question and, but for the last digit, its answer.

    Args:
        batch_size: sequences B.
        length: T; the mark, the key, the question and the answer take 2 N + 1 of it.
        key_length: digits N of a key.
        digits: different digits; tokens 2 to digits + 1.
        filler: different filler tokens, behind the digits; digits + filler + 2 tokens in all.
        depth: place of the key, 0 at the start to 1 just before the question; None draws one for each sequence.
        generator: where all randomness comes from.

    Raises:
        ValueError: where the key does not fit into the length, a size is not positive, or `depth` is not in [0, 1].
    """
    sizes = {"key_length": key_length, "digits": digits, "filler": filler}
    wrong = {name: size for name, size in sizes.items() if size < 1}
    if wrong:
        raise ValueError(f"needle: {wrong} must be at least 1")
    room = length - 2 * key_length - 1
    if room < 0:
        raise ValueError(
            f"needle: a key of {key_length} needs length {2 * key_length + 1} or more, got {length}"
        )
    if depth is not None and not 0 <= depth <= 1:
        raise ValueError(f"needle: depth is {depth}; it must lie in 0 (start) to 1 (end)")

    def draw(low: int, high: int, *size: int) -> torch.Tensor:
        return torch.randint(low, high, size, generator=generator, device=generator.device)

    tokens = draw(FIRST_DIGIT + digits, FIRST_DIGIT + digits + filler, batch_size, length)
    key_BN = draw(FIRST_DIGIT, FIRST_DIGIT + digits, batch_size, key_length)
    start_B1 = draw(0, room + 1, batch_size, 1)
    if depth is not None:
        start_B1 = torch.full_like(start_B1, round(depth * room))
    number_N = torch.arange(key_length, device=generator.device)
    tokens.scatter_(1, start_B1, KEY)
    tokens.scatter_(1, start_B1 + 1 + number_N, key_BN)
    question = length - key_length
    tokens[:, question] = ASK
    tokens[:, question + 1 :] = key_BN[:, :-1]
    answers, asked = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)
    answers[:, question:] = key_BN
    asked[:, question:] = True
    return TokenBatch(tokens, answers, asked)

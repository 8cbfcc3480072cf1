"""Grouped softmax: attention in two levels, over the landmarks of past blocks and inside each of the blocks.

A query of block b sees the tokens of b up to itself and one landmark for each past block c. With scores s,

    P = softmax over {own tokens} and {landmarks of past blocks}
    R_c = softmax over the tokens of block c
    w_j = P_j for an own token,      w_j = P_{landmark of c} R_c(j) for token j of a past block c

The weights sum to 1 over tokens; a landmark only opens its block, and its own value is read by nobody. A block that
its landmark leaves at weight 0 need not be looked at: so the blocks of the best landmarks can stand for all.

Source: Mohtashami and Jaggi 2023, "Landmark attention" (arXiv 2305.16300).
Shape legend: N blocks of L tokens, J = N L tokens, ... anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.grouped_softmax import fits, triton_grouped_softmax
from ._backend import takes_kernel
from .softmax_scan import NOTHING


def grouped_softmax(score_NL: Tensor, landmark_N: Tensor, own_NL: Tensor, past_N: Tensor) -> Tensor:
    """Weights (..., N, L) of all tokens; zeros where nothing may be seen.

    Args:
        score_NL: scores of the tokens (..., N, L), finite, any size.
        landmark_N: scores of the landmarks (..., N).
        own_NL: True at the tokens of the own block that may be seen (broadcast).
        past_N: True at the blocks of which all tokens may be seen (broadcast); none of them has own tokens.
    """
    if takes_kernel(score_NL, fits=fits(score_NL)):
        return triton_grouped_softmax(score_NL, landmark_N, own_NL, past_N)
    return weights_in_torch(score_NL, landmark_N, own_NL, past_N)


def weights_in_torch(score_NL: Tensor, landmark_N: Tensor, own_NL: Tensor, past_N: Tensor) -> Tensor:
    """`grouped_softmax` in plain torch, on any device."""
    own, own_e = own_NL.to(score_NL.dtype), score_NL.masked_fill(~own_NL, NOTHING)
    past, past_e = past_N.to(score_NL.dtype), landmark_N.masked_fill(~past_N, NOTHING)
    # a choice of units, hence detached; never -inf, whose differences are NaN
    m = torch.maximum(own_e.amax((-2, -1)), past_e.amax(-1)).detach()
    own_e = (own_e - m[..., None, None]).exp() * own
    past_e = (past_e - m[..., None]).exp() * past
    total = own_e.sum((-2, -1)) + past_e.sum(-1)
    total = torch.where(total > 0, total, 1.0)
    inside_NL = score_NL.softmax(-1)
    return (own_e + past_e[..., None] * inside_NL) / total[..., None, None]


def grouped_softmax_naive(score_NL: Tensor, landmark_N: Tensor, own_NL: Tensor, past_N: Tensor) -> Tensor:
    """The definition for one query, group after group: the oracle. Arguments without leading axes."""
    places = [tuple(place) for place in own_NL.nonzero().tolist()]
    blocks = past_N.nonzero().flatten().tolist()
    weight_NL = torch.zeros_like(score_NL)
    if not places and not blocks:
        return weight_NL
    first = [score_NL[place] for place in places] + [landmark_N[block] for block in blocks]
    gates = torch.stack(first).softmax(0)
    for place, gate in zip(places, gates, strict=False):
        weight_NL[place] = gate
    for block, gate in zip(blocks, gates[len(places) :], strict=True):
        weight_NL[block] = gate * score_NL[block].softmax(0)
    return weight_NL

"""`remem bench reweaving`: gated attention to what lower layers held, beside an attention layer of equal size.

Contextual memory reweaving stores hidden states h_l(i) of several layers for the past, and weaves them into the last:

    r_l(t) = sum_{i <= t} softmax_i(h(t) W_q (h_l(i) W_k)^T / sqrt(d)) h_l(i) W_v
    h(t) += sum_l sigmoid(w_l . h(t)) r_l(t) W_o,    W_o = 0 at the start

Its paper gives no more than that, and no figure that can be checked. So it is held to a rule set beforehand: it becomes
a layer of remem if, with equal parameters and steps, it recalls at least .02 more of MQAR with 16 pairs than the same
network without it and than the network with one more attention layer, with each of three seeds. The rows say whether.

Source: Dillon et al. 2025 (arXiv 2502.02046), abstract; the equations are the least that it can mean.
Shape legend: B sequences, T time, D model width, A width of the attention.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ...core.layers.attention import CausalAttention
from ...core.layers.linear_attention import LinearAttention
from ...core.state import SequenceLayer
from ...core.tasks import TokenBatch, mqar
from ..memory_layers import count
from .network import TokenNetwork
from .training import JUDGE, drawn, judged, train

VOCABULARY, LENGTH, PAIRS = 256, 64, 16
STEPS, BATCH, LR = 1500, 64, 3e-3
"""Attention alone recalls 16 pairs after so many steps at this rate; at 1e-2 it does not."""
JUDGED = 500
MARGIN = 0.02
WIDTH = 64

BASE = partial(LinearAttention, num_heads=1, num_features=16)
ADDED = ("nothing", "attention layer", "reweaving")

Row = dict[str, object]


class Reweaving(nn.Module):
    """Reads the states of `num_sources` lower layers from the last one; about as many parameters as attention."""

    def __init__(self, d_model: int, num_sources: int) -> None:
        super().__init__()
        width = round(2 * d_model / (1 + num_sources))  # 4 D^2 parameters in all
        self.query = nn.Linear(d_model, width, bias=False)
        self.keys_values = nn.ModuleList(
            nn.Linear(d_model, 2 * width, bias=False) for _ in range(num_sources)
        )
        self.gate = nn.Linear(d_model, num_sources)
        self.out = nn.Linear(width, d_model, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, h_BTD: Tensor, sources: list[Tensor]) -> Tensor:
        q_BTA, gates_BTL = self.query(h_BTD), self.gate(h_BTD).sigmoid()
        woven_BTA = torch.zeros_like(q_BTA)
        for number, (read, h_l_BTD) in enumerate(zip(self.keys_values, sources, strict=True)):
            k_BTA, v_BTA = read(h_l_BTD).chunk(2, -1)
            r_BTA = F.scaled_dot_product_attention(q_BTA, k_BTA, v_BTA, is_causal=True)
            woven_BTA = woven_BTA + gates_BTL[..., number, None] * r_BTA
        return self.out(woven_BTA)


class ReweavingNetwork(TokenNetwork):
    """A `TokenNetwork` whose last states take in those of the embedding and of all that follows but the last."""

    def __init__(self, vocabulary: int, *layers: Callable[[int], SequenceLayer]) -> None:
        super().__init__(vocabulary, *layers, d_model=WIDTH)
        self.weave_norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(len(layers) + 2))
        self.weave = Reweaving(WIDTH, len(layers) + 1)

    def forward(self, token_BT: Tensor) -> Tensor:
        states = self.states(token_BT)
        *sources, h_BTD = (norm(state) for norm, state in zip(self.weave_norms, states, strict=True))
        return self.read(states[-1] + self.weave(h_BTD, sources))


def reweaving(*, seeds: int = 3, root: str | None = None, quick: bool = False) -> list[Row]:
    """Rows `added, parameters, accuracy, worst, best, cpu_s`, and of reweaving `earns_its_place`, by the rule above.

    Args:
        seeds: trainings of each row.
        root: not needed; sequences are generated.
        quick: one seed, ten steps.
    """
    torch.set_num_threads(1)
    seeds, steps = (1, 10) if quick else (seeds, STEPS)
    rows, accuracy = [], {}
    for added in ADDED:
        row, accuracy[added] = _row(added, steps, seeds)
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    best = [max(others) for others in zip(*(accuracy[name] for name in ADDED[:-1]), strict=True)]
    rows[-1]["earns_its_place"] = all(
        own >= other + MARGIN for own, other in zip(accuracy["reweaving"], best, strict=True)
    )
    return rows


def _row(added: str, steps: int, seeds: int) -> tuple[Row, list[float]]:
    make = partial(network, added)
    found = [train(make, _draw, steps=steps, batch_size=BATCH, lr=LR, seed=seed) for seed in range(seeds)]
    accuracy = [
        judged(trained.network, drawn(_draw, JUDGED, seed=seed, what_for=JUDGE))
        for seed, trained in enumerate(found)
    ]
    return {
        "added": added,
        "parameters": count(make()) - VOCABULARY * WIDTH,
        "accuracy": round(float(np.mean(accuracy)), 4),
        "worst": round(min(accuracy), 4),
        "best": round(max(accuracy), 4),
        "cpu_s": round(float(np.median([trained.cpu_s for trained in found])), 1),
        "earns_its_place": None,
    }, accuracy


def network(added: str) -> TokenNetwork:
    """A layer of linear attention, and what is added."""
    if added == "reweaving":
        return ReweavingNetwork(VOCABULARY, BASE)
    more = [partial(CausalAttention, num_heads=1, window=LENGTH)] if added == "attention layer" else []
    return TokenNetwork(VOCABULARY, BASE, *more, d_model=WIDTH)


def _draw(count: int, generator: Generator) -> TokenBatch:
    return mqar(count, length=LENGTH, num_pairs=PAIRS, vocabulary=VOCABULARY, generator=generator)

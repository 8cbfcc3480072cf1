"""`remem bench battery-networks`: memory layers on the first cycles of the Severson cells, beside the default."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from ...core.layers.aaren import Aaren
from ...core.layers.attention import CausalAttention
from ...core.layers.lstm_attention import LSTMAttention
from ...core.state import SequenceLayer
from ...data.battery.early import early_features, thin_cycles
from ...data.battery.early_sequence import early_sequences
from ...data.battery.metrics import life_metrics
from ...data.windows import Sequences
from ..training import quiet
from .cross_fit import silent_trainer
from .early_network import EarlyNetwork
from .gaussian import INPUTS, EarlyEnsemble
from .sets import load_cells, with_and_without

LAYERS: dict[str, Callable[[int], SequenceLayer] | None] = {
    "Aaren": Aaren,
    "LSTM + attention": LSTMAttention,
    "causal attention": lambda width: CausalAttention(width, window=128),
    "no memory": None,
}
EPOCHS = 250
MISSING = 0.3


def battery_networks(
    *, seeds: int = 5, root: str | None = None, quick: bool = False
) -> list[dict[str, object]]:
    """One row per model, test and set of cells: the median over seeds, and the best and worst of them.

    Args:
        seeds: networks trained per layer.
        root: folder of the real sets.
        quick: one layer, few epochs, to try the road.

    Returns:
        Rows with `model, cycles, missing, cells, rmse, rmse_best, rmse_worst, mape, within_15, seconds` (of one fit).
    """
    quiet()
    cells = load_cells("early", root=root)
    print(f"data: {cells.source}", file=sys.stderr)
    (label, frame), *_ = cells.tests.items()
    lost = thin_cycles(frame, MISSING, seed=0)
    rows: list[dict[str, object]] = []
    for cycles in (100, 50)[: 1 if quick else 2]:
        train = early_sequences(cells.train, max_cycle=cycles)
        tests = {
            0.0: early_sequences(frame, max_cycle=cycles),
            MISSING: early_sequences(lost, max_cycle=cycles),
        }
        for name, layer in list(LAYERS.items())[: 1 if quick else None]:
            started = time.perf_counter()
            networks = [_fitted(layer, train, cycles, seed, 5 if quick else EPOCHS) for seed in range(seeds)]
            seconds = (time.perf_counter() - started) / seeds
            first = len(rows)
            for missing, test in tests.items():
                points = [_lives(network, test) for network in networks]
                rows += _rows(name, cycles, missing, test.ids, test.y, points, label, seconds)
            print(f"{name}, {cycles} cycles: {rows[first]['rmse']:.0f}", file=sys.stderr)
        started = time.perf_counter()
        known = early_features(cells.train, max_cycle=cycles)
        ensemble = EarlyEnsemble.fit(known.columns(INPUTS), known.lives, INPUTS)
        seconds = time.perf_counter() - started
        for missing, part in ((0.0, frame), (MISSING, lost)):
            asked = early_features(part, max_cycle=cycles)
            with torch.no_grad():
                point = ensemble(torch.from_numpy(asked.columns(INPUTS))).numpy()[:, 0]
            rows += _rows(
                "ensemble (default)",
                cycles,
                missing,
                asked.cell_id,
                asked.cycle_life,
                [point],
                label,
                seconds,
            )
    return rows


def _fitted(
    layer: Callable[[int], SequenceLayer] | None, train: Sequences, cycles: int, seed: int, epochs: int
) -> EarlyNetwork:
    torch.manual_seed(seed)
    network = EarlyNetwork(layer=layer or Aaren, num_layers=0 if layer is None else 1, max_cycle=cycles)
    network.prepare(train)
    silent_trainer(max_epochs=epochs).fit(network, network.loader(train, seed=seed))
    return network.eval()


def _lives(network: EarlyNetwork, test: Sequences) -> np.ndarray:
    x_BTF, mask_BT = torch.from_numpy(test.x), torch.from_numpy(test.mask)
    with torch.no_grad():
        return network.predict_step({"x": x_BTF, "mask": mask_BT}, 0)[:, 0].numpy()


def _rows(
    model: str,
    cycles: int,
    missing: float,
    ids: tuple[str, ...],
    life: np.ndarray | None,
    points: list[np.ndarray],
    label: str,
    seconds: float,
) -> list[dict[str, object]]:
    if life is None:
        raise ValueError("battery-networks: the test cells lack cycle_life")
    rows: list[dict[str, object]] = []
    for which, keep in with_and_without(label, ids):
        figures = [life_metrics(life[keep], point[keep]) for point in points]
        middle = {
            name: float(np.median([f[name] for f in figures])) for name in ("rmse", "mape", "within_15")
        }
        rmse = [f["rmse"] for f in figures]
        rows.append(
            {"model": model, "cycles": cycles, "missing": missing, "cells": which, "rmse": middle["rmse"]}
            | {"rmse_best": min(rmse), "rmse_worst": max(rmse), "mape": middle["mape"]}
            | {"within_15": middle["within_15"], "seconds": seconds}
        )
    return rows

"""`remem bench battery-online`: remaining life after every cycle, five folds by cell, beside trees and floors."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from ...data.split import group_folds
from ...serving.battery.predictor import Predictor
from ...serving.battery.stream import StreamSession
from ..training import quiet
from .cross_fit import LeftOut, calibrated, not_late, silent_trainer
from .data import BatteryData
from .judge import Verdict
from .online_network import OnlineNetwork
from .sets import nominal_of

SETS = ("hust", "xjtu", "tongji")
EPOCHS, FOLDS = 8, 5
STEPS = 2000  # cycles over which the forms of the model are compared


def battery_online(
    *, seeds: int = 2, root: str | None = None, quick: bool = False
) -> list[dict[str, object]]:
    """One row per set, seed, cells and model.

    Args:
        seeds: of the folds and the weights.
        root: folder of the real sets.
        quick: generated cells and one epoch, to try the road.

    Returns:
        Rows with `set, seed, cells, model, rmse, mae, mape, within_15, coverage, width, seconds`, and of the network
        `state_bytes`, `step_ms` (onnxruntime, one thread, median) and `disagreement`, the largest relative difference
        between torch in one piece, torch step by step and both graphs over 2,000 cycles.
    """
    quiet()
    rows: list[dict[str, object]] = []
    for name in ("generated",) if quick else SETS:
        for seed in range(1 if quick else seeds):
            data = BatteryData(task="online", set=name, view="sequence", root=root, seed=seed)
            rows += _judged(name, data, seed, epochs=1 if quick else EPOCHS)
    return rows


def _judged(name: str, data: BatteryData, seed: int, *, epochs: int) -> list[dict[str, object]]:
    torch.manual_seed(seed)
    network = OnlineNetwork(nominal_capacity_ah=nominal_of("online", name, None), calibration_folds=FOLDS)
    data.encode_for(network)
    network.trainer = silent_trainer(max_epochs=epochs, gradient_clip_val=1.0)
    started = time.perf_counter()
    verdict = network.calibrate(data)
    seconds = (time.perf_counter() - started) / FOLDS
    tree, tree_seconds = _trees(network, data, seed)
    facts = _forms(network, data)
    short = (
        set(data.cells.ends.filter(pl.col("end") != "reached")["cell_id"])
        if data.cells.ends is not None
        else set()
    )
    rows: list[dict[str, object]] = []
    for model, judged, cost in (("network", verdict, seconds), ("trees, same features", tree, tree_seconds)):
        for label, part in (
            ("all", judged),
            ("end of life recorded", judged.without(sorted(short), "reached")),
        ):
            if len(part.cell):
                row = part.rows(model=model)[0]
                own = facts if model == "network" and label == "all" else {}
                rows.append({"set": name, "seed": seed, "which": label} | row | {"seconds": cost} | own)
    for row in rows:
        row.pop("split")
    print(f"{name}, seed {seed}: {rows[0]['mape']:.3f}", file=sys.stderr)
    return rows


def _trees(network: OnlineNetwork, data: BatteryData, seed: int) -> tuple[Verdict, float]:
    """Gradient boosting on the rows the network learns from, in the same folds."""
    steps, cells = data.training, data.labelled_cells()
    use, group = network.trained_on(steps), np.array(steps.groups or steps.ids)
    if steps.y is None:
        raise ValueError("battery-online: the cells lack labels")
    parts, started = [], time.perf_counter()
    for _, left_out in group_folds(cells, FOLDS, seed=seed):
        held = np.isin(group, np.asarray(cells)[left_out])
        kept = use & ~held[:, None]
        trees = boosted_trees(seed)
        trees.fit(steps.x[kept], np.log(steps.y[kept]))
        own = held & np.isin(np.array(steps.ids), cells)
        rows = steps.mask & own[:, None] & (steps.y > 0)
        cell = np.repeat(np.array(steps.ids), rows.sum(axis=1))
        parts.append(LeftOut(cell, steps.position[rows], steps.y[rows], np.exp(trees.predict(steps.x[rows]))))
    seconds = (time.perf_counter() - started) / FOLDS
    return calibrated(network.interval, parts, judged=not_late(parts)), seconds


def boosted_trees(seed: int) -> HistGradientBoostingRegressor:
    """Not fitted; of log remaining life."""
    return HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=200, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=30,
        l2_regularization=1.0, max_features=0.3, random_state=seed,
    )  # fmt: skip


def _forms(network: OnlineNetwork, data: BatteryData) -> dict[str, float]:
    """The four forms of the model on one long cell: how far apart, how fast, how large the state."""
    frame = max(data.cells.train.partition_by("cell_id"), key=lambda part: part.height).head(STEPS)
    steps = data.sequences(frame)
    x_1TF = torch.from_numpy(steps.x[..., [steps.names.index(name) for name in network.hparams.columns]])
    whole = network.whole()
    with torch.no_grad():
        one, _ = whole(x_1TF)
        state, folded = whole.init_state(1), []
        for t in range(x_1TF.shape[1]):
            y_13, state = whole.step(x_1TF[:, t], state)
            folded.append(y_13)
    with TemporaryDirectory() as folder:
        network.write_bundle(Path(folder) / "bundle")
        window = Predictor(Path(folder) / "bundle", device="cpu").predict(frame)
        session, milliseconds, streamed = StreamSession(Path(folder) / "bundle"), [], []
        for row in frame.select(network.hparams.columns).iter_rows(named=True):
            started = time.perf_counter()
            streamed.append(session.update("cell", row)["rul"])
            milliseconds.append(1000 * (time.perf_counter() - started))
    truth = one[0, :, 0].double().numpy()
    forms = (torch.cat(folded)[:, 0].double().numpy(), window["rul"].to_numpy(), np.array(streamed))
    apart = max(float(np.max(np.abs(form - truth) / truth)) for form in forms)
    return {
        "state_bytes": session.state_bytes,
        "step_ms": float(np.median(milliseconds)),
        "disagreement": apart,
    }

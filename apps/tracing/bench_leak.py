"""`remem bench tracing-leak`: what rows that repeat a label do to a figure.

ASSISTments 2009 as most published work has it, one row for each skill of an answer, before a plain LSTM that sees
skills and labels. Fold 1 is judged, the others are trained on; histories are cut into 200 rows, as there.

Shape legend: B batch, T rows of a piece, D width.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from ...data.files import find
from ...data.tracing.metrics import auc
from ...data.tracing.repeats import audit_leakage, from_repeat_rows, is_repeat
from ...data.tracing.schema import conform
from ...data.tracing.simulate import simulate_log
from .sets import SETS

NAME = "assistments2009"
PIECE = 200
WIDTH = 128
EPOCHS = 12
TEST_FOLD = 1


def tracing_leak(*, seeds: int = 1, root: str | None = None, quick: bool = False) -> list[dict[str, object]]:
    """The leak report, then the LSTM's AUC on all rows, on repeats, on the others, and on merged rows.

    Args:
        seeds: of the network; AUCs are means.
        root: folder of the real sets. Where the set is not found, simulated answers are written out skill by skill.
        quick: one epoch, to try the road.

    Returns:
        Rows `rows, n, share, equal_labels, auc, seconds`.
    """
    expanded = _expanded(root)
    report = audit_leakage(expanded)
    print(f"leak report: {report}", file=sys.stderr)
    epochs = 1 if quick else EPOCHS
    leaky = [_judged(expanded, seed, epochs) for seed in range(seeds)]
    merged = [_judged(from_repeat_rows(expanded).frame, seed, epochs) for seed in range(seeds)]
    rows: list[dict[str, object]] = [
        {
            "rows": "whole file, repeats counted",
            "n": report.rows,
            "share": round(report.repeat_share, 4),
            "equal_labels": round(report.equal_share, 4),
        }
    ]
    labels = {"every row": None, "rows that repeat a label": True, "the other rows": False}
    for label, kind in labels.items():
        chosen = [np.ones_like(r) if kind is None else r == kind for _, _, r, _ in leaky]
        if chosen[0].any():
            aucs = [auc(y[k], p[k]) for (y, p, _, _), k in zip(leaky, chosen, strict=True)]
            rows.append(_row(f"fold {TEST_FOLD}, {label}", chosen[0], aucs, leaky[0][3]))
    aucs = [auc(y, p) for y, p, _, _ in merged]
    rows.append(
        _row(f"fold {TEST_FOLD}, one row per answer", np.ones(len(merged[0][0]), bool), aucs, merged[0][3])
    )
    return rows


def _row(name: str, chosen: np.ndarray, aucs: list[float], seconds: float) -> dict[str, object]:
    return {
        "rows": name,
        "n": int(chosen.sum()),
        "share": round(float(chosen.mean()), 4),
        "auc": round(float(np.mean(aucs)), 4),
        "seconds": round(seconds, 1),
    }


def _expanded(root: str | None) -> pl.DataFrame:
    """One row for each concept of an answer, conformed but not merged."""
    folder = find(NAME, root)
    if folder is not None:
        table = pl.read_parquet(folder / SETS[NAME])
        names = {"student": "student_id", "problem": "question_id", "skill": "concepts"}
        table = table.drop("same_problem_as_prev").rename(names)
        return conform(table, source=SETS[NAME]).frame
    print(f"{NAME} was not found: simulated answers", file=sys.stderr)
    frame = simulate_log(200, two_concepts=0.5).drop("p_true", "timestamp").explode("concepts")
    return conform(frame, source="simulated").frame


def _judged(frame: pl.DataFrame, seed: int, epochs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Labels, forecasts and whether each row repeats the one before, of the test fold; seconds of the fit."""
    torch.manual_seed(seed)
    start = time.process_time()
    concept = frame["concepts"].list.sort().list.join("+")
    codes = concept.rank("dense").to_numpy().astype(np.int64)
    correct = frame["correct"].to_numpy().astype(np.int64)
    test = (frame["fold"] == TEST_FOLD).to_numpy()
    piece = frame.select(
        first=pl.int_range(pl.len()).over("student_id") % PIECE == 0,
    )["first"].to_numpy()
    bounds = np.append(np.flatnonzero(piece), frame.height)
    pieces = list(pairwise(bounds.tolist()))
    network = _PlainLSTM(int(codes.max()) + 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    training = [(a, b) for a, b in pieces if not test[a]]
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in _batches(training, random):
            concept_BT, correct_BT, mask_BT = _padded(batch, codes, correct)
            logit_BT = network(concept_BT, correct_BT)
            loss = nn.functional.binary_cross_entropy_with_logits(
                logit_BT[mask_BT], correct_BT[mask_BT].float()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    p = np.zeros(frame.height)
    with torch.no_grad():
        for batch in _batches([(a, b) for a, b in pieces if test[a]], random):
            concept_BT, correct_BT, mask_BT = _padded(batch, codes, correct)
            p_BT = network(concept_BT, correct_BT).sigmoid().numpy()
            for (a, b), row in zip(batch, p_BT, strict=True):
                p[a:b] = row[: b - a]
    repeats = is_repeat(frame).to_numpy()
    return correct[test].astype(float), p[test], repeats[test], time.process_time() - start


class _PlainLSTM(nn.Module):
    """Deep knowledge tracing: an LSTM over (skill, label), asked for the skill of the next row."""

    def __init__(self, skills: int) -> None:
        super().__init__()
        self.skills = skills
        self.pair = nn.Embedding(2 * skills, WIDTH)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(WIDTH, skills)

    def forward(self, concept_BT: Tensor, correct_BT: Tensor) -> Tensor:
        """(B, T) logits of a right answer, each from the rows before."""
        h_BTD, _ = self.lstm(self.pair(concept_BT + self.skills * correct_BT))
        h_BTD = self.dropout(nn.functional.pad(h_BTD, (0, 0, 1, 0))[:, :-1])
        return self.out(h_BTD).gather(2, concept_BT[..., None])[..., 0]


def _batches(pieces: list[tuple[int, int]], random: np.random.Generator) -> list[list[tuple[int, int]]]:
    """Pieces of like length, 64 at a time, in random order."""
    ordered = sorted(pieces, key=lambda piece: piece[1] - piece[0])
    batches = [ordered[i : i + 64] for i in range(0, len(ordered), 64)]
    return [batches[i] for i in random.permutation(len(batches))]


def _padded(
    batch: list[tuple[int, int]], codes: np.ndarray, correct: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    bounds = np.array(batch)
    at = bounds[:, :1] + np.arange((bounds[:, 1] - bounds[:, 0]).max())
    mask = at < bounds[:, 1:]
    at = np.where(mask, at, 0)
    return torch.from_numpy(codes[at] * mask), torch.from_numpy(correct[at] * mask), torch.from_numpy(mask)

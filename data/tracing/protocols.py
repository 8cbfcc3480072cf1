"""What is scored: three ways of the field to turn a log of answers into one number.

`honest` is ours: one row per answered question, every answer is scored once, from the student's whole history.

`pykt` (Liu et al. 2022): a question is forecast once for each of its concepts from what came before the question, and
the mean of these counts; the first answer of a student is not scored, students with fewer than three are left out.
pyKT lets an answer see 199 rows before it; here it sees all.

`akt-legacy` (Ghosh et al. 2020): one row per answer and concept, all scored, the history cut into pieces of 200 rows
that know nothing of each other. The label of a repeated row stands on the row before: its number is no accuracy, and
comes with the share of such rows. It must be asked for by name.

    trial = prepare(log)                        # or prepare(log, "pykt")
    rows = evaluate(trial, model.predict(trial.log))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from .metrics import answer_metrics, auc_difference
from .repeats import from_repeat_rows, is_repeat
from .slices import Seen, slice_masks

PROTOCOLS = ("honest", "pykt", "akt-legacy")
LEAST_ANSWERS = 3
"""Students with fewer answers are left out by `pykt`."""
CHUNK = 200
"""Rows of a piece of `akt-legacy`."""


@dataclass(frozen=True)
class Trial:
    """A log to forecast and what of it is scored.

    protocol: its name.
    log: the conformed log to forecast; rows with `correct` null are forecast and leave the state as it was.
    answers: a row for each answer that may be scored, with the columns of a log.
    item: (rows of log,) the row of `answers` that the forecast is of, -1 for none; several forecasts are averaged.
    scored: (rows of answers,) bool.
    left_out: how many were left out, by reason.
    leak_share: share of the scored rows that repeat the question before them under another concept.
    """

    protocol: str
    log: pl.DataFrame
    answers: pl.DataFrame
    item: np.ndarray
    scored: np.ndarray
    left_out: Mapping[str, int] = field(default_factory=dict)
    leak_share: float = 0.0

    def fuse(self, p: np.ndarray) -> np.ndarray:
        """Forecasts of the rows of `log` -> (rows of answers,), NaN where none is scored.

        Raises:
            ValueError: where there are not as many forecasts as rows.
        """
        p = np.asarray(p, float)
        if p.shape != (self.log.height,):
            raise ValueError(
                f"{self.protocol}: got forecasts of shape {p.shape} for {self.log.height} rows; forecast `trial.log`, "
                "not the log it was made of"
            )
        used = self.item >= 0
        total = np.bincount(self.item[used], p[used], self.answers.height)
        number = np.bincount(self.item[used], minlength=self.answers.height)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def prepare(log: pl.DataFrame, protocol: str = "honest") -> Trial:
    """What to forecast and what to score of a conformed log.

    Raises:
        ValueError: where the protocol is unknown, nothing is left to score, or, unless asked for by name with
            "akt-legacy", rows repeat an answer under another concept.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}; wanted one of {', '.join(PROTOCOLS)}")
    if protocol != "akt-legacy":
        repeats = log.height - from_repeat_rows(log).frame.height
        if repeats:
            raise ValueError(
                f"{protocol}: {repeats} of {log.height} rows repeat the answer before them under another concept, so "
                "that their labels are known; merge them with from_repeat_rows, or ask for protocol='akt-legacy'"
            )
    trial = {"honest": _honest, "pykt": _pykt, "akt-legacy": _legacy}[protocol](log)
    if not trial.scored.any():
        raise ValueError(f"{protocol}: no answer of the {log.height} rows is scored; give a log with answers")
    return trial


def _honest(log: pl.DataFrame) -> Trial:
    scored = log["correct"].is_not_null().to_numpy()
    return Trial("honest", log, log, np.where(scored, np.arange(log.height), -1), scored)


def _pykt(log: pl.DataFrame) -> Trial:
    given = pl.col("correct").is_not_null()
    number = given.sum().over("student_id")
    answers = log.filter(number >= LEAST_ANSWERS)
    short = log.filter((number < LEAST_ANSWERS) & given)
    scored = answers.select(given & ((given.cast(pl.Int64).cum_sum() - 1).over("student_id") > 0)).to_series()
    rows = answers.with_columns(scored.alias("_scored")).with_row_index("_item")
    fused = pl.col("_scored") & (pl.col("concepts").list.len() > 1)
    queries = rows.filter(fused).explode("concepts")
    queries = queries.with_columns(pl.concat_list("concepts"), pl.lit(None, pl.Int8).alias("correct"))
    # the question itself comes after its queries: it writes, and is scored only where it has no queries
    whole = rows.with_columns((pl.col("_scored") & ~fused).alias("_scored"))
    both = pl.concat([queries, whole]).sort("_item", pl.col("correct").is_not_null(), maintain_order=True)
    item = np.where(both["_scored"].to_numpy(), both["_item"].cast(pl.Int64).to_numpy(), -1)
    left_out = {
        f"students with fewer than {LEAST_ANSWERS} answers": short["student_id"].n_unique(),
        "their answers": short.height,
        "first answers of the others": answers["student_id"].n_unique(),
    }
    return Trial("pykt", both.select(log.columns), answers, item, scored.to_numpy(), left_out)


def _legacy(log: pl.DataFrame) -> Trial:
    rows = log.explode("concepts", empty_as_null=True)
    none = pl.when(pl.col("concepts").is_null()).then(pl.lit([], pl.List(pl.String)))
    rows = rows.with_columns(none.otherwise(pl.concat_list("concepts")).alias("concepts"))
    piece = pl.int_range(pl.len()).over("student_id") // CHUNK
    cut = rows.with_columns(pl.concat_str("student_id", pl.lit("/"), piece).alias("student_id"))
    scored = cut["correct"].is_not_null().to_numpy()
    leak = float((is_repeat(cut).to_numpy() & scored).sum() / max(scored.sum(), 1))
    item = np.where(scored, np.arange(cut.height), -1)
    return Trial("akt-legacy", cut, cut, item, scored, leak_share=leak)


def evaluate(trial: Trial, p: np.ndarray, *, train: Seen | None = None) -> list[dict[str, object]]:
    """Figures of a forecast: the first row is the headline, the others are parts of it.

    Args:
        p: (rows of trial.log,) forecasts.
        train: of the model, for the parts by how often a question was seen in it.

    Returns:
        Rows `protocol, part, n, auc, nll, accuracy, brier, ece`; the first, with part "all", has `core` (questions
        without an id are told apart by their concepts), `leak_share` and what was left out too.
    """
    correct, fused, questions, _ = _scored(trial, p)
    figures = answer_metrics(correct, fused, questions)
    whole = _row(trial, "all", figures)
    rows = [whole | {"leak_share": trial.leak_share} | dict(trial.left_out)]
    for part, mask in slice_masks(trial.answers, train).items():
        chosen = mask[trial.scored]
        if chosen.any():
            rows.append(_row(trial, part, answer_metrics(correct[chosen], fused[chosen])))
    return rows


def _row(trial: Trial, part: str, figures: dict[str, float]) -> dict[str, object]:
    return {"protocol": trial.protocol, "part": part, **figures, "n": int(figures["n"])}


def headline(rows: list[dict[str, object]]) -> str:
    """The one number of `evaluate`, with its protocol: "AUC .7768 (honest, 52003 answers)"."""
    first = rows[0]
    leak = f", {first['leak_share']:.1%} of them leaked" if first["leak_share"] else ""
    about = f"({first['protocol']}, {first['n']} answers{leak})"
    if first["auc"] != first["auc"]:
        return (
            f"no AUC {about}: the scored answers are all right or all wrong; wanted both, from more students"
        )
    return f"AUC {first['auc']:.4f} {about}"


def compare(
    trial: Trial, p: np.ndarray, others: Mapping[str, np.ndarray], *, draws: int = 1000, seed: int = 0
) -> list[dict[str, object]]:
    """`other, auc, difference, lo, hi, worse` for each of the other forecasts: see `metrics.auc_difference`."""
    correct, fused, _, students = _scored(trial, p)
    rows: list[dict[str, object]] = []
    for name, other in others.items():
        _, against, _, _ = _scored(trial, other)
        found = auc_difference(correct, fused, against, students, draws=draws, seed=seed)
        rows.append({"other": name, "auc": answer_metrics(correct, against)["auc"]} | found)
    return rows


def _scored(trial: Trial, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, forecasts, questions and students of the scored answers."""
    answers = trial.answers.filter(pl.Series(trial.scored))
    question = pl.col("question_id").fill_null(pl.col("concepts").list.sort().list.join("\x1f"))
    # the pieces of one student in akt-legacy are redrawn together
    student = (
        pl.col("student_id").str.replace(r"/\d+$", "") if trial.protocol == "akt-legacy" else "student_id"
    )
    table = answers.select(question.alias("question"), "correct", student)
    return (
        table["correct"].to_numpy(),
        trial.fuse(p)[trial.scored],
        table["question"].to_numpy(),
        table["student_id"].to_numpy(),
    )

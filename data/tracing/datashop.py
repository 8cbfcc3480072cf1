"""DataShop and KDD Cup 2010: student-step tables, tab-separated."""

from __future__ import annotations

import re

import polars as pl

from .reading import Reading, select_answers

_KC = re.compile(r"^KC ?\((.*)\)$")
_PREFERRED = ("Default", "SubSkills")
_FIRST_ATTEMPT = {"correct": 1, "incorrect": 0, "hint": 0, "1": 1, "0": 0}


def read_datashop(frame: pl.DataFrame, source: str) -> Reading | None:
    """One row per student and step; the question is problem and step, right when its first attempt was.

    Of several `KC(...)` columns Default is taken, then SubSkills, then the first; its concepts are joined with `~~`.
    A hint counts as wrong. Rows without a first attempt (the test half of KDD Cup) are questions to be predicted.

    Raises:
        ValueError: a first attempt is none of correct, incorrect, hint, 1 and 0.
    """
    label = next((n for n in ("Correct First Attempt", "First Attempt") if n in frame.columns), None)
    if label is None or not {"Anon Student Id", "Problem Name", "Step Name"} <= set(frame.columns):
        return None
    models = {m.group(1): name for name in frame.columns if (m := _KC.match(name))}
    chosen = next((models[name] for name in _PREFERRED if name in models), next(iter(models.values()), None))
    text = frame[label].cast(pl.String).str.strip_chars().str.to_lowercase()
    given = text.is_not_null() & ~text.is_in(["", "."]).fill_null(True)
    strange = given & ~text.is_in(list(_FIRST_ATTEMPT)).fill_null(False)
    if strange.any():
        raise ValueError(
            f"{source}: {label} is {frame[label].filter(strange)[0]!r}; wanted correct, incorrect, hint, 1 or 0; "
            "export the student-step table again"
        )
    names: dict[str, str | pl.Expr] = {
        "student_id": "Anon Student Id",
        "question_id": pl.format("{} / {}", pl.col("Problem Name"), pl.col("Step Name")),
        "correct": pl.lit(text.replace_strict(_FIRST_ATTEMPT, default=None, return_dtype=pl.Int8)),
        "step": "Row",
        "hints": "Hints",
    }
    if chosen is not None:
        names["concepts"] = pl.col(chosen).str.replace_all(r"^\.$", "").str.split("~~")
    when = next((n for n in ("Step Start Time", "First Transaction Time") if n in frame.columns), None)
    if when is not None:
        times = pl.col(when).str.strip_chars()
        names["timestamp"] = pl.when(~times.is_in(["", "."])).then(times)
    if "Step Duration (sec)" in frame.columns:
        names["duration_ms"] = pl.col("Step Duration (sec)").cast(pl.Float64, strict=False) * 1000
    keys = ["Row", "Anon Student Id", "Problem Name", "Step Name", *([chosen] if chosen else [])]
    return select_answers(frame, names, keys)

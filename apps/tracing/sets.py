"""The tracing sets by name, own files, simulated students; and who of them is trained on, chosen on, judged on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from ...data.battery.schema import near
from ...data.files import find
from ...data.tracing.assistments import concept_names
from ...data.tracing.findings import Findings
from ...data.tracing.opening import open_log
from ...data.tracing.simulate import simulate_log

SETS: dict[str, str] = {
    "assistments2009": "assistments2009_folds0-4.parquet",
    "assistments2015": "assistments2015_folds0-4.parquet",
    "assistments2017": "assistments2017_folds0-4.parquet",
    "synthetic5": "synthetic5.parquet",
}
SKILLS = {"assistments2009": "assistments2009_skills.csv", "assistments2017": "assistments2017_skills.csv"}
"""Names of concepts, where a set has them."""
SIMULATED = "simulated"
SIMULATED_STUDENTS = 300
HASH_FOLDS = 5
"""Folds of a log that has none of its own."""


@dataclass(frozen=True)
class Answered:
    """A log, one line for people about where it comes from, what reading it repaired or merged, names of concepts."""

    frame: pl.DataFrame
    source: str
    report: Findings
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Splits:
    """Logs of different students: to fit on, to choose and calibrate on, to judge on (by label)."""

    train: pl.DataFrame
    valid: pl.DataFrame
    tests: Mapping[str, pl.DataFrame]
    source: str
    words: str
    """Which students are trained on and chosen on, for the record."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Of concepts, by their id, where there are any."""


def load_log(
    *,
    name: str | None = None,
    root: str | None = None,
    paths: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Answered:
    """The user's own files, else the named real set, else simulated students (and `source` says which).

    Args:
        name: a key of `SETS`, or "simulated"; None is assistments2009.
        root: folder that holds the real sets; None looks at REMEM_DATA and the download cache.
        paths: files of the user's own log, of any format `open_log` knows.
        columns: other names of their columns, as {old: new}.
        seed: of simulated students.

    Raises:
        ValueError: an unknown set, a set that is not in `root`, or a file that cannot be read.
    """
    chosen = "assistments2009" if name is None else name
    if chosen not in (*SETS, SIMULATED):
        raise ValueError(
            f"--data.set {near(chosen, SETS)}: no such set; there are {', '.join(SETS)}, {SIMULATED}"
        )
    missed = ""
    if not paths and chosen != SIMULATED:
        folder = find(chosen, root)
        if folder is not None:
            log = open_log(folder / SETS[chosen])
            skills = folder / SKILLS.get(chosen, "")
            names = concept_names(skills) if skills.is_file() else {}
            return Answered(log.frame, f"{chosen}, {_size(log.frame)}", log.report, names)
        if root is not None:
            raise ValueError(
                f"--data.root {root}: {chosen} is not there; `remem data check {chosen}` says what is"
            )
        missed = f" (the real set '{chosen}' was not found; set REMEM_DATA or --data.root)"
    if paths:
        log = open_log(list(paths), columns=columns)
        told = ", ".join(Path(path).name for path in paths)
        return Answered(log.frame, f"own log {told}, {_size(log.frame)}", log.report)
    frame = simulate_log(SIMULATED_STUDENTS, seed=seed).drop("p_true")
    return Answered(frame, f"simulated, {_size(frame)}{missed}", Findings())


def with_folds(frame: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """The log with a column `fold`: its own, else 0..4 by a hash of the student's id, the same in every log."""
    if "fold" in frame.columns:
        empty = frame["fold"].null_count()
        if empty:
            raise ValueError(
                f"the column fold has {empty} nulls; wanted the fold of every student: fill it in or drop it"
            )
        return frame
    students = frame["student_id"].unique(maintain_order=True)
    folds = pl.Series("fold", [hash_fold(student, seed=seed) for student in students], pl.Int8)
    return frame.join(pl.DataFrame([students, folds]), on="student_id", how="left", maintain_order="left")


def hash_fold(student: str, *, seed: int = 0) -> int:
    """Fold 0..4 of a student, from the id alone: it does not change when students come or go."""
    digest = hashlib.blake2b(f"{seed}:{student}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HASH_FOLDS


def split_by_fold(
    answered: Answered,
    *,
    train: Sequence[int],
    valid: Sequence[int],
    test: Sequence[int] = (),
    seed: int = 0,
) -> Splits:
    """Students by their fold.

    Raises:
        ValueError: a fold is asked for twice, a part has no answers, or a student is in two parts.
    """
    own = "fold" in answered.frame.columns
    asked = [*train, *valid, *test]
    twice = sorted({fold for fold in asked if asked.count(fold) > 1})
    if twice:
        raise ValueError(
            f"fold {twice[0]} is in two of --data.train_folds {list(train)}, --data.valid_folds {list(valid)}, "
            f"--data.test_folds {list(test)}; a fold has one purpose"
        )
    frame = with_folds(answered.frame, seed=seed)
    there = sorted(frame["fold"].unique().to_list())
    parts = {"train": train, "valid": valid} | ({"test": test} if test else {})
    cut = {name: frame.filter(pl.col("fold").is_in(list(folds))) for name, folds in parts.items()}
    for name, part in cut.items():
        if not part.height:
            students = frame["student_id"].n_unique()
            remedy = (
                "choose among these"
                if own
                else f"students were dealt out to {HASH_FOLDS} folds by their id, and there are {students} of them; "
                "wanted more students (some dozens at least), or a column fold"
            )
            raise ValueError(
                f"--data.{name}_folds {list(parts[name])}: no answers; the log has folds {there}; {remedy}"
            )
    refuse_shared(cut)
    kind = "" if own else " (by a hash of the student's id)"
    words = f"folds {_listed(train)} trained on, {_listed(valid)} chosen on{kind}"
    tests = {f"fold {_listed(test)}": cut["test"]} if test else {}
    return Splits(cut["train"], cut["valid"], tests, answered.source, words, answered.names)


def refuse_shared(parts: Mapping[str, pl.DataFrame]) -> None:
    """Raise a ValueError where a student is in two of the logs: what was trained on cannot judge."""
    seen: dict[str, str] = {}
    for name, part in parts.items():
        shared = [student for student in part["student_id"].unique(maintain_order=True) if student in seen]
        if shared:
            raise ValueError(
                f"{len(shared)} students are in {seen[shared[0]]} and in {name}, first {shared[0]}; a model that has "
                "seen a student's answers cannot be judged on them: split by student"
            )
        seen |= dict.fromkeys(part["student_id"].unique(), name)


def read_folds(given: str | int | Sequence[int] | None) -> list[int]:
    """`"0,2,3"`, `1`, `[0, 2]` or None as a list of folds.

    Raises:
        ValueError: what is there is no list of whole numbers.
    """
    if given is None or given == "":
        return []
    words = given.replace(" ", ",").split(",") if isinstance(given, str) else given
    words = [words] if isinstance(words, int) else words
    try:
        return [int(word) for word in words if str(word) != ""]
    except ValueError as error:
        raise ValueError(f"folds are '{given}'; wanted whole numbers, as in 0,2,3,4") from error


def _size(frame: pl.DataFrame) -> str:
    return f"{frame['student_id'].n_unique()} students, {frame.height} answers"


def _listed(folds: Sequence[int]) -> str:
    return ", ".join(str(fold) for fold in folds)

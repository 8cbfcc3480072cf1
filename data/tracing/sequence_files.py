"""Files with a few lines for each student: DKVMN (3), AKT (4) and pyKT's data.txt (6), and pyKT's csv of sequences.

DKVMN  15 | 1,1,7,... concepts | 0,1,1,... labels
AKT    1,64525 | questions | concepts | labels
pyKT   64525,15 | questions | concepts, joined with _ | labels | times in ms | durations in ms; NA where there is none
"""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path

import polars as pl

from .casts import first_true
from .reading import Reading, select_answers

LINES = {"dkvmn": 3, "akt": 4, "pykt": 6}
_LABELS = {"0", "1", "0.0", "1.0", "NA"}
_NONE = ("NA", "-1", "", "nan")


def has_sequences(text: str) -> bool:
    """Whether the beginning of a file looks like one of these."""
    lines = [line.strip().rstrip(",") for line in text.splitlines()[:6]]
    if len(lines) < 3 or lines[0].count(",") > 1 or not any(f.strip().isdigit() for f in lines[0].split(",")):
        return False
    # the line of labels, and as many concepts in the line before
    return any(set(b.split(",")) <= _LABELS and a.count(",") == b.count(",") for a, b in pairwise(lines[1:4]))


def read_sequences(path: Path, form: str = "auto") -> Reading:
    """The file at `path`; the same student in several places is one student, whose answers go on.

    Raises:
        ValueError: lines are missing, or the lines of a student differ in length; the message names the line.
    """
    lines = [line.strip() for line in path.read_text("utf-8-sig", "replace").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    cells = [line.rstrip(",").split(",") for line in lines]
    kinds = [form] if form in LINES else list(reversed(LINES))
    faults = {kind: _fault(cells, kind) for kind in kinds}
    kind = next((kind for kind in kinds if not faults[kind]), None)
    if kind is None:
        told = "; ".join(
            f"as {kind} ({LINES[kind]} lines a student): {fault}" for kind, fault in faults.items()
        )
        raise ValueError(f"{path}: the lines of students do not fit together: {told}; correct the file")
    return _blocks(cells, kind)


def _fault(cells: list[list[str]], kind: str) -> str | None:
    """What is wrong with the lines as this kind, or None."""
    size = LINES[kind]
    if len(cells) % size:
        return f"{len(cells)} lines are no multiple"
    for at in range(0, len(cells), size):
        head, *rows = cells[at : at + size]
        if len(head) > 2:
            return f"line {at + 1} begins a student and has {len(head)} fields, wanted 1 or 2"
        labels = rows[-1] if size < 6 else rows[2]
        for k, row in enumerate(rows):
            absent = size == 6 and k != 2 and row == ["NA"]
            if len(row) != len(labels) and not absent:
                return f"line {at + 2 + k} has {len(row)} fields, the labels of its student {len(labels)}"
        if not all(_is_label(label) for label in labels):
            return f"labels of the student in line {at + 1} are not all 0 or 1"
    return None


def _is_label(text: str) -> bool:
    if text in _LABELS:
        return True
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _blocks(cells: list[list[str]], kind: str) -> Reading:
    size = LINES[kind]
    columns: dict[str, list[list[str | None]]] = {
        name: [] for name in ("student", "question", "concept", "label")
    }
    columns |= {"time": [], "duration": []}
    for at in range(0, len(cells), size):
        head, *rows = cells[at : at + size]
        labels = rows[2] if kind == "pykt" else rows[-1]
        columns["student"].append([_student(head, kind, at // size, len(labels))] * len(labels))
        columns["question"].append(_full(rows[0], labels) if kind != "dkvmn" else [None] * len(labels))
        columns["concept"].append(_full(rows[0 if kind == "dkvmn" else 1], labels))
        columns["label"].append([None if label == "NA" else label for label in labels])
        for name, k in (("time", 3), ("duration", 4)):
            columns[name].append(_full(rows[k], labels) if kind == "pykt" else [None] * len(labels))
    flat = pl.DataFrame(
        {name: list(chain.from_iterable(lists)) for name, lists in columns.items()},
        schema_overrides={name: pl.String for name in columns},
    )
    return _reading(flat)


def _student(head: list[str], kind: str, block: int, answers: int) -> str:
    """pyKT writes id, length; DKVMN the length alone; others length, id or number, id."""
    if kind == "pykt":
        return head[0]
    if len(head) == 2:
        return head[1]
    return str(block + 1) if head[0] == str(answers) else head[0]


def _full(row: list[str], labels: list[str]) -> list[str | None]:
    if len(row) != len(labels):
        return [None] * len(labels)
    return [None if cell in _NONE else cell for cell in row]


def _reading(flat: pl.DataFrame) -> Reading:
    flat = flat.with_columns(pl.int_range(1, pl.len() + 1).over("student").alias("step"))
    names: dict[str, str | pl.Expr] = {
        "student_id": "student",
        "question_id": "question",
        "concepts": pl.col("concept").str.split("_"),
        "correct": "label",
        "step": "step",
    }
    for new, old in (("timestamp", "time"), ("duration_ms", "duration"), ("fold", "fold")):
        if old in flat.columns and flat[old].null_count() < flat.height:
            names[new] = old
    return select_answers(flat, names, ("student", "step", "question", "concept"))


def read_pykt_table(frame: pl.DataFrame, source: str) -> Reading | None:
    """pyKT's csv of sequences (train_valid.csv, test.csv, ..._sequences.csv): a list of each kind in a cell.

    Padding (-1) is left out, so the rows of the input are its answers; chunks of a student follow each other.

    Raises:
        ValueError: the lists of a row differ in length.
    """
    if not {"uid", "concepts", "responses"} <= set(frame.columns):
        return None
    have = set(frame.columns)
    lists = [
        name for name in ("concepts", "responses", "questions", "timestamps", "usetimes") if name in have
    ]
    length = pl.col("responses").str.split(",").list.len()
    # NA in a cell stands for the whole of it
    absent = pl.lit(None, dtype=pl.String).repeat_by(length)
    table = frame.select(
        *(name for name in ("uid", "fold") if name in have),
        *(
            pl.when(pl.col(n).fill_null("NA") == "NA")
            .then(absent)
            .otherwise(pl.col(n).str.split(","))
            .alias(n)
            for n in lists
        ),
    )
    for name in lists:
        wrong = (table[name].list.len() != table["responses"].list.len()).fill_null(True)
        if wrong.any():
            at = first_true(wrong)
            raise ValueError(f"{source}: {name} and responses of row {at} differ in length; correct the file")
    flat = table.explode(lists).filter(pl.col("responses").ne_missing("-1"))
    named = {"uid": "student", "questions": "question", "concepts": "concept", "responses": "label"}
    named |= {"timestamps": "time", "usetimes": "duration"}
    flat = flat.rename(named, strict=False)
    if "question" in flat.columns:
        flat = flat.with_columns(pl.col("question").replace(list(_NONE), None))
    return _reading(flat)

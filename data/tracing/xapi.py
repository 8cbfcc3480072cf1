"""Experience API (xAPI 1.0.3) statements: who answered what, and whether it was right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from .reading import Reading
from .records import Collected, at, milliseconds, number, text

_ANSWERED = re.compile(r"(^|/)answered/?$")
_ACTIVITIES = ("grouping", "parent", "category")
"""Where a statement may name the concepts of its question; the first that is there is taken."""
_AGENT = ("mbox", "mbox_sha1sum", "openid")
_KEYS = ("student_id", "question_id", "timestamp")


def is_statement(record: Any) -> bool:
    return isinstance(record, Mapping) and {"actor", "verb", "object"} <= set(record)


def read_statements(statements: Sequence[Any], source: str) -> Reading:
    """Statements whose verb ends in /answered and whose result has `success` (or a scaled score of 0 or 1).

    The student is `actor.account.name`, else mbox, mbox_sha1sum or openid; the question `object.id`. Other
    statements are refused and counted.

    Raises:
        ValueError: nothing is an answer.
    """
    found = Collected()
    keys, place = [], []
    for count, statement in enumerate(statements):
        row, fault = _answer(statement) if is_statement(statement) else ({}, "not_an_answer")
        name = text(at(statement, "id")) or str(count)
        keys.append({"statement_id": name, **{key: row.get(key) for key in _KEYS}})
        place.append(found.add(row, fault, name))
    if not found.rows:
        raise ValueError(
            f"{source}: none of {len(place)} statements is an answer; wanted a verb that ends in /answered, an actor "
            "with an account or mbox and result.success; check the query of the export"
        )
    table = pl.DataFrame(keys, schema=dict.fromkeys(("statement_id", *_KEYS), pl.String))
    return Reading(found.frame, table, found.report, np.array(place))


def _answer(statement: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The row of a statement, and why it is refused, or None."""
    success, score = at(statement, "result", "success"), number(at(statement, "result", "score", "scaled"))
    label = success if isinstance(success, bool) else score
    row = {
        "student_id": _student(statement["actor"]),
        "question_id": text(at(statement, "object", "id")),
        "concepts": _concepts(at(statement, "context", "contextActivities")),
        "correct": int(label) if label in (0, 1) else None,
        "timestamp": text(statement.get("timestamp")) or text(statement.get("stored")),
        "duration_ms": milliseconds(at(statement, "result", "duration")),
        "session_id": text(at(statement, "context", "registration")),
    }
    verb = text(at(statement, "verb", "id")) or ""
    if not _ANSWERED.search(verb) or row["question_id"] is None or label is None:
        return row, "not_an_answer"
    if row["student_id"] is None:
        return row, "no_student"
    return row, None if label in (0, 1) else "partial_credit"


def _student(actor: Any) -> str | None:
    named = text(at(actor, "account", "name"))
    return named or next((name for key in _AGENT if (name := text(at(actor, key)))), None)


def _concepts(activities: Any) -> list[str]:
    for kind in _ACTIVITIES:
        named = at(activities, kind)
        if named:
            several = named if isinstance(named, list) else [named]  # 1.0.0 allowed a single one
            return [name for one in several if (name := text(at(one, "id")))]
    return []

"""Caliper Analytics v1p1 events: an AssessmentItemEvent says that a student answered, a GradeEvent how well.

The two are joined by their attempt, because platforms send grades later, some of them once a night.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from .findings import Findings
from .reading import Reading
from .records import Collected, at, milliseconds, number, text

_ANSWERED = ("Completed", "Submitted")
_GRADES = ("GradeEvent", "OutcomeEvent")
_SCORES = ("scoreGiven", "totalScore", "normalScore")
"""v1p1, v1, v1."""


def is_caliper(record: Any) -> bool:
    if not isinstance(record, Mapping):
        return False
    return {"sensor", "data"} <= set(record) or "caliper" in str(record.get("@context", ""))


def read_events(records: Iterable[Any], source: str) -> Reading:
    """Events, alone or in envelopes (`sensor, sendTime, data`), in any order.

    The student is the actor of the item event, the question its object; concepts are the object's learning
    objectives, else the assessment it is part of. An answer is right where the score given is the maximum, wrong where
    it is 0; without a grade it is asked and not answered. The last grade of an attempt counts. A grade without an item
    event is an answer where its attempt is at an AssessmentItem. Other events are refused and counted.

    Raises:
        ValueError: no event is an answer.
    """
    events = list(_events(records))
    names = [_id(event) or str(count) for count, event in enumerate(events)]
    grades = {
        attempt: i for i, event in enumerate(events) if _is(event, *_GRADES) and (attempt := _attempt(event))
    }
    found = Collected()
    place = np.full(len(events), -1)
    seen: dict[str, int] = {}
    answers = [
        i
        for i, event in enumerate(events)
        if _is(event, "AssessmentItemEvent") and _action(event) in _ANSWERED
    ]
    for i in answers:
        attempt = _attempt(events[i])
        grade = events[grades[attempt]] if attempt in grades else None
        place[i] = found.add(
            *_row(events[i], at(events[i], "object"), at(events[i], "actor"), grade), names[i]
        )
        if attempt:
            seen[attempt] = place[i]
    for attempt, i in grades.items():
        held = at(events[i], "object")
        if attempt not in seen and _is(at(held, "assignable"), "AssessmentItem"):
            place[i] = found.add(
                *_row(events[i], at(held, "assignable"), at(held, "assignee"), events[i]), names[i]
            )
            answers.append(i)
            seen[attempt] = place[i]
    joined = 0
    for i in sorted(set(range(len(events))) - set(answers)):
        attempt = _attempt(events[i]) if _is(events[i], *_GRADES) else None
        if attempt is not None and seen.get(attempt, -1) >= 0:
            place[i] = seen[attempt]
            joined += 1
        else:
            found.add({}, "not_an_answer", names[i])
    if not found.rows:
        raise ValueError(
            f"{source}: none of {len(events)} Caliper events is an answer; wanted AssessmentItemEvent (Completed or "
            "Submitted) and GradeEvent of the same attempt; check the export"
        )
    keys: dict[str, list[str | None]] = {
        "event_id": [*names],
        "type": [str(at(event, "type")) for event in events],
    }
    keys |= {
        key: [found.rows[p][key] if p >= 0 else None for p in place] for key in ("student_id", "question_id")
    }
    told = Findings.of([("joined_records", joined, "grades joined with the answers of their attempts")])
    return Reading(
        found.frame, pl.DataFrame(keys, schema=dict.fromkeys(keys, pl.String)), found.report + told, place
    )


def _row(event: Any, item: Any, student: Any, grade: Any) -> tuple[dict[str, Any], str | None]:
    """The row of an answer, and why it is refused, or None."""
    graded_only = event is grade
    held = at(event, "object") if graded_only else at(event, "generated")
    attempt = at(held, "attempt") if isinstance(at(held, "attempt"), Mapping) else held
    count = at(attempt, "count")
    label = None if grade is None else _share(grade)
    row = {
        "student_id": _id(student),
        "question_id": _id(item),
        "concepts": _concepts(item),
        "correct": int(label) if label in (0, 1) else None,
        "timestamp": (text(at(held, "endedAtTime")) if graded_only else None) or text(at(event, "eventTime")),
        "duration_ms": milliseconds(at(held, "duration")) or milliseconds(at(attempt, "duration")),
        "attempt": count if isinstance(count, int) and 0 <= count < 2**31 else None,
        "session_id": _id(at(event, "session")),
    }
    if row["question_id"] is None:
        return row, "not_an_answer"
    if row["student_id"] is None:
        return row, "no_student"
    return row, None if label in (0, 1, None) else "partial_credit"


def _share(grade: Any) -> float | None:
    """Share of the score given, 0 to 1, or None."""
    score = at(grade, "generated")
    given = next((value for key in _SCORES if (value := number(at(score, key))) is not None), None)
    most = number(at(score, "maxScore")) or number(at(grade, "object", "assignable", "maxScore")) or 1.0
    return None if given is None else min(max(given / most, 0.0), 1.0)


def _concepts(item: Any) -> list[str]:
    for key in ("learningObjectives", "alignedLearningObjective"):
        named = at(item, key)
        ids = [name for one in (named if isinstance(named, list) else []) if (name := _id(one))]
        if ids:
            return ids
    part = _id(at(item, "isPartOf"))
    return [part] if part else []


def _events(records: Iterable[Any]) -> Iterator[Any]:
    for record in records:
        data = at(record, "data") if at(record, "sensor") is not None else record
        yield from data if isinstance(data, list) else [data]


def _attempt(event: Any) -> str | None:
    """Id of the attempt: the object of a grade, what an item event generated or the response to it."""
    if _is(event, *_GRADES):
        return _id(at(event, "object")) or _id(at(event, "generated", "attempt"))
    held = at(event, "generated")
    return _id(at(held, "attempt")) or (_id(held) if _is(held, "Attempt") else None)


def _is(entity: Any, *kinds: str) -> bool:
    """v1 wrote types as addresses that end in the name."""
    return str(at(entity, "type") or at(entity, "@type")).rsplit("/", 1)[-1] in kinds


def _action(event: Any) -> str:
    return str(at(event, "action")).rsplit("#", 1)[-1]


def _id(entity: Any) -> str | None:
    """Id of an entity, which may be written as its id alone."""
    return text(entity) or text(at(entity, "id")) or text(at(entity, "@id"))

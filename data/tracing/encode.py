"""A log in numbers: what the models and the graphs read.

Shape legend: n answers, S students, B students of a batch, T time (answers of the longest of them), F features of an
answer (question, correct, minutes, K concepts), Q questions, C concepts, K slots.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from .answers import QUESTION, SLOT_1, Answers, minutes_since_epoch
from .findings import Findings
from .schema import COLUMNS
from .shrinkage import Difficulty

MOST_SLOTS = 8
_MOST_IDS = 2**24
"""Ids travel as float32, which is exact for whole numbers below this."""


@dataclass(frozen=True)
class Vocabulary:
    """The questions and concepts of a training log, and how its answers were spread over them.

    questions, concepts: ids; the index is the place in the tuple. Index 0 is "": unknown, or none.
    slots: K, the most concepts of one training question, 1 to 8.
    concepts_of: (Q + 1) tuples of concept indices, the most frequent of the question's lists, at most K of each.
    difficulty: shrunk shares of right answers, and counts, over all training answers.
    """

    questions: tuple[str, ...]
    concepts: tuple[str, ...]
    slots: int
    concepts_of: tuple[tuple[int, ...], ...]
    difficulty: Difficulty

    @classmethod
    def fit(cls, frame: pl.DataFrame) -> Vocabulary:
        """The vocabulary of a log (`Log.frame`).

        Raises:
            ValueError: a column is missing, or there are 16,777,216 ids or more.
        """
        _refuse_other(frame)
        questions = _ids(frame["question_id"])
        concepts = _ids(frame["concepts"].explode())
        for name, ids in (("questions", questions), ("concepts", concepts)):
            if len(ids) >= _MOST_IDS:
                raise ValueError(
                    f"Vocabulary: got {len(ids)} {name}; wanted fewer than {_MOST_IDS}; split the log"
                )
        lists = (
            frame.select("question_id", "concepts")
            .filter(pl.col("question_id").is_not_null() & (pl.col("concepts").list.len() > 0))
            .group_by("question_id", pl.col("concepts").list.join("\x1f").alias("joined"))
            .agg(pl.len(), pl.col("concepts").first())
            .sort(["len", "joined"], descending=[True, False])
            .unique("question_id", keep="first", maintain_order=True)
        )
        # where no question has concepts, answers may have them
        lengths = (lists if lists.height else frame)["concepts"].list.len().to_numpy()
        slots = int(np.clip(lengths.max(initial=1), 1, MOST_SLOTS))
        index = {concept: i for i, concept in enumerate(concepts)}
        found = dict(zip(lists["question_id"], lists["concepts"].to_list(), strict=True))
        of = tuple(tuple(index[c] for c in found.get(question, [])[:slots]) for question in questions)
        empty = Difficulty(np.zeros((len(questions), 2)), np.zeros((len(concepts), 2)))
        bare = cls(questions, concepts, slots, of, empty)
        shares = Difficulty.fit(bare.encode(frame).x, len(questions) - 1, len(concepts) - 1)
        return cls(questions, concepts, slots, of, shares)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the F columns of `Answers.x`."""
        return ("question", "correct", "minutes", *(f"concept_{k + 1}" for k in range(self.slots)))

    @cached_property
    def concept_table(self) -> np.ndarray:
        """(Q + 1, K) int64, the concepts of each question, 0 where it has fewer."""
        table = np.zeros((len(self.questions), self.slots), dtype=np.int64)
        for question, concepts in enumerate(self.concepts_of):
            table[question, : len(concepts)] = concepts
        return table

    @cached_property
    def questions_of(self) -> dict[str, tuple[str, ...]]:
        """Questions of each concept, in the order of `questions`."""
        lists: dict[str, list[str]] = {concept: [] for concept in self.concepts[1:]}
        for question, concepts in enumerate(self.concepts_of):
            for concept in concepts:
                lists[self.concepts[concept]].append(self.questions[question])
        return {concept: tuple(questions) for concept, questions in lists.items()}

    @cached_property
    def median_question(self) -> dict[str, str | None]:
        """A question of median difficulty for each concept (the easier one's lower neighbour of two), None without."""
        share = self.difficulty.question
        place = {question: i for i, question in enumerate(self.questions)}
        chosen: dict[str, str | None] = {}
        for concept, questions in self.questions_of.items():
            order = sorted((place[q] for q in questions), key=lambda i: (share[i, 0], -share[i, 1], i))
            chosen[concept] = self.questions[order[(len(order) - 1) // 2]] if order else None
        return chosen

    def encode(self, frame: pl.DataFrame) -> Answers:
        """A log in numbers.

        An answer whose concepts are all missing or unknown has those of its question; questions and concepts that
        are not in the vocabulary are 0; of more than K concepts the first K are kept. All of it is counted.

        Args:
            frame: columns of `schema.COLUMNS` in its order (`Log.frame`); students that are apart are brought together.

        Raises:
            ValueError: a column is missing or has another type.
        """
        _refuse_other(frame)
        order, students, offsets = _by_student(frame["student_id"])
        if order is not None:
            frame = frame[order]
        n = frame.height
        question = _codes(frame["question_id"], self.questions)
        slots, cut, unknown = self._slots(frame["concepts"], question)
        minutes, far = minutes_since_epoch(frame["timestamp"])
        x = np.empty((n, SLOT_1 + self.slots), dtype=np.float32)
        x[:, QUESTION] = question
        x[:, 1] = frame["correct"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        x[:, 2] = minutes
        x[:, SLOT_1:] = slots
        strange = (question == 0) & frame["question_id"].is_not_null().to_numpy()
        first = str(frame["question_id"][int(strange.argmax())]) if strange.any() else ""
        report = Findings.of(
            [
                ("unknown_question", int(strange.sum()), first),
                ("unknown_concept", unknown, f"of {n} answers"),
                ("cut_concepts", cut, f"of {n} answers; {self.slots} are kept of each"),
                ("far_time", far, f"of {n} answers"),
            ]
        )
        row = np.arange(n) if order is None else order
        return Answers(x, students, offsets, row, report)

    def _slots(self, lists: pl.Series, question: np.ndarray) -> tuple[np.ndarray, int, int]:
        """(n, K) concept indices; the number of concepts that had no slot, and that are not known."""
        length = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
        flat = lists.filter(pl.Series(length > 0)).explode()
        code = _codes(flat, self.concepts)
        owner = np.repeat(np.arange(len(length)), length)
        known = code > 0
        code, owner = code[known], owner[known]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        kept = place < self.slots
        slots = np.zeros((len(length), self.slots), dtype=np.int64)
        slots[owner[kept], place[kept]] = code[kept]
        bare = slots[:, 0] == 0
        slots[bare] = self.concept_table[question[bare]]
        return slots, int((~kept).sum()), int((~known).sum())

    def to_json(self) -> str:
        """The vocabulary as text; `median_question` is written beside it for readers without this class."""
        return json.dumps(
            {
                "questions": self.questions[1:],
                "concepts": self.concepts[1:],
                "slots": self.slots,
                "concepts_of": self.concepts_of[1:],
                "question_difficulty": self.difficulty.question.tolist(),
                "concept_difficulty": self.difficulty.concept.tolist(),
                "median_question": self.median_question,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """The vocabulary that `to_json` wrote.

        Raises:
            ValueError: the text is not one.
        """
        try:
            held = json.loads(text)
            questions, concepts = ("", *held["questions"]), ("", *held["concepts"])
            difficulty = Difficulty(
                np.array(held["question_difficulty"], dtype=np.float64).reshape(len(questions), 2),
                np.array(held["concept_difficulty"], dtype=np.float64).reshape(len(concepts), 2),
            )
            of = ((), *(tuple(row) for row in held["concepts_of"]))
            slots = int(held["slots"])
            whole = len(of) == len(questions) and all(
                len(row) <= slots and all(0 < c < len(concepts) for c in row) for row in of
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"vocabulary: not one ({error!r}); wanted the text of Vocabulary.to_json"
            ) from error
        if not whole:
            raise ValueError(
                "vocabulary: concepts_of does not fit questions, concepts and slots; write it again"
            )
        return cls(questions, concepts, slots, of, difficulty)


def _refuse_other(frame: pl.DataFrame) -> None:
    for name, kind in COLUMNS.items():
        if name not in frame.columns or frame[name].dtype != kind:
            got = frame[name].dtype if name in frame.columns else "no such column"
            raise ValueError(
                f"encode: {name} should be {kind}, got {got}; give the frame of open_log or conform"
            )


def _ids(column: pl.Series) -> tuple[str, ...]:
    """Distinct ids after "", short ones first, so that 2 comes before 10."""
    distinct = pl.DataFrame({"id": column.drop_nulls().unique()})
    return ("", *distinct.sort(pl.col("id").str.len_bytes(), "id")["id"])


def _codes(column: pl.Series, ids: Sequence[str]) -> np.ndarray:
    """Places of the values in `ids`, 0 where they are not in it."""
    if len(ids) == 1 or not len(column):
        return np.zeros(len(column), dtype=np.int64)
    codes = column.replace_strict(
        pl.Series(ids[1:], dtype=pl.String),
        pl.int_range(1, len(ids), eager=True),
        default=0,
        return_dtype=pl.Int64,
    )
    return codes.fill_null(0).to_numpy()


def _by_student(students: pl.Series) -> tuple[np.ndarray | None, tuple[str, ...], np.ndarray]:
    """Order that brings students together (None where they are), their ids, and where each begins and the last ends."""
    runs = students.rle().struct.unnest()
    if runs["value"].n_unique() == runs.height:
        offsets = np.concatenate([[0], runs["len"].cast(pl.Int64).to_numpy().cumsum()])
        return None, tuple(runs["value"]), offsets
    table = pl.DataFrame({"student": students}).with_row_index("at")
    table = table.with_columns(pl.col("at").min().over("student").alias("first"))
    order = table.sort("first", maintain_order=True)["at"].to_numpy().astype(np.int64)
    _, names, offsets = _by_student(students.gather(order))
    return order, names, offsets

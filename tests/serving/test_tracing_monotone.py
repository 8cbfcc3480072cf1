"""Monotone mode: mastery moves the way of the answer, for a model that does not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from remem.serving import TracingSession
from remem.serving.tracing.monotone import logit, new_offset, released, shift

LOGITS = st.floats(-8, 8)


@given(
    before=arrays(float, 30, elements=LOGITS),
    after=arrays(float, 30, elements=LOGITS),
    seed=st.integers(0, 99),
)
def test_no_model_can_make_it_move_the_wrong_way(before, after, seed):
    right = np.random.default_rng(seed).random(30) < 0.5
    offset = 0.0
    for i in range(30):
        p = 1 / (1 + np.exp(-np.array([before[i], after[i]])))
        reported = shift(p[0], np.array(offset))
        new = new_offset(np.array(offset), logit(p[0]), logit(p[1]), right[i])
        moved = shift(p[1], new) - reported
        assert moved >= 0 if right[i] else moved <= 0
        # no farther from 0 than it must be
        free = (after[i] >= before[i] + offset) if right[i] else (after[i] <= before[i] + offset)
        if free:
            assert abs(new) < 1e-6
        else:
            assert abs(moved) < 1e-6
        offset = float(new)


def test_an_answer_lets_go_of_other_concepts_its_way_only():
    held = np.array([-0.5, 0.0, 0.5])
    np.testing.assert_array_equal(released(held, np.array(True)), [0, 0, 0.5])
    np.testing.assert_array_equal(released(held, np.array(False)), [-0.5, 0, 0])


def test_offsets_are_zero_where_the_model_is_monotone_already(tracing_bundle):
    rng = np.random.default_rng(0)
    plain, monotone = TracingSession(tracing_bundle), TracingSession(tracing_bundle, monotone=True)
    for _ in range(60):
        question, correct = f"q{rng.integers(1, 7)}", int(rng.integers(2))
        assert plain.update("a", question, correct) == monotone.update("a", question, correct)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=25))
def test_a_contrary_model_is_turned(contrary_bundle, answers):
    """The planted model with its memory upside down: a right answer lowers mastery."""
    session = TracingSession(contrary_bundle, monotone=True)
    for question, correct in answers:
        before = {row["concept"]: row["mastery"] for row in session.mastery("a", ["a", "b", "c"])}
        after = session.update("a", f"q{question}", correct)["mastery"]
        for concept, mastery in after.items():
            assert mastery >= before[concept] if correct else mastery <= before[concept]
            asked = {row["concept"]: row["mastery"] for row in session.mastery("a")}
            assert asked[concept] == mastery

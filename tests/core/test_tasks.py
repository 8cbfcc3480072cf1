"""Tasks are what their definitions say, token by token, and come from their generator alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from remem.core.tasks import TokenBatch, accuracy, mqar, needle, selective_copy
from remem.core.tasks.mqar import _distinct

TASKS: dict[str, Callable[..., TokenBatch]] = {
    "mqar": mqar,
    "mqar, uniform": partial(mqar, length=41, num_pairs=10, vocabulary=22, gaps="uniform"),
    "needle": needle,
    "selective copy": selective_copy,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_is_a_batch(name: str) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (TASKS[name](50, generator=seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.tokens, other.tokens)
    assert first.tokens.dtype == first.answers.dtype == torch.long
    assert first.asked.dtype == torch.bool
    assert (first.answers[~first.asked] == 0).all()


@pytest.mark.parametrize(("length", "pairs", "vocabulary"), [(64, 8, 256), (41, 10, 22), (4, 1, 4)])
@pytest.mark.parametrize("gaps", ["power", "uniform"])
def test_mqar_asks_every_key_once_and_the_answer_is_its_value(
    length: int, pairs: int, vocabulary: int, gaps: Any
) -> None:
    batch = mqar(100, length=length, num_pairs=pairs, vocabulary=vocabulary, gaps=gaps, generator=seeded())
    for tokens, answers, asked in zip(*(part.tolist() for part in batch), strict=True):
        keys, values = tokens[: 2 * pairs : 2], tokens[1 : 2 * pairs : 2]
        assert len(set(keys)) == len(set(values)) == pairs
        assert all(1 <= key < vocabulary // 2 for key in keys)
        assert all(vocabulary // 2 <= value < vocabulary for value in values)
        places = [t for t in range(length) if asked[t]]
        assert all(t >= 2 * pairs and t % 2 == 0 for t in places)
        assert sorted(tokens[t] for t in places) == sorted(keys)
        meaning = dict(zip(keys, values, strict=True))
        assert [answers[t] for t in places] == [meaning[tokens[t]] for t in places]
        assert all(tokens[t] == 0 for t in range(2 * pairs, length) if not asked[t])


def test_mqar_gaps_have_the_law_they_are_given() -> None:
    """The gap of the first key is the first draw: weights (g + 1)^(alpha - 1), or all alike."""
    for gaps, exponent in (("power", 0.01 - 1), ("uniform", 0.0)):
        batch = mqar(20_000, gaps=gaps, generator=seeded(1))  # type: ignore[arg-type]
        asked_first = (batch.tokens[:, 16:] == batch.tokens[:, :1]).long().argmax(1) // 2
        found = torch.bincount(asked_first, minlength=24) / 20_000
        wanted = torch.arange(1, 25).double() ** exponent
        wanted = wanted / wanted.sum()
        assert (found - wanted).abs().max() < 0.012, gaps  # three standard deviations of the largest


def test_drawing_is_without_replacement_in_order() -> None:
    """All 6 orders of 3 numbers of weights 3, 2, 1 have the probabilities of drawing one after the other."""
    drawn = _distinct(60_000, torch.tensor([3.0, 2.0, 1.0]), 3, seeded(2))
    weight = {0: 3.0, 1: 2.0, 2: 1.0}
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        a, b, _ = order
        wanted = weight[a] / 6 * weight[b] / (6 - weight[a])
        found = (drawn == torch.tensor(order)).all(1).double().mean().item()
        assert found == pytest.approx(wanted, abs=0.006)


@pytest.mark.parametrize(
    ("length", "key_length", "depth"), [(128, 5, None), (11, 5, None), (40, 1, 0.0), (40, 3, 1.0)]
)
def test_a_needle_lies_in_filler_and_is_asked_for_at_the_end(
    length: int, key_length: int, depth: float | None
) -> None:
    batch = needle(200, length=length, key_length=key_length, depth=depth, generator=seeded())
    starts = set()
    for tokens, answers, asked in zip(*(part.tolist() for part in batch), strict=True):
        start = tokens.index(0)
        starts.add(start)
        key = tokens[start + 1 : start + 1 + key_length]
        question = length - key_length
        assert all(2 <= digit < 12 for digit in key)
        assert tokens.count(0) == tokens.count(1) == 1
        assert tokens[question:] == [1, *key[:-1]]
        assert answers[question:] == key
        assert asked == [t >= question for t in range(length)]
        rest = tokens[:start] + tokens[start + 1 + key_length : question]
        assert all(12 <= token < 32 for token in rest)
    room = length - 2 * key_length - 1
    assert starts <= set(range(room + 1))
    if depth is not None:
        assert starts == {round(depth * room)}
    else:
        assert len(starts) > room / 2


@pytest.mark.parametrize(("length", "num_data"), [(64, 8), (16, 8), (5, 1)])
def test_selective_copy_asks_for_the_data_in_order(length: int, num_data: int) -> None:
    batch = selective_copy(200, length=length, num_data=num_data, generator=seeded())
    places = torch.zeros(length)
    for tokens, answers, asked in zip(*(part.tolist() for part in batch), strict=True):
        data = [token for token in tokens[: length - num_data] if token != 0]
        assert len(data) == num_data
        assert all(2 <= token < 16 for token in data)
        assert tokens[length - num_data :] == [1] * num_data
        assert answers[length - num_data :] == data
        assert asked == [t >= length - num_data for t in range(length)]
        places += torch.tensor(tokens) > 1
    assert (places[: length - num_data] > 0).all()


def test_accuracy_counts_questions_only() -> None:
    batch = mqar(20, generator=seeded())
    right = torch.nn.functional.one_hot(batch.answers, 256).double()
    assert accuracy(right, batch) == 1.0
    assert accuracy(-right, batch) == 0.0
    with pytest.raises(ValueError, match="asks nothing"):
        accuracy(right, batch._replace(asked=torch.zeros_like(batch.asked)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(mqar, gaps="powr"), r"gaps is 'powr'; use one of \['power', 'uniform'\]"),
        (partial(mqar, length=31), "8 pairs do not fit into length 31; wanted 1 to length / 4 = 7"),
        (
            partial(mqar, vocabulary=17),
            "vocabulary 17 is odd or holds less than 8 keys; wanted an even number, 18",
        ),
        (partial(needle, length=10), "a key of 5 needs length 11 or more, got 10"),
        (partial(needle, depth=1.5), r"depth is 1.5; it must lie in 0 \(start\) to 1 \(end\)"),
        (partial(needle, filler=0), r"\{'filler': 0\} must be at least 1"),
        (partial(selective_copy, length=15), "8 data need length 16 or more, got 15"),
        (partial(selective_copy, num_data=0), "num_data 0 and data_vocabulary 14 must be at least 1"),
    ],
)
def test_errors_name_the_remedy(make: Callable[..., TokenBatch], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(3, generator=seeded())

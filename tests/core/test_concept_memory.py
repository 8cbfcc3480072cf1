"""Against a plain loop over a plain log; the parallel form, the step and both graphs to the last bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remem.core.export import export_step, export_window
from remem.core.layers.concept_memory import ConceptMemory
from remem.core.layers.concept_past import ConceptState
from remem.core.state import flatten

QUESTIONS, CONCEPTS = 5, 4


def rows(seed: int, batch: int, time: int, slots: int, *, wild: bool = True) -> Tensor:
    """Random answers: repeated and unknown ids, questions not answered, clocks that are missing."""
    random = np.random.default_rng(seed)
    x = np.empty((batch, time, 3 + slots), np.float32)
    x[..., 0] = random.integers(-1 if wild else 1, QUESTIONS + (3 if wild else 1), (batch, time))
    x[..., 1] = random.choice([0, 1, np.nan] if wild else [0, 1], (batch, time))
    x[..., 2] = np.cumsum(random.integers(0, 5000, (batch, time)), 1) - 9000
    x[..., 2][random.random((batch, time)) < 0.2 * wild] = np.nan
    x[..., 3:] = random.integers(0, CONCEPTS + (2 if wild else 1), (batch, time, slots))
    x[..., 3:][random.random((batch, time, slots)) < 0.1 * wild] = np.nan
    return torch.from_numpy(x)


def memory(slots: int, seed: int = 0) -> ConceptMemory:
    """With tables drawn at random; question 2 is known, but nobody answered it in training."""
    random = torch.Generator().manual_seed(seed)
    question_QS = torch.rand(QUESTIONS + 1, 18, generator=random)
    question_QS[:, 1] = torch.tensor([30.0, 4, 0, 8, 1, 4])
    concept_C4 = torch.rand(CONCEPTS + 1, 4, generator=random)
    concept_C4[:, 1:3] = torch.randint(0, 300, (CONCEPTS + 1, 2), generator=random)
    pair_CC = torch.rand(CONCEPTS + 1, CONCEPTS + 1, generator=random)
    run_CU = torch.rand(CONCEPTS + 1, 31, generator=random)
    return ConceptMemory(QUESTIONS, CONCEPTS, slots=slots).set_tables(
        question_QS, concept_C4, pair_CC, run_CU
    )


def naive(layer: ConceptMemory, x_TF: np.ndarray, mask_T: np.ndarray) -> dict[str, list[float]]:
    """The features of one student, each from the list of all answers before."""
    question_QS, concept_C4 = layer.question_QS.numpy(), layer.concept_C4.numpy()
    past: list[dict[str, Any]] = []
    out: dict[str, list[float]] = {name: [] for name in layer.out_names}

    def average(outcomes: list[float], decay: float, length: int, centre: float) -> float:
        weights = [round((1 - decay) * decay**j * 4096) / 4096 for j in range(length)]
        newest = outcomes[::-1][:length]
        return centre + sum(w * (o - centre) for w, o in zip(weights, newest, strict=False))

    def streak(matches: list[bool]) -> int:
        length = 0
        for match in matches[::-1]:
            if not match:
                break
            length += 1
        return min(length, 32)

    def minutes_since(now: float, then: list[float]) -> float:
        known = [minutes for minutes in then if not math.isnan(minutes)]
        return now - max(known) if known else math.nan

    for row, real in zip(x_TF.tolist(), mask_T.tolist(), strict=True):
        ids = [int(c) if not math.isnan(c) and 1 <= c <= CONCEPTS else 0 for c in row[3:]]
        question = int(row[0]) if 1 <= row[0] <= QUESTIONS else 0
        used = [c for c in dict.fromkeys(ids) if c]
        slots = used or [0]
        by_concept = {c: [a for a in past if c and c in a["used"]] for c in slots}
        mean = sum(float(concept_C4[c, 0]) for c in slots) / len(slots)
        own = question and question_QS[question, 1] > 0
        p = float(question_QS[question, 0]) if own else round(float(np.float32(mean)) * 256) / 256
        attempts = sum(len(of) for of in by_concept.values())
        wins = sum(a["win"] for of in by_concept.values() for a in of)
        residual = sum(a["residual"] for of in by_concept.values() for a in of)
        recent = past[-32:]
        on_question = [i for i, a in enumerate(recent) if question and a["question"] == question]
        run = streak([bool(ids[0]) and a["first"] == ids[0] for a in past])
        n, all_wins = len(past), sum(a["win"] for a in past)
        found = {
            "q_mean": p,
            "q_count": float(question_QS[question, 1]),
            "q_attempts": len(on_question),
            "q_wins": sum(recent[i]["win"] for i in on_question),
            "q_last": recent[on_question[-1]]["win"] if on_question else 0.5,
            "q_ago": len(recent) - on_question[-1] if on_question else 33,
            "c_mean": mean,
            "c_min": min(float(concept_C4[c, 0]) for c in slots),
            "c_attempts": attempts,
            "c_wins": wins,
            "c_fails": attempts - wins,
            "c_rate": (wins + 1) / (attempts + 2),
            "c_residual": residual,
            "c_residual_mean": residual / (attempts + 2),
            "c_new": sum(not of for of in by_concept.values()),
            "num_concepts": len(used),
            "c_ago": min([n + 1 - of[-1]["number"] for of in by_concept.values() if of], default=16384),
            "c_minutes": minutes_since(row[2], [of[-1]["minutes"] for of in by_concept.values() if of]),
            "s_answers": n,
            "s_wins": all_wins,
            "s_rate": (all_wins + 1) / (n + 2),
            "s_residual_mean": sum(a["residual"] for a in past) / (n + 2),
            "s_residual_ema": average([a["residual"] for a in past], 0.875, 32, 0.0),
            "s_streak": streak([a["win"] == 1 for a in past]),
            "s_minutes": minutes_since(row[2], [a["minutes"] for a in past[-1:]]),
            "run": run,
            "run_wins": sum(a["win"] for a in past[len(past) - run :]),
        }
        last = past[-1] if past else {"win": None, "first": 0}
        found |= {
            "s_concepts": len({c for a in past for c in a["used"]}),
            "q_last_mean": question_QS[question, {0.0: 2, 1.0: 3, None: 4}[last["win"]]],
            "q_run_mean": question_QS[question, 5],
            "q_attempts_mean": question_QS[question, 6],
            "q_rate_mean": question_QS[question, 7],
            "c_position": concept_C4[ids[0], 2],
            "c_fresh": concept_C4[ids[0], 3],
            "cc_mean": float(layer.pair_CC[last["first"], ids[0]]),
            "q_able_mean": question_QS[question, 8 + (found["s_rate"] >= 0.55) + (found["s_rate"] >= 0.72)],
        }
        tries = min(streak([bool(question) and a["question"] == question for a in past]), 3)
        cell = 2 * tries - 1 + int(last["win"]) if tries else 0
        told = [int(a["win"]) for a in past[len(past) - min(run, 4) :]]
        state = 2 ** len(told) - 1 + sum(win << age for age, win in enumerate(told[::-1]))
        found |= {
            "q_try_mean": question_QS[question, 11 + cell],
            "c_run_mean": layer.run_CU[ids[0], state].item(),
        }
        for name, decay in (("fast", 0.5), ("mid", 0.75), ("slow", 0.875)):
            each = [average([a["win"] for a in of], decay, 16, 0.5) for of in by_concept.values()]
            found[f"c_ema_{name}"] = sum(each) / len(slots)
        lasts = [2.5 + sum(a["win"] - 0.5 for a in of[-5:]) for of in by_concept.values()]
        found["c_last5"] = sum(lasts) / len(slots)
        for name, decay in (("fast", 0.75), ("mid", 0.875), ("slow", 0.9375)):
            found[f"s_ema_{name}"] = average([a["win"] for a in past], decay, 32, 0.5)
        for name, value in found.items():
            out[name].append(value)
        if real and not math.isnan(row[1]):
            win = float(row[1] >= 0.5)
            answer = {"question": question, "first": ids[0], "used": used, "win": win, "residual": win - p}
            past.append(answer | {"number": n + 1, "minutes": row[2]})
    return out


def folded(
    layer: ConceptMemory, x_BTF: Tensor, mask_BT: Tensor, state: ConceptState
) -> tuple[Tensor, ConceptState]:
    steps = []
    for t in range(x_BTF.shape[1]):
        z_BZ, state = layer.step(x_BTF[:, t], state, mask_B=mask_BT[:, t])
        steps.append(z_BZ)
    return torch.stack(steps, 1), state


def assert_same(got: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(np.asarray(got), np.asarray(wanted))  # NaN equals NaN


def masks(seed: int, batch: int, time: int, kind: str) -> Tensor:
    random = np.random.default_rng(seed)
    real, length = np.arange(time), random.integers(0, time + 1, (batch, 1))
    some = {
        "none": np.ones((batch, time), bool),
        "left": real >= length,
        "right": real < length,
        "scattered": random.random((batch, time)) < 0.6,
    }
    return torch.from_numpy(some[kind])


KINDS = st.sampled_from(["none", "left", "right", "scattered"])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**20), st.integers(0, 60), st.integers(1, 4), KINDS)
def test_features_are_those_of_a_plain_loop(seed: int, time: int, slots: int, kind: str) -> None:
    layer, x_BTF, mask_BT = memory(slots, seed), rows(seed, 2, time, slots), masks(seed, 2, time, kind)
    z_BTZ, _ = layer(x_BTF, mask_BT=mask_BT)
    for b in range(2):
        wanted = naive(layer, x_BTF[b].numpy(), mask_BT[b].numpy())
        for i, name in enumerate(layer.out_names):
            np.testing.assert_allclose(z_BTZ[b, :, i], wanted[name], rtol=2e-7, atol=0, err_msg=name)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**20), st.integers(1, 50), st.integers(1, 4), KINDS, st.data())
def test_parallel_step_and_any_split_agree_to_the_last_bit(
    seed: int, time: int, slots: int, kind: str, data: st.DataObject
) -> None:
    layer, x_BTF, mask_BT = memory(slots), rows(seed, 3, time, slots), masks(seed, 3, time, kind)
    whole_BTZ, whole = layer(x_BTF, mask_BT=mask_BT)
    step_BTZ, after = folded(layer, x_BTF, mask_BT, layer.init_state(3))
    assert_same(whole_BTZ, step_BTZ)
    state, parts, cuts = (
        layer.init_state(3),
        [],
        sorted(data.draw(st.lists(st.integers(0, time), max_size=3))),
    )
    for start, end in zip([0, *cuts], [*cuts, time], strict=True):
        part_BTZ, state = layer(x_BTF[:, start:end], state, mask_BT=mask_BT[:, start:end])
        parts.append(part_BTZ)
    assert_same(torch.cat(parts, 1), whole_BTZ)
    for name, tensor in flatten(whole).items():
        assert_same(flatten(after)[name], tensor)
        assert_same(flatten(state)[name], tensor)
        assert torch.isfinite(tensor).all()


def test_what_comes_later_and_whether_it_was_right_moves_nothing() -> None:
    layer, x_BTF = memory(2), rows(3, 4, 50, 2)
    z_BTZ, _ = layer(x_BTF)
    for t in range(50):
        changed_BTF = x_BTF.clone()
        changed_BTF[:, t:, 1] = 1 - changed_BTF[:, t:, 1].nan_to_num(0.0)
        changed_BTF[:, t + 1 :] = rows(4, 4, 49 - t, 2)
        assert_same(layer(changed_BTF)[0][:, : t + 1], z_BTZ[:, : t + 1])


def test_a_question_asked_and_a_masked_row_leave_the_state() -> None:
    layer = memory(2)
    _, state = layer(rows(1, 3, 20, 2))
    x_BF = rows(2, 3, 1, 2, wild=False)[:, 0]
    asked_BF = x_BF.clone()
    asked_BF[:, 1] = torch.nan
    for x, mask_B in ((asked_BF, None), (x_BF, torch.zeros(3, dtype=torch.bool))):
        z_BZ, after = layer.step(x, state, mask_B=mask_B)
        for name, tensor in flatten(after).items():
            assert_same(tensor, flatten(state)[name])
        assert_same(z_BZ, layer.step(x_BF, state)[0])


def test_numbers_stay_exact_over_ten_thousand_answers() -> None:
    layer, x_BTF = memory(3), rows(7, 1, 10_000, 3, wild=False)
    z_BTZ, state = layer(x_BTF)
    half = layer(x_BTF[:, :5000])[1]
    for name, tensor in flatten(layer(x_BTF[:, 5000:], half)[1]).items():
        assert_same(tensor, flatten(state)[name])
    assert state.totals[0, 0] == 10_000
    names = list(layer.out_names)
    last = naive(layer, x_BTF[0, -300:].numpy(), np.ones(300, bool))
    for name in ("c_ema_slow", "q_ago", "s_streak", "run", "c_last5"):  # those that forget
        np.testing.assert_allclose(z_BTZ[0, -1, names.index(name)], last[name][-1], rtol=2e-7)


def test_a_question_nobody_answered_is_as_hard_as_its_concepts() -> None:
    layer = ConceptMemory(3, 2, slots=2)
    questions, concepts = torch.full((4, 18), 0.5), torch.full((3, 4), 0.5)
    questions[:, :2] = torch.tensor([[0.9, 7], [0.3, 2], [0.8, 0], [0.1, 5]])
    concepts[:, :2] = torch.tensor([[0.5, 12], [0.25, 8], [0.625, 4]])
    layer.set_tables(questions, concepts, torch.full((3, 3), 0.5), torch.full((3, 31), 0.5))
    nan = float("nan")
    asked = [[1, 1, 2], [2, 1, 2], [0, 1, 0], [2, 0, 0], [99, 2, 2]]
    x_BF = torch.tensor([[question, nan, nan, *concepts] for question, *concepts in asked])
    z_BZ, _ = layer.step(x_BF, layer.init_state(5))
    wanted = [round(0.3 * 256) / 256, 112 / 256, 0.25, 0.5, 0.625]  # on the grid, half to even
    assert z_BZ[:, layer.out_names.index("q_mean")].tolist() == wanted
    assert z_BZ[:, layer.out_names.index("q_count")].tolist() == [2, 0, 0, 0, 0]


@pytest.mark.parametrize(("rows", "share"), [(4, 0.5), (3, 1.5), (3, float("nan"))])
def test_tables_that_do_not_fit_are_refused(rows: int, share: float) -> None:
    concept_C4 = torch.full((rows, 4), 0.5)
    concept_C4[0, 0] = share
    others = torch.full((3, 3), 0.5), torch.full((3, 31), 0.5)
    with pytest.raises(ValueError, match=r"concept_C4 is .* wanted \(3, 4\)"):
        ConceptMemory(3, 2).set_tables(torch.full((4, 18), 0.5), concept_C4, *others)


def test_a_state_is_as_large_as_its_concepts() -> None:
    state = ConceptMemory(20_000, 110, slots=4).init_state(2)
    assert sum(tensor[0].numel() * 4 for tensor in state) == 4 * (111 * 6 + 32 * 4 + 5)


@pytest.mark.parametrize(("questions", "concepts", "slots"), [(-1, 3, 1), (3, -1, 1), (3, 3, 0)])
def test_sizes_that_make_no_sense_are_refused(questions: int, concepts: int, slots: int) -> None:
    with pytest.raises(ValueError, match=r"ConceptMemory: .* wanted"):
        ConceptMemory(questions, concepts, slots=slots)


class Finite(torch.nn.Module):
    """The memory with its missing numbers replaced, since the export's checks compare plain numbers."""

    def __init__(self, layer: ConceptMemory) -> None:
        super().__init__()
        self.layer = layer
        self.init_state = layer.init_state

    def forward(
        self, x_BTF: Tensor, state: Any = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        z_BTZ, state = self.layer(x_BTF, state, mask_BT=mask_BT)
        return z_BTZ.nan_to_num(-1.0), state

    def step(self, x_BF: Tensor, state: Any) -> tuple[Tensor, Any]:
        z_BZ, state = self.layer.step(x_BF, state)
        return z_BZ.nan_to_num(-1.0), state


def test_graphs_give_the_same_bits() -> None:
    layer = Finite(memory(3)).eval()
    example = rows(11, 4, 60, 3)
    window = onnxruntime.InferenceSession(export_window(layer, example=example))
    step = onnxruntime.InferenceSession(export_step(layer, example=example))
    x_BTF, mask_BT = rows(12, 3, 301, 3), masks(5, 3, 301, "scattered")
    wanted_BTZ, state = layer(x_BTF, mask_BT=mask_BT)
    got_BTZ, *after = window.run(None, {"x": x_BTF.numpy(), "mask": mask_BT.numpy()})
    assert_same(got_BTZ, wanted_BTZ)
    for tensor, array in zip(flatten(state).values(), after, strict=True):
        assert_same(array, tensor)
    names = [f"state.{name}" for name in flatten(state)]
    for t in range(40):
        wanted_BZ, state = layer.step(x_BTF[:, t], state)
        got_BZ, *after = step.run(None, {"x": x_BTF[:, t].numpy()} | dict(zip(names, after, strict=True)))
        assert_same(got_BZ, wanted_BZ)
    for tensor, array in zip(flatten(state).values(), after, strict=True):
        assert_same(array, tensor)

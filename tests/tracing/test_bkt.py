"""Bayesian knowledge tracing against sums over all hidden paths, planted numbers, and one answer at a time."""

from itertools import pairwise, product

import numpy as np
import polars as pl
import pytest

from remem.apps.tracing import bkt
from remem.apps.tracing.bkt import BKT, BOUNDS, Parameters
from remem.data.tracing.schema import COLUMNS


def log(rows):
    return pl.DataFrame([(*row, None) for row in rows], schema=COLUMNS, orient="row")


def random_parameters(rng, size):
    low = {"prior": 0.2, "learn": 0.05, "forget": 0.02, "guess": 0.05, "slip": 0.05}
    high = {"prior": 0.8, "learn": 0.4, "forget": 0.2, "guess": 0.4, "slip": 0.3}
    return Parameters(*(rng.uniform(low[name], high[name], size) for name in BOUNDS))


def paths(correct, v):
    """Every hidden path of a chain with its joint probability with the answers: the slowest correct way."""
    for path in product((0, 1), repeat=len(correct)):
        p = v.prior if path[0] else 1 - v.prior
        for t, (known, right) in enumerate(zip(path, correct, strict=True)):
            if t:
                stay = (1 - v.forget) if known else v.forget
                gain = v.learn if known else 1 - v.learn
                p *= stay if path[t - 1] else gain
            p_right = 1 - v.slip if known else v.guess
            p *= p_right if right else 1 - p_right
        yield path, p


def test_one_step_of_expectation_is_a_sum_over_all_hidden_paths():
    rng = np.random.default_rng(0)
    values = random_parameters(rng, 3)
    lengths, concepts = (5, 1, 7, 3, 7, 2), (1, 2, 1, 2, 2, 1)
    chain = rng.permutation(np.repeat(np.arange(6), lengths))
    concept = np.array(concepts)[chain]
    right = rng.uniform(size=len(chain)) < 0.5
    wanted = {name: np.zeros((2, 3)) for name in BOUNDS}
    likelihood = 0.0
    for s, c in enumerate(concepts):
        answers, v = right[chain == s], values.take(np.array(c))
        whole = sum(p for _, p in paths(answers, v))
        likelihood += np.log(whole)
        for path, joint in paths(answers, v):
            p = joint / whole
            wanted["prior"][:, c] += p * path[0], p
            for known, answer in zip(path, answers, strict=True):
                wanted["slip"][:, c] += p * known * (not answer), p * known
                wanted["guess"][:, c] += p * (1 - known) * answer, p * (1 - known)
            for known, then in pairwise(path):
                wanted["learn"][:, c] += p * (1 - known) * then, p * (1 - known)
                wanted["forget"][:, c] += p * known * (1 - then), p * known
    told, expected = bkt._expect(bkt._Chains(chain), concept, right, values, 3)
    assert np.log(told).sum() == pytest.approx(likelihood, abs=1e-10)
    for name, (often, times) in expected.items():
        np.testing.assert_allclose(np.stack([often, times]), wanted[name], atol=1e-10, err_msg=name)


def simulated(values, students, length, seed):
    """Answers drawn from the model itself; every student answers on every concept."""
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(students):
        for c in range(len(values.prior)):
            v = values.take(np.array(c))
            known = rng.uniform() < v.prior
            for _ in range(length):
                right = rng.uniform() < (1 - v.slip if known else v.guess)
                rows.append((f"s{s}", None, [f"c{c}"], int(right)))
                known = rng.uniform() >= v.forget if known else rng.uniform() < v.learn
    return log(rows)


def test_planted_numbers_are_found():
    planted = Parameters(
        *(np.array(v) for v in ([0.3, 0.6], [0.2, 0.1], [0.0, 0.0], [0.15, 0.3], [0.1, 0.05]))
    )
    model = BKT(forgets=False, iterations=300, tolerance=1e-7).fit(simulated(planted, 800, 12, 1))
    for name in BOUNDS:
        found = getattr(model.parameters, name)[1:]
        np.testing.assert_allclose(found, getattr(planted, name), atol=0.06, err_msg=name)


def test_forgetting_is_found_where_it_is():
    planted = Parameters(*(np.array([v]) for v in (0.5, 0.15, 0.1, 0.1, 0.1)))
    train = simulated(planted, 600, 20, 2)
    with_it, without = (BKT(forgets=f, iterations=200, tolerance=1e-7).fit(train) for f in (True, False))
    assert with_it.parameters.forget[1] == pytest.approx(0.1, abs=0.04)
    assert (without.parameters.forget == 0).all()
    assert with_it.log_likelihoods[-1] > without.log_likelihoods[-1] + 0.002


def test_the_likelihood_rises_and_the_numbers_keep_their_bounds():
    rng = np.random.default_rng(3)
    rows = [(f"s{s}", None, [f"c{s % 4}"], int(rng.integers(2))) for s in range(40) for _ in range(30)]
    rows += [(f"s{s}", None, ["never"], 0) for s in range(9) for _ in range(50)]
    rows += [(f"s{s}", None, ["always"], 1) for s in range(9) for _ in range(50)]
    model = BKT(iterations=80, tolerance=0.0).fit(log(rows))
    for name, (low, high) in BOUNDS.items():
        values = getattr(model.parameters, name)
        assert ((values >= low) & (values <= high)).all(), name
    assert (model.parameters.guess + model.parameters.slip < 1).all()
    # the counts' priors are part of what rises, so that the bare likelihood may give way by a hair
    assert (np.diff(model.log_likelihoods) > -1e-4).all()
    assert model.log_likelihoods[-1] > model.log_likelihoods[0]


def test_a_right_answer_never_lowers_the_forecast_where_nothing_is_forgotten():
    values = random_parameters(np.random.default_rng(4), 500)
    values = Parameters(values.prior, values.learn, np.zeros(500), values.guess, values.slip)
    known = np.random.default_rng(5).uniform(size=500)
    right, wrong = values.update(known, np.ones(500)), values.update(known, np.zeros(500))
    assert (right >= known).all()
    assert (values.p_correct(right) >= values.p_correct(wrong)).all()


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(6)
    rows = [
        (
            f"s{s}",
            None,
            [f"c{c}" for c in rng.choice(3, rng.integers(1, 3), replace=False)],
            int(rng.integers(2)),
        )
        for s in range(30)
        for _ in range(20)
    ]
    return BKT(iterations=5).fit(log(rows))


def test_forecasts_are_those_of_one_answer_at_a_time(fitted):
    rng = np.random.default_rng(7)
    rows = []
    for s in rng.integers(0, 4, 120):  # students stand apart
        names = rng.choice(["c0", "c1", "c2", "strange"], rng.integers(0, 4), replace=False).tolist()
        rows.append((f"t{s}", None, names, rng.choice([0, 1, None])))
    test = log(rows)
    p, known = fitted.predict(test), {}
    for at, (student, _, names, correct) in enumerate(rows):
        index = [fitted.vocabulary.concepts.index(n) for n in names if n != "strange"]
        each = {i: fitted.parameters.take(np.array(i)) for i in index[: fitted.vocabulary.slots]}
        now = {i: known.get((student, i), v.prior) for i, v in each.items()}
        told = [v.p_correct(now[i]) for i, v in each.items()]
        assert p[at] == pytest.approx(np.mean(told) if told else fitted.share, abs=1e-12)
        if correct is not None:
            known |= {(student, i): v.update(now[i], correct) for i, v in each.items()}


def test_a_log_without_answers_on_concepts_is_refused():
    with pytest.raises(ValueError, match="no answered row of the training log has a concept"):
        BKT().fit(log([("s", "q", [], 1), ("s", "r", ["c"], None)]))

"""A tracing bundle as training leaves it: torch, the window graph, and the steps of a session give the same numbers."""

import numpy as np
import polars as pl
import pytest
import torch

from remem.apps.tracing.bundle import write_tracing_bundle
from remem.apps.tracing.memories import features, memory_of
from remem.core.layers.lstm import LSTM
from remem.core.recall import Recurrent
from remem.core.tracing import TracingModel, TracingNetwork
from remem.core.trees import TreeEnsemble
from remem.data.tracing.encode import Vocabulary
from remem.data.tracing.schema import conform
from remem.data.tracing.situations import situation_tables
from remem.serving import TracingPredictor, TracingSession

LONG = 10_000


def made_up(students, length, seed):
    random = np.random.default_rng(seed)
    n = students * length
    question = random.integers(30, size=n)
    right = random.random(n) > 0.3 + 0.01 * question
    asked = random.random(n) < 0.05
    frame = pl.DataFrame(
        {
            "student_id": np.repeat([f"s{i}" for i in range(students)], length),
            "question_id": [f"q{q}" for q in question],
            "concepts": [[f"c{q % 5}"] + ([f"c{q % 7}"] if q % 7 != q % 5 else []) for q in question],
            "correct": [None if a else int(r) for a, r in zip(asked, right, strict=True)],
            "minutes": random.integers(1, 300, size=n).reshape(students, length).cumsum(1).ravel(),
        }
    )
    time = pl.datetime(2020, 1, 1) + pl.duration(minutes=pl.col("minutes"))
    return conform(frame.with_columns(timestamp=time).drop("minutes"), source="made up").frame


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network with random weights and a few boosted trees, stacked on the answers they come from."""
    import xgboost

    torch.manual_seed(0)
    frame = made_up(20, 60, seed=1)
    vocabulary = Vocabulary.fit(frame)
    answers = vocabulary.encode(frame)
    memory = memory_of(vocabulary, situation_tables(vocabulary, answers))
    z_NZ = features(memory, answers)
    given = np.isfinite(answers.x[:, 1])
    booster = xgboost.train(
        {"max_depth": 3, "objective": "binary:logistic"},
        xgboost.DMatrix(z_NZ[given], label=answers.x[given, 1]),
        num_boost_round=12,
    )
    network = TracingNetwork(memory, recall=Recurrent(LSTM, 8), d_model=8)
    network.fit_preprocess(torch.from_numpy(z_NZ))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = TracingModel(memory, {"network": network, "trees": TreeEnsemble.from_xgboost(booster)}).eval()
    x_BTF, mask_BT = map(torch.from_numpy, answers.pad(np.arange(20)))
    with torch.no_grad():
        logit_BTM = model.logits(x_BTF, mask_BT=mask_BT)[0]
    given_BT = mask_BT & x_BTF[..., 1].isfinite()
    model.calibration.fit(logit_BTM[given_BT], x_BTF[..., 1][given_BT])
    bundle = tmp_path_factory.mktemp("trained") / "bundle"
    write_tracing_bundle(bundle, model, vocabulary, {})
    return model, vocabulary, bundle


def test_four_faces_of_a_long_history(trained):
    model, vocabulary, bundle = trained
    frame = made_up(1, LONG, seed=2)
    x_BTF, mask_BT = map(torch.from_numpy, vocabulary.encode(frame).pad(np.array([0])))
    with torch.no_grad():
        parallel, _ = model(x_BTF, mask_BT=mask_BT)
        state, stepped = model.init_state(1), []
        for t in range(500):
            y, state = model.step(x_BTF[:, t], state)
            stepped.append(y[0])
    wanted = parallel[0].numpy()
    assert wanted[:, 0].std() > 0.05
    np.testing.assert_allclose(torch.stack(stepped), wanted[:500], atol=1e-5)
    out = TracingPredictor(bundle, device="cpu").predict(frame)
    for at, name in enumerate(("p_correct", "p_network", "p_trees")):
        np.testing.assert_allclose(out[name], wanted[:, at], atol=1e-5)
    session = TracingSession(bundle)
    names = ("student_id", "question_id", "correct", "concepts", "timestamp")
    got = [session.update(*row)["p_correct"] for row in frame.select(names).iter_rows()]
    np.testing.assert_allclose(got, wanted[:, 0], atol=1e-5)


def test_monotone_mode_never_moves_the_wrong_way(trained):
    _, _, bundle = trained
    frame = made_up(3, 80, seed=3)
    predictor = TracingPredictor(bundle, device="cpu", monotone=True)
    plain = TracingPredictor(bundle, device="cpu").predict(frame)["p_correct"]
    session, wrong_way, moved = TracingSession(bundle, monotone=True), 0, 0.0
    out = predictor.predict(frame)["p_correct"]
    names = ("student_id", "question_id", "correct", "concepts", "timestamp")
    for i, row in enumerate(frame.select(names).iter_rows()):
        student, _, correct, concepts, time = row
        before = {m["concept"]: m["mastery"] for m in session.mastery(student, concepts, time)}
        got = session.update(*row)
        assert got["p_correct"] == pytest.approx(out[i], abs=1e-6)
        for concept, mastery in got["mastery"].items():
            if correct is not None:
                wrong_way += mastery < before[concept] if correct else mastery > before[concept]
        moved = max(moved, abs(out[i] - plain[i]))
    assert wrong_way == 0
    assert moved > 0  # the model alone is not monotone

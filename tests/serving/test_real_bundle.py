"""A bundle as training leaves it: torch, the window graph, and the step graph through files give the same numbers."""

import numpy as np
import polars as pl
import pytest
import torch

from remem.apps.battery.bundle import Contract, write_battery_bundle
from remem.core import Aaren, CausalAttention, SequenceModel, Standardize
from remem.core.layers.running import RunningFeatures
from remem.data.battery.online import online_sequences
from remem.data.battery.simulate import simulate_cycles
from remem.serving import Predictor, StreamSession

FEATURES = ("cycle", "capacity_ah", "v_mean", "cc_time")


@pytest.fixture(scope="module")
def cycles():
    """Two cells, every third cycle or so missing, and some values too."""
    frame = simulate_cycles(2, seed=5, life=(120, 160), missing=0.3).select("cell_id", *FEATURES)
    hole = pl.int_range(pl.len()) % 17 == 4
    return frame.with_columns(v_mean=pl.when(~hole).then(pl.col("v_mean")))


@pytest.fixture(scope="module")
def trained(cycles, tmp_path_factory):
    """One model with both kinds of state: sums, and a ring with positions."""
    torch.manual_seed(0)
    kinds = [CausalAttention, Aaren]

    def layer(d_model):
        return kinds.pop()(d_model)

    running = RunningFeatures(
        FEATURES, position="cycle", time_constants=(5, 30), slopes=[(5, 30)], levels={"capacity_ah": (0.88,)}
    )
    model = SequenceModel(
        len(FEATURES),
        3,
        layer=layer,
        d_model=8,
        num_layers=2,
        features=running,
        preprocess=Standardize(running.out_names),
    )
    steps = online_sequences(cycles)
    x_NTF, mask_NT = torch.from_numpy(steps.x), torch.from_numpy(steps.mask)
    model.fit_preprocess(x_NTF, mask_NT).eval()
    folder = tmp_path_factory.mktemp("bundle") / "online"
    contract = Contract("online_sequence", FEATURES, None, 1.1, 0.8, 0.9)
    write_battery_bundle(folder, model, x_NTF, contract, {})
    with torch.no_grad():
        y_NTO, _ = model(x_NTF, mask_BT=mask_NT)
    return folder, y_NTO[mask_NT].clamp(min=0).numpy()


def test_window_graph_gives_the_numbers_of_torch(trained, cycles):
    folder, y_RO = trained
    out = Predictor(folder, device="cpu").predict(cycles)
    got = out.select("rul", "rul_lo", "rul_hi").to_numpy()
    np.testing.assert_allclose(got, y_RO, atol=1e-5, rtol=1e-5)


def test_step_graph_gives_them_too_from_a_fresh_state_and_after_a_restart(trained, cycles, tmp_path):
    folder, y_RO = trained
    session = StreamSession(folder)
    got = []
    for row, observation in enumerate(cycles.iter_rows(named=True)):
        if row == 100:
            session.save(tmp_path / "state.npz")
            session = StreamSession(folder, tmp_path / "state.npz")
        answer = session.update(observation["cell_id"], observation)
        got.append([answer["rul"], answer["rul_lo"], answer["rul_hi"]])
    np.testing.assert_allclose(got, y_RO, atol=1e-5, rtol=1e-5)
    assert session.state_bytes == session.bundle.manifest["state_bytes"]

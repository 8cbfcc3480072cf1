"""The battery networks along their whole road: closed form, fit, cells left out, checkpoint, bundle, stream."""

import json
from types import SimpleNamespace

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from lightning.pytorch import Trainer

from remem.apps.battery.cli import with_config
from remem.apps.battery.cross_fit import LeftOut, calibrated, cross_fit
from remem.apps.battery.early_network import CLOCK, NAMES, EarlyNetwork
from remem.apps.battery.fitting import run
from remem.apps.battery.online_network import OnlineNetwork
from remem.apps.module import export_checkpoint, load_checkpoint
from remem.core import Aaren, LSTMAttention
from remem.core.calibration import ConformalInterval
from remem.core.state import flatten, unflatten
from remem.data.battery.early_sequence import early_sequences
from remem.data.battery.online import label_rul, online_sequences
from remem.data.battery.raised import raised_lives
from remem.data.battery.simulate import simulate_curves, simulate_cycles
from remem.data.windows import Sequences
from remem.serving import Predictor, StreamSession

EARLY = ["--data.max_cycle=30", "--trainer.max_epochs=3", "--model.confidence=0.8"]
ONLINE = ["--data.task=online", "--data.raised=[0,0.05]", "--trainer.max_epochs=1", "--model.d_model=8"]
FITS = {
    "lstm": [*EARLY, "--model.layer=remem.core.LSTMAttention"],
    "rows": ONLINE,
    "layers": [*ONLINE, "--model.num_layers=1", "--model.layer=remem.core.Aaren", "--model.batch_size=8"],
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def curves():
    return simulate_curves(20, seed=5, max_cycle=30)


@pytest.fixture(scope="module")
def cycles():
    return simulate_cycles(8, seed=5, life=(250, 400))


@pytest.fixture(scope="module")
def fit(curves, cycles, tmp_path_factory):
    """name of `FITS` -> what that fit left, each fitted once."""
    done = {}

    def fitted(name):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            (cycles if name in ("rows", "layers") else curves).write_parquet(folder / "cells.parquet")
            quick = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
            own = [f"--data.path={folder / 'cells.parquet'}", "--model.calibration_folds=2"]
            done[name] = run(with_config(["fit", *quick, *own, f"--out={folder / 'run'}", *FITS[name]]))
        return done[name]

    return fitted


def sequences_of(curves) -> Sequences:
    return early_sequences(curves, max_cycle=30)


# --- what has a closed form ----------------------------------------------------------------------------------


def test_linear_read_out_is_the_ridge_regression_of_late_steps(curves):
    torch.manual_seed(0)
    steps = sequences_of(curves)
    network = EarlyNetwork(max_cycle=30, ridge=0.3, late=4.0).eval()
    network.prepare(steps)
    scale = network.standardize
    settled = steps.x[steps.mask & (steps.position >= 27)]
    others = [i for i, name in enumerate(NAMES) if name != CLOCK]
    np.testing.assert_allclose(scale.mean_F[others], settled.mean(0)[others], rtol=1e-4, atol=1e-6)

    z_NTF = scale(torch.from_numpy(steps.x)).double().numpy()
    log_life = np.log(steps.y.astype(float))
    centre, spread = log_life.mean(), log_life.std(ddof=1)
    weight_NT = np.where(steps.mask & (steps.position >= 10), (steps.position / 30) ** 4.0, 0)
    weight_NT = weight_NT / weight_NT.sum(1, keepdims=True) / len(steps)
    # the penalty as further rows, so that a plain least-squares solver gives the ridge
    rows = np.concatenate([z_NTF, np.ones_like(z_NTF[..., :1])], -1).reshape(-1, z_NTF.shape[-1] + 1)
    target = np.repeat((log_life - centre) / spread, z_NTF.shape[1])
    root = np.sqrt(weight_NT.reshape(-1))
    penalty = np.sqrt(0.3) * np.eye(rows.shape[1])[:-1]
    wanted, *_ = np.linalg.lstsq(
        np.concatenate([root[:, None] * rows, penalty]),
        np.concatenate([root * target, np.zeros(len(penalty))]),
    )
    got = [*network.model.skip.weight[0].tolist(), network.model.skip.bias.item()]
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)

    network.on_train_end()  # an untrained layer says nothing: the forecast is the ridge regression's
    with torch.no_grad():
        life_NT = network(torch.from_numpy(steps.x), torch.from_numpy(steps.mask))[..., 0].numpy()
    np.testing.assert_allclose(
        life_NT, np.exp((rows @ wanted).reshape(life_NT.shape) * spread + centre), rtol=1e-3
    )


def test_online_network_starts_at_the_median_of_the_lives_it_learns_from(cycles):
    network = OnlineNetwork(d_model=8, stride=2, last=0.8).eval()
    steps = online_sequences(label_rul(cycles, nominal_capacity_ah=1.1).frame)
    encoded = network.encode(steps)
    assert encoded.position[0, :4].tolist() == [1, 3, 5, 7]
    assert encoded.x.shape[-1] == network.running.out_features
    network.prepare(encoded)
    life = encoded.y + encoded.position
    learned = encoded.y[encoded.mask & (encoded.y > 0.2 * life)]
    assert network.model.head[-1].bias.item() == pytest.approx(np.log(np.median(learned)), rel=1e-5)
    assert sum(len(batch["x"]) for batch in network.loader(encoded, seed=0)) == len(learned)


# --- cells left out ------------------------------------------------------------------------------------------


def left_out(make, steps, *, cell, factor):
    """Forecasts of all cells by networks that had not seen them, after the life of `cell` was changed."""
    torch.manual_seed(3)
    network = make()
    place = np.array([group == cell for group in steps.groups or steps.ids])
    y = np.where(place.reshape(-1, *[1] * (steps.y.ndim - 1)), steps.y * factor, steps.y).astype(np.float32)
    changed = Sequences(steps.ids, steps.x, steps.mask, steps.position, steps.names, y, steps.groups)
    network.prepare(changed)
    trainer = Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    cells = list(dict.fromkeys(steps.groups or steps.ids))
    out, held_together = {}, []
    twins = cross_fit(network, network.initial, changed, cells=cells, folds=2, seed=0, trainer=trainer)
    for held, twin in twins:
        held_together.append(set(held.groups or held.ids))
        with torch.no_grad():
            y_NT3 = twin.model(torch.from_numpy(held.x), mask_BT=torch.from_numpy(held.mask))[0]
        out |= {name: y_N for name, y_N in zip(held.ids, y_NT3[..., 0].numpy(), strict=True)}
    assert not held_together[0] & held_together[1]
    assert set.union(*held_together) == set(cells)
    return out


def early_case(curves, cycles):
    return lambda: EarlyNetwork(max_cycle=30, d_model=4), sequences_of(curves)


def online_case(curves, cycles, **changed):
    def make():
        return OnlineNetwork(d_model=4, stride=10, batch_size=64, **changed)

    lives = raised_lives(cycles, nominal_capacity_ah=1.1, levels=(0.0, 0.05))
    steps = online_sequences(lives)
    groups = tuple(lives.select("cell_id", "source").unique(maintain_order=True)["source"])
    encoded = make().encode(steps)
    return make, Sequences(
        *(getattr(encoded, n) for n in ("ids", "x", "mask", "position", "names", "y")), groups
    )


def layered_case(curves, cycles):
    return online_case(curves, cycles, num_layers=1)


@pytest.mark.parametrize("case", [early_case, online_case, layered_case])
def test_the_life_of_a_cell_does_not_reach_its_own_left_out_forecast(case, curves, cycles):
    make, steps = case(curves, cycles)
    cell = "sim_003"
    before, after = (left_out(make, steps, cell=cell, factor=factor) for factor in (1.0, 20.0))
    own = [name for name, group in zip(steps.ids, steps.groups or steps.ids, strict=True) if group == cell]
    assert len(own) == (1 if steps.groups is None else 2), "a raised life is a further one of the same cell"
    for name in own:
        assert np.array_equal(before[name], after[name])
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    assert len(moved) > len(before) / 4, "the other fold learned from it"


def test_the_fit_reports_forecasts_of_every_labelled_cell_once(fit, curves):
    verdict = fit("lstm").verdicts[0]
    assert sorted(verdict.cell) == sorted(curves["cell_id"].unique())
    truth = dict(curves.select("cell_id", "cycle_life").iter_rows())
    assert verdict.truth.tolist() == [truth[cell] for cell in verdict.cell]
    assert set(verdict.baselines) == {"mean log life", "variance model"}


# --- intervals -----------------------------------------------------------------------------------------------


def planted(folds=5, n=60, seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(folds):
        truth = rng.uniform(200, 2000, n)
        cell = np.array([f"c{k}_{i}" for i in range(n)])
        parts.append(LeftOut(cell, np.full(n, 100), truth, truth * np.exp(rng.normal(0, 0.2, n))))
    return parts


def test_intervals_of_planted_noise_are_as_wide_as_the_noise():
    interval = ConformalInterval(confidence=0.9)
    verdict = calibrated(interval, planted())
    assert 0.86 <= np.mean((verdict.lo <= verdict.truth) & (verdict.truth <= verdict.hi)) <= 0.95
    # 5 and 95 % of a normal distribution of spread 0.2
    assert float(interval.lo_Q) == pytest.approx(-1.645 * 0.2, rel=0.2)
    assert float(interval.hi_Q) == pytest.approx(1.645 * 0.2, rel=0.2)
    fresh = planted(seed=1)
    point, truth = (np.concatenate([getattr(part, name) for part in fresh]) for name in ("point", "truth"))
    _, lo, hi = interval(torch.from_numpy(np.log(point))[:, None]).T.numpy()
    assert 0.86 <= np.mean((lo <= truth) & (truth <= hi)) <= 0.95


def test_the_judged_interval_of_a_fold_never_saw_its_truths():
    parts = planted()
    before = calibrated(ConformalInterval(), parts)
    parts[2] = parts[2]._replace(truth=parts[2].truth * 3)
    after = calibrated(ConformalInterval(), parts)
    own = np.char.startswith(before.cell.astype(str), "c2_")
    assert np.array_equal(before.lo[own], after.lo[own])
    assert np.array_equal(before.hi[own], after.hi[own])
    assert not np.array_equal(before.hi[~own], after.hi[~own])
    few = calibrated(ConformalInterval(), parts, judged=np.arange(300) < 10)
    assert len(few.cell) == len(few.lo) == 10


# --- checkpoint and bundle -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "layers"])
def test_a_checkpoint_gives_the_same_bundle_byte_for_byte(name, fit, tmp_path):
    made = fit(name).out
    again = export_checkpoint(made / "model.ckpt", tmp_path / "bundle")
    files = sorted(path.name for path in again.iterdir())
    assert files == ["manifest.json", "step.onnx", "window.onnx"]
    for file in files:
        first, second = (folder.joinpath(file).read_bytes() for folder in (made / "bundle", again))
        assert first == second, file
    manifest = json.loads((again / "manifest.json").read_text())
    assert manifest["training"]["metrics"]
    assert manifest["baselines"]
    assert manifest["training"]["split"] == "all cells"


@pytest.mark.parametrize(("name", "layer"), [("layers", Aaren), ("lstm", LSTMAttention)])
def test_the_layer_asked_for_is_the_layer_trained(name, layer, fit):
    fitted = fit(name)
    module = load_checkpoint(fitted.out / "model.ckpt")
    assert [type(block.layer) for block in module.model.blocks] == [layer]
    assert module.title == fitted.rows[0]["model"]
    assert module.title.endswith(layer.__name__)


@pytest.mark.parametrize("name", ["lstm", "rows", "layers"])
def test_a_checkpoint_holds_plain_data_only(name, fit):
    content = torch.load(fit(name).out / "model.ckpt", weights_only=True)
    assert {"state_dict", "hyper_parameters", "remem"} <= set(content)
    assert "optimizer_states" not in content


def opened(fitted, frame):
    """torch, window graph and step graph of a fit, and the sequences of a table as they take them."""
    folder = fitted.out / "bundle"
    manifest = json.loads((folder / "manifest.json").read_text())
    steps = fitted.data.sequences(frame)
    at = [steps.names.index(name) for name in manifest["input"]["features"]]
    graphs = [
        onnxruntime.InferenceSession(folder / f"{face}.onnx", providers=["CPUExecutionProvider"])
        for face in ("window", "step")
    ]
    x, mask = np.ascontiguousarray(steps.x[..., at]), steps.mask
    return SimpleNamespace(
        x=x, mask=mask, manifest=manifest, window=graphs[0], step=graphs[1], torch=fitted.out / "model.ckpt"
    )


def stepped(it, length):
    """(N, length, 3) outputs and the state (a list of arrays) of the step graph, from the state before anything."""
    names = [port.name for port in it.step.get_inputs() if port.name.startswith("state.")]
    nothing = {"x": it.x[:, :1] * 0, "mask": np.zeros((len(it.x), 1), bool)}
    state = it.window.run(names, nothing)
    outputs = ["y", *(name.replace("state.", "next.", 1) for name in names)]
    answers = []
    for t in range(length):
        y, *state = it.step.run(outputs, {"x": it.x[:, t]} | dict(zip(names, state, strict=True)))
        answers.append(y)
    return np.stack(answers, 1), state


@pytest.mark.parametrize("name", ["lstm", "rows", "layers"])
def test_window_step_and_torch_agree_over_a_long_irregular_life(name, fit, curves, cycles):
    frame = curves if name == "lstm" else cycles
    rng = np.random.default_rng(0)
    frame = frame.filter(pl.col("cell_id").is_in(["sim_001", "sim_002", "sim_003"]))
    frame = frame.filter(pl.Series(rng.random(frame.height) > 0.15) | (pl.col("cycle") == 2))
    if "cc_time" in frame.columns:
        holes = pl.Series(rng.random(frame.height) < 0.2)
        frame = frame.with_columns(
            [pl.when(holes).then(None).otherwise(pl.col(n)).alias(n) for n in ("capacity_ah", "cc_time")]
        )
    it = opened(fit(name), frame)
    length = int(it.mask.sum(1).min())
    assert length > (200 if name in ("rows", "layers") else 20)
    (window,) = it.window.run(["y"], {"x": it.x, "mask": it.mask})
    steps, state = stepped(it, length)
    module = load_checkpoint(it.torch)
    with torch.no_grad():
        own = module(torch.from_numpy(it.x), torch.from_numpy(it.mask)).numpy()
    np.testing.assert_allclose(window[:, :length], own[:, :length], rtol=1e-4)
    np.testing.assert_allclose(steps, own[:, :length], rtol=1e-4)
    shorter = {"x": it.x[:1, : length // 2], "mask": it.mask[:1, : length // 2]}
    np.testing.assert_allclose(it.window.run(["y"], shorter)[0], own[:1, : length // 2], rtol=1e-4)
    assert np.isfinite(steps).all()
    point, lo, hi = np.moveaxis(steps, -1, 0)
    assert ((lo > 0) & (lo <= point) & (point <= hi)).all()
    assert sum(part[:1].nbytes for part in state) == it.manifest["state_bytes"] > 0


def test_torch_model_steps_as_it_reads_whole_lives(fit, curves):
    module = load_checkpoint(fit("lstm").out / "model.ckpt")
    x_BTF = torch.from_numpy(sequences_of(curves).x[:2])
    with torch.no_grad():
        whole, after = module.model(x_BTF)
        state = module.model.init_state(2)
        for t in range(x_BTF.shape[1]):
            y, state = module.model.step(x_BTF[:, t], state)
            state = unflatten(state, flatten(state))
            torch.testing.assert_close(y, whole[:, t], rtol=1e-4, atol=1e-3)
    for name, tensor in flatten(after).items():
        torch.testing.assert_close(flatten(state)[name], tensor, rtol=1e-4, atol=1e-5)


# --- production ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows", "layers"])
def test_streams_answer_as_tables_do_in_constant_memory(name, fit, tmp_path):
    bundle = fit(name).out / "bundle"
    cell = simulate_cycles(1, seed=8, life=(1300, 1300), missing=0.2).with_columns(
        pl.when(pl.col("cycle") % 7 == 0).then(None).otherwise("cc_time").alias("cc_time")
    )
    wanted = Predictor(bundle, device="cpu").predict(cell)
    session, sizes, files, answers = StreamSession(bundle), [], [], []
    for i, row in enumerate(cell.head(1000).iter_rows(named=True), 1):
        answers.append(session.update(row["cell_id"], row))
        if i in (10, 1000):
            session.save(tmp_path / f"{i}.npz")
            sizes.append(session.state_bytes)
            files.append((tmp_path / f"{i}.npz").stat().st_size)
    assert sizes[0] == sizes[1] == session.bundle.manifest["state_bytes"]
    assert files[0] == files[1]
    for column in ("rul", "rul_lo", "rul_hi", "cycle_life"):
        np.testing.assert_allclose([a[column] for a in answers], wanted[column][:1000], rtol=1e-4)
    assert "missing_value" in answers[[row["cycle"] % 7 for row in answers].index(0)]["flags"]
    assert any("cycle_gap" in answer["flags"] for answer in answers)
    assert all(0 <= a["rul_lo"] <= a["rul"] <= a["rul_hi"] for a in answers)


def test_early_sequences_are_forecast_after_any_cycle(fit, curves):
    predictor = Predictor(fit("lstm").out / "bundle", device="cpu")
    for cycle in (12, 30):
        out = predictor.predict(curves.filter(pl.col("cycle") <= cycle))
        assert out["cycle"].unique().to_list() == [cycle]
        assert ((out["rul_lo"] >= 0) & (out["rul_lo"] <= out["rul"]) & (out["rul"] <= out["rul_hi"])).all()
    # the label column is not looked at
    assert predictor.predict(curves.drop("cycle_life")).equals(out)


# --- lives that end at a raised level ------------------------------------------------------------------------


def linear_fade(name, start_ah, fade_ah, last):
    cycle = np.arange(1, last + 1)
    return pl.DataFrame(
        {
            "cell_id": name,
            "cycle": cycle.astype(np.int32),
            "capacity_ah": start_ah - fade_ah * cycle,
            "group": "g",
        }
    )


@pytest.mark.parametrize("nominal", [1.0, {"g": 1.0}])
def test_raised_lives_of_a_linear_fade_are_known_exactly(nominal):
    # 0.001 Ah a cycle from 1 Ah: at or below 0.85, 0.9 Ah from cycle 150.5 and 100.5 on; the second stops at 0.88
    whole, cut = linear_fade("whole", 1.0005, 1e-3, 240), linear_fade("cut", 1.0005, 1e-3, 120)
    out = raised_lives(
        pl.concat([whole, cut]), nominal_capacity_ah=nominal, levels=(0.0, 0.05, 0.1), tolerance=0.0
    )
    ends = {"whole": 201, "whole+0.05": 151, "whole+0.1": 101, "cut+0.1": 101}
    assert set(out["cell_id"]) == set(ends), "a cell is left out at levels that it does not reach"
    for name, end in ends.items():
        part = out.filter(pl.col("cell_id") == name)
        assert part["rul"].to_list() == [end - cycle for cycle in part["cycle"]]
        assert set(part["source"]) == {name.partition("+")[0]}
        level = float(name.partition("+")[2] or 0)
        lowered = part["capacity_ah"].to_numpy()
        np.testing.assert_allclose(lowered, 1.0005 - 1e-3 * part["cycle"].to_numpy() - level, atol=1e-12)
        assert lowered[end - 1] <= 0.8 < lowered[end - 2], "every life ends at the level that the model knows"


def test_a_label_that_is_known_already_stays():
    whole = linear_fade("whole", 1.0005, 1e-3, 240).with_columns(rul=500.0 - pl.col("cycle"))
    out = raised_lives(whole, nominal_capacity_ah=1.0, levels=(0.0, 0.1), tolerance=0.0)
    assert out.filter(pl.col("cell_id") == "whole")["rul"][0] == 499.0
    assert out.filter(pl.col("cell_id") == "whole+0.1")["rul"][0] == 100.0


# --- what is refused -----------------------------------------------------------------------------------------


def test_networks_say_what_they_lack(curves, cycles):
    unlabelled = sequences_of(curves.drop("cycle_life"))
    with pytest.raises(ValueError, match="positive cycle_life"):
        EarlyNetwork(max_cycle=30).prepare(unlabelled)
    labelled = label_rul(cycles, nominal_capacity_ah=1.1).frame
    with pytest.raises(ValueError, match=r"lacks columns \['i_slope'\].*--model.columns"):
        OnlineNetwork().encode(online_sequences(labelled.drop("i_slope")))
    with pytest.raises(ValueError, match="no labels"):
        OnlineNetwork().encode(online_sequences(cycles))

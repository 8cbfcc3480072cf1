"""The module under Lightning: features out of fold, the best weights, checkpoints that hold everything."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from remem.apps.module import load_checkpoint
from remem.apps.tracing.cli import with_config
from remem.apps.tracing.data import TracingData
from remem.apps.tracing.fitting import TracingCLI
from remem.apps.tracing.keep_best import KeepBest
from remem.apps.tracing.memories import out_of_fold
from remem.apps.training import launch_cli
from remem.core.layers.concept_memory import ConceptMemory
from remem.data.tracing.encode import Vocabulary
from remem.data.tracing.simulate import simulate_log


@pytest.fixture(scope="module")
def log():
    return simulate_log(60, 30, 4, seed=3, answers=(8, 30)).drop("p_true")


class Bare(TracingCLI):
    """A fit without what follows: the export takes most of a fit's time."""

    def after_fit(self):
        self.model.cpu().eval()
        self.model.calibrate(self.datamodule.training, self.datamodule.watched, seed=0)
        self.trainer.save_checkpoint(self.out / "model.ckpt", weights_only=True)


def fit(folder, log, *words):
    log.write_parquet(folder / "log.parquet")
    small = ["--model.d_model=16", "--model.num_trees=12", "--trainer.max_epochs=2"]
    own = [f"--data.path={folder / 'log.parquet'}", f"--out={folder}", "--trainer.enable_progress_bar=false"]
    return launch_cli(Bare, TracingData, with_config(["fit", *own, *small, *words]))


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--model.trees=false", "--model.recall=attention"),
        ("--model.recall=cakt",),
        ("--model.layer=remem.core.Aaren", "--model.layer.num_heads=2", "--model.num_layers=2"),
    ],
    ids=["default", "attention", "cakt", "aaren"],
)
def test_a_checkpoint_gives_the_same_forecasts_to_the_last_bit(log, tmp_path, words):
    module = fit(tmp_path, log, *words).model
    again = load_checkpoint(tmp_path / "model.ckpt")
    assert again.vocabulary == module.vocabulary
    assert again.title == module.title
    x, mask = map(torch.from_numpy, module.vocabulary.encode(log).pad(np.arange(5)))
    with torch.no_grad():
        assert again(x, mask).equal(module(x, mask))
    assert ("p_trees" in again.model.out_names) == ("--model.trees=false" not in words)


def test_a_fit_goes_on_from_its_checkpoint(log, tmp_path):
    words = ("--trainer.enable_checkpointing=true", "--model.trees=false")
    first = fit(tmp_path, log, *words, "--trainer.max_epochs=1")
    (written,) = tmp_path.rglob("checkpoints/*.ckpt")
    steps = first.trainer.global_step
    second = fit(tmp_path, log, *words, "--trainer.max_epochs=3", f"--ckpt_path={written}")
    assert second.trainer.global_step > steps
    kept = next(c for c in second.trainer.callbacks if isinstance(c, KeepBest))
    before = next(c for c in first.trainer.callbacks if isinstance(c, KeepBest))
    assert kept.best >= before.best, "what was best before the break is not forgotten"


def test_the_weights_of_the_best_epoch_come_back():
    trainer = SimpleNamespace(sanity_checking=False, should_stop=False, state=SimpleNamespace(fn="fit"))
    module, keep = torch.nn.Linear(1, 1), KeepBest("auc", patience=2)
    for weight, figure in ((1.0, 0.6), (2.0, 0.8), (3.0, 0.7), (4.0, 0.75)):
        assert not trainer.should_stop
        torch.nn.init.constant_(module.weight, weight)
        trainer.callback_metrics = {"auc": torch.tensor(figure)}
        keep.on_validation_end(trainer, module)
    assert trainer.should_stop
    keep.on_fit_end(trainer, module)
    assert module.weight.item() == 2.0


def test_a_figure_that_is_no_number_is_beaten_by_any():
    trainer = SimpleNamespace(sanity_checking=False, should_stop=False, state=SimpleNamespace(fn="fit"))
    module, keep = torch.nn.Linear(1, 1), KeepBest("auc", patience=1)
    for weight, figure in ((1.0, float("nan")), (2.0, 0.6)):
        torch.nn.init.constant_(module.weight, weight)
        trainer.callback_metrics = {"auc": torch.tensor(figure)}
        keep.on_validation_end(trainer, module)
    assert not trainer.should_stop
    keep.on_fit_end(trainer, module)
    assert module.weight.item() == 2.0


def test_features_of_training_know_nothing_of_the_students_own_labels(log):
    """The last answer is in nobody's past: only a table that counts it could move a feature of its student."""
    vocabulary = Vocabulary.fit(log)
    own = pl.col("student_id") == "s7"
    last = own & (pl.int_range(pl.len()).over("student_id") == pl.len().over("student_id") - 1)
    flipped = log.with_columns(
        pl.when(last).then(1 - pl.col("correct")).otherwise("correct").alias("correct")
    )
    assert (flipped["correct"] != log["correct"]).sum() == 1
    z, other = (
        out_of_fold(vocabulary, vocabulary.encode(frame), folds=5, seed=0) for frame in (log, flipped)
    )
    rows = log.select(own).to_series().to_numpy()
    np.testing.assert_array_equal(z[rows], other[rows])
    names = np.array(ConceptMemory(1, 1).out_names)
    told = set(names[(z[~rows] != other[~rows]).any(0)])
    assert told >= {"q_mean", "c_mean", "q_last_mean", "q_able_mean", "q_try_mean", "c_run_mean", "cc_mean"}


def test_what_cannot_be_trained_on_is_told(log, tmp_path):
    with pytest.raises(ValueError, match="only right or only wrong"):
        fit(tmp_path, log.with_columns(pl.lit(1, pl.Int8).alias("correct")))
    few = log.filter(pl.col("student_id").is_in(["s2", "s3", "s4"]))
    with pytest.raises(ValueError, match="wanted at least 5"):
        fit(tmp_path, few)
    fit(tmp_path, log, "--trainer.enable_checkpointing=true", "--trainer.max_epochs=1")
    (written,) = tmp_path.rglob("checkpoints/*.ckpt")
    with pytest.raises(ValueError, match="go on with the same data"):
        fit(tmp_path, log.filter(pl.col("question_id") != "q1"), f"--ckpt_path={written}")

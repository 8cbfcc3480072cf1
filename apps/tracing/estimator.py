"""Knowledge tracing as a scikit-learn estimator. After fitting it asks its own bundle, as production does."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ...data.tracing.metrics import auc
from ...data.tracing.opening import open_log
from ...data.tracing.repeats import from_repeat_rows
from ...data.tracing.schema import Log
from ...serving.tracing.predictor import TracingPredictor
from ...serving.tracing.session import TracingSession

Answers = pl.DataFrame | Log | str | os.PathLike[str]
"""A table, a log, or the path of a file of any known format."""


RECALLS = ("recurrent", "attention", "cakt")

_MASTERY = {
    "student_id": pl.String,
    "concept": pl.String,
    "mastery": pl.Float64,
    "lo": pl.Float64,
    "hi": pl.Float64,
    "half_life_days": pl.Float64,
    "answers": pl.Int64,
}


class KnowledgeTracer(ClassifierMixin, BaseEstimator):
    """The probability that a student's next answer is right, for every answer of a log and for any question.

    A log is a table with one row per answered question: `student_id, correct`, `question_id` or `concepts` (or both),
    and `timestamp` where there is one; the layouts that `remem.data.tracing.open_log` knows are taken as they are.
    Labels stand in the log: `y` is there for scikit-learn and is not looked at.

    Args:
        recall: what the network remembers beside the memory of every concept: "recurrent", "attention" or "cakt".
        layer: of "recurrent", a class or its path, as "remem.core.LSTM"; None is Aaren.
        d_model: width of the network.
        trees: whether boosted trees are stacked beside the network.
        max_epochs: at most; validation stops earlier.
        monotone: mastery never falls after a right answer and never rises after a wrong one.
        random_state: of everything drawn.
        verbose: whether progress is shown on stderr.

    Attributes:
        classes_: [0, 1].
        files_: the bundle, bytes by name.
        metrics_: figures on the students that stopping and calibration have seen; None after `load`.
    """

    def __init__(
        self,
        *,
        recall: str = "recurrent",
        layer: str | Callable[..., Any] | None = None,
        d_model: int = 64,
        trees: bool = True,
        max_epochs: int = 8,
        monotone: bool = False,
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.recall = recall
        self.layer = layer
        self.d_model = d_model
        self.trees = trees
        self.max_epochs = max_epochs
        self.monotone = monotone
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Answers, y: Any = None, *, valid: Answers | None = None) -> Self:
        """Train, stack, calibrate and export.

        Args:
            X: the log to learn from.
            valid: a log of other students to stop and calibrate on. Default: a fifth of the students of `X`, by a hash
                of their id.

        Raises:
            ValueError: a parameter is out of its range, a log breaks its schema, students are in both, or there are
                too few.
        """
        self._check_parameters()
        from .cli import with_config  # noqa: PLC0415  (lightning costs seconds that a loaded model must not pay)
        from .fitting import run  # noqa: PLC0415

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            words = [f"--data.path={_written(_log(X, 'X'), folder / 'X.parquet')}"]
            if valid is not None:
                words.append(f"--data.valid_path={_written(_log(valid, 'valid'), folder / 'valid.parquet')}")
            words += [
                f"--data.seed={self.random_state}",
                f"--seed_everything={self.random_state}",
                f"--model.recall={self.recall}",
                f"--model.d_model={self.d_model}",
                f"--model.trees={str(self.trees).lower()}",
                f"--trainer.max_epochs={self.max_epochs}",
                f"--trainer.enable_progress_bar={str(self.verbose).lower()}",
                f"--out={folder / 'run'}",
            ]
            if self.layer is not None:
                words.append(f"--model.layer={_path_of(self.layer)}")
            with redirect_stdout(sys.stderr):
                fitted = run(with_config(["fit", *words]))
            if fitted is None:
                raise ValueError("fit: nothing was fitted")
            self.metrics_: dict[str, object] | None = fitted.rows[0]
            self._take(folder / "run" / "bundle")
        return self

    def predict_proba(self, X: Answers) -> np.ndarray:
        """(rows, 2) chances of a wrong and of a right answer, before it was given; NaN where reading refused a row."""
        p = self._predictor().predict(_log(X, "X"))["p_correct"].to_numpy()
        return np.stack([1 - p, p], axis=1)

    def predict(self, X: Answers) -> np.ndarray:
        """(rows,) 1 where a right answer is the more likely one."""
        return (self.predict_proba(X)[:, 1] >= 0.5).astype(int)

    def score(self, X: Answers, y: Any = None, sample_weight: Any = None) -> float:
        """AUC over the answered questions of a log, one row each."""
        frame = _log(X, "X").frame
        given = frame["correct"].is_not_null().to_numpy()
        p = self._predictor().forecasts(frame)[given, 0]
        return auc(frame["correct"].to_numpy()[given].astype(float), p, sample_weight)

    def mastery(self, X: Answers | None = None, concepts: Sequence[str] | None = None) -> pl.DataFrame:
        """Mastery after each student's last answer: `student_id, concept, mastery, lo, hi, half_life_days, answers`.

        Args:
            X: a log; None takes the students of `partial_update`.
            concepts: of every student; default: those that the student has practised.
        """
        if X is not None:
            return self._predictor().mastery(_log(X, "X"), concepts)
        session = self._session()
        rows = [
            {"student_id": student} | row
            for student in self._updated
            for row in session.mastery(student, concepts)
        ]
        return pl.DataFrame(rows, schema=_MASTERY)

    def mastery_history(self, X: Answers, concepts: Sequence[str] | None = None) -> pl.DataFrame:
        """Mastery after every answer, for a heat map: `student_id, answer, concept, mastery`."""
        return self._predictor().mastery_history(_log(X, "X"), concepts)

    def partial_update(self, X: Answers) -> Self:
        """Take new answers: the states of their students move on, the model stays as it is."""
        session = self._session()
        columns = ("student_id", "question_id", "correct", "concepts", "timestamp")
        for student, question, correct, concepts, timestamp in _log(X, "X").frame.select(columns).iter_rows():
            session.update(student, question, correct, concepts, timestamp)
            self._updated[student] = None
        return self

    def recommend(
        self,
        student_id: str,
        k: int = 5,
        target: float | str = 0.7,
        candidates: Sequence[str] | None = None,
        timestamp: datetime | str | float | None = None,
    ) -> list[dict[str, Any]]:
        """The best k questions to ask a student of `partial_update` next; see `TracingSession.recommend`.

        Args:
            target: a wanted probability of success, "gain" or "review".
        """
        return self._session().recommend(student_id, k, target, candidates, timestamp)

    def explain(self, X: Answers, last: int = 200) -> pl.DataFrame:
        """What each past answer did to the forecast of the last row of one student, in logits."""
        return self._predictor().explain(_log(X, "X"), last)

    def export(self, folder: str | os.PathLike[str]) -> Path:
        """Write the bundle for `remem predict`, `remem stream` and `remem.serving`, and return its folder.

        Raises:
            ValueError: the folder exists and is no bundle.
        """
        check_is_fitted(self)
        target = Path(folder)
        if target.exists() and not (target / "manifest.json").exists() and any(target.iterdir()):
            raise ValueError(
                f"{target}: exists and is no bundle; choose another folder, nothing was overwritten"
            )
        target.mkdir(parents=True, exist_ok=True)
        for name, content in self.files_.items():
            (target / name).write_bytes(content)
        return target

    @classmethod
    def load(cls, bundle: str | os.PathLike[str], *, monotone: bool = False) -> Self:
        """A fitted tracer from a bundle. How it was trained is not in there: other parameters are the defaults.

        Raises:
            ValueError: the bundle is incomplete, changed, or of another app.
        """
        TracingPredictor(Path(bundle), device="cpu")  # says what is wrong with it
        tracer = cls(monotone=monotone)
        tracer.metrics_ = None
        tracer._take(Path(bundle))
        return tracer

    def _check_parameters(self) -> None:
        """The command line would end the process over these, which a search over parameters must not."""
        if self.recall not in RECALLS:
            raise ValueError(f"KnowledgeTracer: recall is {self.recall!r}; wanted {', '.join(RECALLS)}")
        for name in ("d_model", "max_epochs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"KnowledgeTracer: {name} is {value!r}; wanted a whole number of 1 or more")
        for name in ("trees", "monotone", "verbose"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ValueError(f"KnowledgeTracer: {name} is {getattr(self, name)!r}; wanted True or False")
        if self.layer is not None:
            _import(_path_of(self.layer))

    def _take(self, bundle: Path) -> None:
        self.files_ = {file.name: file.read_bytes() for file in sorted(bundle.iterdir())}
        self.classes_ = np.array([0, 1])
        self._opened: dict[str, Any] = {}
        self._updated: dict[str, None] = {}

    def _predictor(self) -> TracingPredictor:
        return self._open("predictor", TracingPredictor)

    def _session(self) -> TracingSession:
        return self._open("session", TracingSession)

    def _open(self, name: str, kind: Any) -> Any:
        """A predictor or a session over the bundle, opened on first use."""
        check_is_fitted(self)
        if name not in self._opened:
            with tempfile.TemporaryDirectory() as scratch:
                self._opened[name] = kind(self.export(scratch), monotone=self.monotone, device="cpu")
        return self._opened[name]

    def __getstate__(self) -> dict[str, Any]:
        """Without what is opened: sessions of onnxruntime cannot be pickled, and students' states stay with them."""
        return {**super().__getstate__(), "_opened": {}, "_updated": {}}


def _log(given: Answers, name: str) -> Log:
    if isinstance(given, Log):
        return given
    if isinstance(given, pl.DataFrame):
        return from_repeat_rows(given)
    if isinstance(given, str | os.PathLike):
        return open_log(Path(given))
    raise ValueError(f"{name}: got {type(given).__name__}; wanted a polars table, a log, or a path")


def _written(log: Log, path: Path) -> Path:
    """The log as a file; folds are left out, since all of it is asked for."""
    log.frame.drop("fold", strict=False).write_parquet(path)
    return path


def _path_of(layer: str | Callable[..., Any]) -> str:
    return layer if isinstance(layer, str) else f"{layer.__module__}.{layer.__qualname__}"


def _import(path: str) -> None:
    module, _, name = path.rpartition(".")
    try:
        getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"KnowledgeTracer: layer is '{path}', which cannot be imported ({error}); wanted a class or the path of "
            "one, as remem.core.LSTM"
        ) from error

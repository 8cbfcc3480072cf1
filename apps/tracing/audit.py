"""A tracing model may not know what it is asked: a probe for any model, ours or another's.

Published models of knowledge tracing have leaked in ways that tests of shape and loss cannot see: scores normalised
before the mask was laid on them, a mask whose result was thrown away. Both move a forecast when a later outcome, or the
very one forecast, changes; so outcomes are changed and forecasts are watched.

Shape legend: B students, T answers, F columns (question, correct, minutes, concepts), O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CORRECT = 1
_STUDENTS, _ANSWERS = 4, 48

Forecast = Callable[[np.ndarray], np.ndarray]
"""From answers x_BTF to forecasts (B, T) or (B, T, O): of step t before its answer is given."""


def audit_causality(model: Any, answers: np.ndarray | None = None, *, seed: int = 0) -> float:
    """Largest change of any forecast up to step t when outcomes from t on are changed, over all t: 0.0 if it is causal.

    Every outcome from t on is turned round, and drawn anew twice; a forecast that becomes NaN counts as changed
    infinitely.

    Args:
        model: a torch module with x_BTF -> y_BTO or (y_BTO, state), such as `TracingModel`; a bundle folder; or any
            function from a numpy x_BTF to forecasts.
        answers: x_BTF to probe with, T at least 2, without masked rows. None draws some: ids from 1 to 8, no times.
            A plain function must be able to read these ids. Needed where more than one concept column is wanted.
        seed: of what is drawn.

    Returns:
        The change, in the units of the forecast.

    Raises:
        ValueError: where `answers` or the forecasts have another shape, or no forecast ever moves with an outcome: such
            a model looks causal, but does not listen at all.
    """
    random = np.random.default_rng(seed)
    forecast, columns = _forecast(model)
    x_BTF = _drawn(random, columns) if answers is None else np.array(answers, dtype=np.float32)
    if x_BTF.ndim != 3 or x_BTF.shape[1] < 2:
        raise ValueError(f"audit_causality: answers are {x_BTF.shape}; wanted (students, 2 or more, columns)")
    usual = _checked(forecast(x_BTF), x_BTF)
    largest, listens = 0.0, False
    for t in range(x_BTF.shape[1]):
        for change in ("turned", "drawn", "drawn"):
            changed = x_BTF.copy()
            later_BT = changed[:, t:, CORRECT]
            asked_BT = np.isnan(later_BT)
            new_BT = 1 - later_BT if change == "turned" else random.integers(0, 2, later_BT.shape)
            changed[:, t:, CORRECT] = np.where(asked_BT, np.nan, new_BT)
            moved = np.abs(_checked(forecast(changed), changed) - usual)
            moved[np.isnan(moved)] = np.inf
            largest = max(largest, float(moved[:, : t + 1].max()))
            listens = listens or bool(moved[:, t + 1 :].any())
    if not listens and largest == 0:
        raise ValueError(
            "audit_causality: no forecast moved with any outcome; wanted a model that reads column 1, 'correct'"
        )
    return largest


def _forecast(model: Any) -> tuple[Forecast, int]:
    """The model as a function of arrays, and how many columns it wants."""
    if isinstance(model, str | Path):
        return _of_bundle(model)
    if hasattr(model, "parameters") and hasattr(model, "eval"):
        return _of_module(model), int(getattr(model, "in_features", 4))
    return model, 4


def _of_module(module: Any) -> Forecast:
    import torch  # noqa: PLC0415 - bundles and plain functions are probed without it

    parameter = next(module.parameters(), None)
    device = "cpu" if parameter is None else parameter.device

    def forecast(x_BTF: np.ndarray) -> np.ndarray:
        training = module.training
        module.eval()
        with torch.no_grad():
            y = module(torch.from_numpy(x_BTF).to(device))
        module.train(training)
        return (y[0] if isinstance(y, tuple) else y).cpu().numpy()

    return forecast


def _of_bundle(path: str | Path) -> tuple[Forecast, int]:
    from ...serving.bundle import open_bundle  # noqa: PLC0415 - loads onnxruntime

    bundle = open_bundle(path)
    session = bundle.session("window.onnx", device="cpu", threads=1)

    def forecast(x_BTF: np.ndarray) -> np.ndarray:
        (y_BTO,) = session.run(["y"], {"x": x_BTF, "mask": np.ones(x_BTF.shape[:2], bool)})
        return y_BTO

    return forecast, len(bundle.features)


def _drawn(random: np.random.Generator, columns: int) -> np.ndarray:
    x_BTF = np.full((_STUDENTS, _ANSWERS, columns), np.nan, np.float32)
    x_BTF[..., 0] = random.integers(1, 9, x_BTF.shape[:2])
    x_BTF[..., CORRECT] = random.integers(0, 2, x_BTF.shape[:2])
    x_BTF[..., 3:] = 0
    x_BTF[..., 3] = (x_BTF[..., 0] + 1) // 2  # two questions a concept
    return x_BTF


def _checked(y: Any, x_BTF: np.ndarray) -> np.ndarray:
    y = np.asarray(y, dtype=np.float64)
    if y.shape[:2] != x_BTF.shape[:2] or y.ndim > 3:
        raise ValueError(
            f"audit_causality: forecasts are {y.shape} for answers {x_BTF.shape}; wanted one for every answer, "
            "(students, answers) or (students, answers, outputs), in their order"
        )
    return y

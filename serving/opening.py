"""A bundle of any app -> what predicts with it."""

from __future__ import annotations

from pathlib import Path

from .battery.predictor import Predictor
from .battery.stream import StreamSession
from .bundle import Bundle, open_bundle
from .session import Device
from .tracing.predictor import TracingPredictor
from .tracing.session import TracingSession


def open_predictor(bundle: str | Path | Bundle, *, device: Device = "auto") -> Predictor | TracingPredictor:
    """The predictor of whole tables for this bundle: `Predictor` (battery) or `TracingPredictor`."""
    opened = open_bundle(bundle)
    return (
        TracingPredictor(opened, device=device)
        if opened.app == "tracing"
        else Predictor(opened, device=device)
    )


def open_stream(
    bundle: str | Path | Bundle, state: str | Path | None = None, *, device: Device = "cpu"
) -> StreamSession | TracingSession:
    """The session that takes one observation at a time: `StreamSession` (battery, online) or `TracingSession`."""
    opened = open_bundle(bundle)
    if opened.app == "tracing":
        return TracingSession(opened, state, device=device)
    return StreamSession(opened, state, device=device)

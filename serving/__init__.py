"""Predictions from a bundle with onnxruntime, numpy and polars. Neither torch nor lightning is needed or loaded."""

from importlib import import_module

from .battery.predictor import Predictor
from .battery.stream import StreamSession
from .bundle import Bundle
from .opening import open_predictor, open_stream
from .tracing.predictor import TracingPredictor
from .tracing.session import TracingSession

_LAZY = {
    "DelaunayPredictor": "geometry.triangles",
    "HullPredictor": "geometry.hulls",
    "RouteFollower": "geometry.following",
    "TourPredictor": "geometry.tours",
}
"""These load scipy and numba, half a second that others need not pay."""

__all__ = [
    "Bundle",
    "DelaunayPredictor",
    "HullPredictor",
    "Predictor",
    "RouteFollower",
    "StreamSession",
    "TourPredictor",
    "TracingPredictor",
    "TracingSession",
    "open_predictor",
    "open_stream",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute {name!r}; public names: {', '.join(__all__)}")

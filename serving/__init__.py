"""Predictions from a bundle with onnxruntime, numpy and polars. Neither torch nor lightning is needed or loaded."""

from .battery.predictor import Predictor
from .battery.stream import StreamSession
from .bundle import Bundle
from .opening import open_predictor, open_stream
from .tracing.predictor import TracingPredictor
from .tracing.session import TracingSession

__all__ = [
    "Bundle",
    "Predictor",
    "StreamSession",
    "TracingPredictor",
    "TracingSession",
    "open_predictor",
    "open_stream",
]

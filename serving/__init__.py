"""Predictions from a bundle with onnxruntime, numpy and polars. Neither torch nor lightning is needed or loaded."""

from .battery.predictor import Predictor
from .battery.stream import StreamSession
from .bundle import Bundle

__all__ = ["Bundle", "Predictor", "StreamSession"]

"""Predictions from a bundle with onnxruntime, numpy and polars. Neither torch nor lightning is needed or loaded."""

from .bundle import Bundle
from .predictor import Predictor
from .stream import StreamSession

__all__ = ["Bundle", "Predictor", "StreamSession"]

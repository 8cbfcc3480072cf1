"""Sequence layers with explicit, constant memory: torch only."""

from .blocks import Block
from .calibration import ConformalInterval
from .layers.aaren import Aaren
from .layers.attention import CausalAttention
from .layers.lstm_attention import LSTMAttention
from .model import ModelState, SequenceModel
from .preprocess import Standardize
from .state import SequenceLayer, State

__all__ = [
    "Aaren",
    "Block",
    "CausalAttention",
    "ConformalInterval",
    "LSTMAttention",
    "ModelState",
    "SequenceLayer",
    "SequenceModel",
    "Standardize",
    "State",
]

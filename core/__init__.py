"""Sequence layers with explicit, constant memory: torch only."""

from .blocks import Block
from .calibration import ConformalInterval, Platt
from .layers.aaren import Aaren
from .layers.attention import CausalAttention
from .layers.concept_memory import ConceptMemory
from .layers.distance_attention import DistanceAttention
from .layers.lstm import LSTM
from .layers.lstm_attention import LSTMAttention
from .layers.memory import Memory
from .layers.memory_context import MemoryAsContext
from .layers.same_concept import SameConcept
from .layers.titans_blocks import MemoryAsGate, MemoryAsLayer
from .model import ModelState, SequenceModel
from .preprocess import Standardize
from .recall import Recall, Recurrent
from .state import SequenceLayer, State
from .tracing import TracingModel, TracingNetwork
from .trees import TreeEnsemble

__all__ = [
    "LSTM",
    "Aaren",
    "Block",
    "CausalAttention",
    "ConceptMemory",
    "ConformalInterval",
    "DistanceAttention",
    "LSTMAttention",
    "Memory",
    "MemoryAsContext",
    "MemoryAsGate",
    "MemoryAsLayer",
    "ModelState",
    "Platt",
    "Recall",
    "Recurrent",
    "SameConcept",
    "SequenceLayer",
    "SequenceModel",
    "Standardize",
    "State",
    "TracingModel",
    "TracingNetwork",
    "TreeEnsemble",
]

"""Sequence layers with explicit, constant memory: torch only."""

from .blocks import Block
from .calibration import ConformalInterval, Platt
from .layers.aaren import Aaren
from .layers.attention import CausalAttention
from .layers.based import Based
from .layers.concept_memory import ConceptMemory
from .layers.distance_attention import DistanceAttention
from .layers.landmark import LandmarkAttention
from .layers.linear_attention import LinearAttention
from .layers.lstm import LSTM
from .layers.lstm_attention import LSTMAttention
from .layers.memory import Memory
from .layers.memory_context import MemoryAsContext
from .layers.pointer import PointerAttention
from .layers.routing import RoutingAttention
from .layers.routing_set import RoutingSetAttention
from .layers.same_concept import SameConcept
from .layers.set_attention import SetAttention
from .layers.titans_blocks import MemoryAsGate, MemoryAsLayer
from .model import ModelState, SequenceModel
from .pointer_network import PointerNetwork
from .preprocess import Standardize
from .recall import Recall, Recurrent
from .state import SequenceLayer, State
from .tracing import TracingModel, TracingNetwork
from .trees import TreeEnsemble

__all__ = [
    "LSTM",
    "Aaren",
    "Based",
    "Block",
    "CausalAttention",
    "ConceptMemory",
    "ConformalInterval",
    "DistanceAttention",
    "LSTMAttention",
    "LandmarkAttention",
    "LinearAttention",
    "Memory",
    "MemoryAsContext",
    "MemoryAsGate",
    "MemoryAsLayer",
    "ModelState",
    "Platt",
    "PointerAttention",
    "PointerNetwork",
    "Recall",
    "Recurrent",
    "RoutingAttention",
    "RoutingSetAttention",
    "SameConcept",
    "SequenceLayer",
    "SequenceModel",
    "SetAttention",
    "Standardize",
    "State",
    "TracingModel",
    "TracingNetwork",
    "TreeEnsemble",
]

"""Tasks that tell memories apart, generated without end: what a layer can hold, and what it can find again."""

from .batch import TokenBatch, accuracy
from .mqar import mqar
from .needle import needle
from .selective_copy import selective_copy

__all__ = ["TokenBatch", "accuracy", "mqar", "needle", "selective_copy"]

"""The mathematics, one recurrence a file, as pure functions."""

from .softmax_scan import SoftmaxState, empty_state, softmax_scan, softmax_step

__all__ = ["SoftmaxState", "empty_state", "softmax_scan", "softmax_step"]

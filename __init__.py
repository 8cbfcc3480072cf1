"""remem: memory-augmented sequence models, trained once, run for ever in constant memory.

Importing this package loads neither torch nor lightning: the public names below are looked up on first use.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("remem")

_LAZY = {
    "BatteryRULRegressor": "apps.battery.estimator",
    "ConvexHullSolver": "apps.geometry.hull",
    "DelaunaySolver": "apps.geometry.delaunay",
    "KnowledgeTracer": "apps.tracing.estimator",
    "TSPSolver": "apps.geometry.tsp",
    "audit_causality": "apps.tracing.audit",
    "audit_leakage": "data.tracing.repeats",
    "open_log": "data.tracing.opening",
}

__all__ = [
    "BatteryRULRegressor",
    "ConvexHullSolver",
    "DelaunaySolver",
    "KnowledgeTracer",
    "TSPSolver",
    "__version__",
    "audit_causality",
    "audit_leakage",
    "open_log",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module 'remem' has no attribute {name!r}; public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)

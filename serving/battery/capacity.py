"""What a bundle says about the capacity of new cells, and of those at their end of life."""

from __future__ import annotations

from ..bundle import Bundle


def nominal_ah(bundle: Bundle, group: str | None) -> float | None:
    """Capacity (Ah) of a new cell of this group; None where the manifest does not know."""
    nominal = bundle.manifest["input"]["nominal_capacity_ah"]
    return nominal.get(group) if isinstance(nominal, dict) else nominal


def end_ah(bundle: Bundle, group: str | None) -> float | None:
    """Capacity (Ah) at which the life of a cell of this group ends; None where the manifest does not know."""
    nominal, fraction = nominal_ah(bundle, group), bundle.manifest["input"]["eol_fraction"]
    return None if nominal is None or fraction is None else nominal * fraction

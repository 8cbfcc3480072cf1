"""A bundle of any app -> what predicts with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .battery.predictor import Predictor
from .battery.stream import StreamSession
from .bundle import Bundle, open_bundle
from .session import Device
from .tracing.predictor import TracingPredictor
from .tracing.session import TracingSession

if TYPE_CHECKING:
    from .geometry.following import RouteFollower
    from .geometry.hulls import HullPredictor
    from .geometry.tours import TourPredictor
    from .geometry.triangles import DelaunayPredictor

GeometryPredictor: TypeAlias = "TourPredictor | RouteFollower | HullPredictor | DelaunayPredictor"


def open_predictor(
    bundle: str | Path | Bundle, *, device: Device = "auto"
) -> Predictor | TracingPredictor | GeometryPredictor:
    """The predictor of whole tables for this bundle: `Predictor` (battery), `TracingPredictor`, or, of geometry,
    `TourPredictor`, `RouteFollower` (fitted on observed routes), `HullPredictor` or `DelaunayPredictor`."""
    opened = open_bundle(bundle)
    if opened.app == "geometry":
        return _geometry(opened, device)
    return (
        TracingPredictor(opened, device=device)
        if opened.app == "tracing"
        else Predictor(opened, device=device)
    )


def _geometry(bundle: Bundle, device: Device) -> GeometryPredictor:
    # scipy and numba cost half a second, which batteries and students need not pay
    if bundle.task == "hull":
        from .geometry.hulls import HullPredictor  # noqa: PLC0415

        return HullPredictor(bundle, device=device)
    if bundle.task == "delaunay":
        from .geometry.triangles import DelaunayPredictor  # noqa: PLC0415

        return DelaunayPredictor(bundle, device=device)
    if bundle.kind == "routes":
        from .geometry.following import RouteFollower  # noqa: PLC0415

        return RouteFollower(bundle, device=device)
    from .geometry.tours import TourPredictor  # noqa: PLC0415

    return TourPredictor(bundle, device=device)


def open_stream(
    bundle: str | Path | Bundle, state: str | Path | None = None, *, device: Device = "cpu"
) -> StreamSession | TracingSession:
    """The session that takes one observation at a time: `StreamSession` (battery, online) or `TracingSession`.

    Raises:
        ValueError: a bundle of geometry, which has no observations one at a time.
    """
    opened = open_bundle(bundle)
    if opened.app == "tracing":
        return TracingSession(opened, state, device=device)
    if opened.app == "geometry":
        raise ValueError(
            f"{opened.path}: task '{opened.task}' answers whole sets of points; use `remem predict`, or open_predictor"
        )
    return StreamSession(opened, state, device=device)

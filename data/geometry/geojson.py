"""GeoJSON (RFC 7946): places in, routes and hulls out. Coordinates there are [longitude, latitude].

Read: the Point features of a file are one instance; every MultiPoint is one of its own. Other geometries are named in
the notes and left out. Lengths are haversine, in km.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic
from .instances import check_points
from .tsplib import Problem

SUFFIXES = (".geojson", ".json")


def read_geojson(path: str | Path) -> list[Problem]:
    """The instances in a file, (latitude, longitude) each.

    Raises:
        ValueError: missing, not GeoJSON, no points, coordinates that are none on the globe.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not GeoJSON ({error}); wanted a FeatureCollection of points") from error
    points: list[Any] = []
    several: list[tuple[str, Any]] = []
    others: list[str] = []
    for feature in _features(content, path):
        geometry = feature.get("geometry") or {}
        kind, where = geometry.get("type"), geometry.get("coordinates")
        if kind == "Point":
            points.append(where)
        elif kind == "MultiPoint":
            name = (feature.get("properties") or {}).get("name", feature.get("id", len(several)))
            several.append((str(name), where))
        else:
            others.append(str(kind))
    notes = (f"{len(others)} features that are no points left out: {', '.join(sorted(set(others)))}",)
    named = [(path.stem, points)] * bool(points) + several
    if not named:
        raise ValueError(f"{path}: no Point and no MultiPoint; wanted the places to visit")
    return [
        Problem(name, _places(where, f"{path}: {name}"), None, "haversine", notes=notes if others else ())
        for name, where in named
    ]


def write_geojson(
    path: str | Path, lines: Sequence[tuple[np.ndarray, dict[str, Any]]], kind: str = "LineString"
) -> None:
    """Write lines, or polygons, with their properties; the file is there whole or not at all.

    Args:
        lines: (k, 2) places (latitude, longitude) in order, a closed one with its first place again at the end.
        kind: "LineString" or "Polygon".
    """
    features = []
    for places, properties in lines:
        where: Any = np.asarray(places, np.float64)[:, ::-1].tolist()
        geometry = {"type": kind, "coordinates": [where] if kind == "Polygon" else where}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    with atomic(Path(path)) as file:
        file.write(json.dumps({"type": "FeatureCollection", "features": features}).encode())


def _features(content: Any, path: Path) -> list[dict[str, Any]]:
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "FeatureCollection" and isinstance(content.get("features"), list):
        return [feature for feature in content["features"] if isinstance(feature, dict)]
    if kind == "Feature":
        return [content]
    if kind in ("Point", "MultiPoint"):
        return [{"geometry": content}]
    raise ValueError(f"{path}: type is {kind!r}; wanted a FeatureCollection of points")


def _places(where: Any, place: str) -> np.ndarray:
    if not isinstance(where, list) or not all(isinstance(one, list) and len(one) >= 2 for one in where):
        raise ValueError(f"{place}: wanted [longitude, latitude] of every point")
    degrees = check_points([one[:2] for one in where], place)[:, ::-1]  # a height may follow
    if (wrong := np.abs(degrees[:, 0]) > 90).any():
        at = int(wrong.argmax())
        raise ValueError(
            f"{place}: latitude {degrees[at, 0]:g} at point {at}; wanted -90 to 90; the order is longitude, latitude"
        )
    return np.ascontiguousarray(degrees)

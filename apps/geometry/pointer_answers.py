"""The three tasks as sequences of pointers: what a pointer network is taught, and what its answers are worth.

Labels come in any valid form and leave in one that can be learnt from the points alone, since a network that reads a
set does not know which point has which number:
- tsp: from point 0, counter-clockwise by the sign of the area;
- hull: as it is, counter-clockwise from the leftmost point;
- delaunay: triangles by the x of their incentres, each counter-clockwise from its leftmost point. The paper orders
  triangles by the incentre, too; inside a triangle it takes increasing numbers.
Hulls and triangles end by the end symbol, number N.

Source of the orders: Vinyals, Fortunato & Jaitly 2015 (arXiv 1506.03134), section 3.
Shape legend: B batch, N points, M triangles, L length of an answer, 2 coordinates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...data.geometry.delaunay import same_triangles, triangle_coverage
from ...data.geometry.hull import area_ratio, same_place

RULE_OF = {"tsp": "tour", "hull": "polygon", "delaunay": "triangles"}
"""Rules of `core.pointer_rules` by task."""


def taught(task: str, xy_BN2: Tensor, label_BL: Tensor) -> Tensor:
    """Actions (B, L or L + 1) int64 that the network is to take, -1 behind the last."""
    if task == "tsp":
        return _from_first(xy_BN2, label_BL)
    if task == "delaunay":
        label_BL = _by_incentre(xy_BN2, label_BL)
    end_B1 = (label_BL >= 0).sum(1, keepdim=True)
    ended_BL = torch.cat([label_BL, torch.full_like(end_B1, -1)], 1)
    return ended_BL.scatter(1, end_B1, xy_BN2.shape[1])


def shuffled(task: str, xy_BN2: Tensor, label_BL: Tensor) -> tuple[Tensor, Tensor]:
    """The same instances with their points in another order and, where `taught` turns labels round, mirrored."""
    order_BN = torch.rand_like(xy_BN2[..., 0]).argsort(1)
    number_BL = order_BN.argsort(1).gather(1, label_BL.clamp(min=0))
    xy_BN2 = _at(xy_BN2, order_BN)
    if task != "hull":
        xy_BN2 = torch.where(torch.rand_like(xy_BN2[:, :1]) < 0.5, 1 - xy_BN2, xy_BN2)
        swapped_B11 = torch.rand_like(xy_BN2[:, :1, :1]) < 0.5
        xy_BN2 = torch.where(swapped_B11, xy_BN2.flip(-1), xy_BN2)
    return xy_BN2, torch.where(label_BL < 0, label_BL, number_BL)


def figures(task: str, xy_BN2: Tensor, answer_BL: Tensor, label_BL: Tensor) -> dict[str, float]:
    """What greedy answers are worth beside the labels: means over a batch.

    tsp: `gap`, length over that of the label, minus 1. hull: `exact`, share of hulls with the right corners in order;
    `area`, share of the true area, of polygons that do not cross themselves; `invalid`, share of those that do.
    delaunay: `exact`, share of triangulations that are right; `coverage`, share of the true triangles.
    """
    xy = xy_BN2.double().numpy()
    answers, labels = ([row[row >= 0] for row in part.numpy()] for part in (answer_BL, label_BL))
    rows = list(zip(xy, answers, labels, strict=True))
    if task == "tsp":
        return {"gap": float(np.mean([_length(xy, a) / _length(xy, b) - 1 for xy, a, b in rows]))}
    if task == "hull":
        area = np.array([area_ratio(xy, a, b) for xy, a, b in rows])
        valid = area[~np.isnan(area)]
        return {
            "exact": float(np.mean([same_place(xy, a, b) for xy, a, b in rows])),
            "area": float(valid.mean()) if len(valid) else float("nan"),
            "invalid": float(np.isnan(area).mean()),
        }
    triples = [(a[: len(a) // 3 * 3].reshape(-1, 3), b.reshape(-1, 3)) for _, a, b in rows]
    return {
        "exact": float(np.mean([same_triangles(a, b) for a, b in triples])),
        "coverage": float(np.mean([triangle_coverage(a, b) for a, b in triples])),
    }


def _from_first(xy_BN2: Tensor, tour_BN: Tensor) -> Tensor:
    n = tour_BN.shape[1]
    place_BN2 = _at(xy_BN2, tour_BN)
    after_BN2 = place_BN2.roll(-1, 1)
    area_B = (place_BN2[..., 0] * after_BN2[..., 1] - place_BN2[..., 1] * after_BN2[..., 0]).sum(1)
    way_B1 = torch.where(area_B < 0, -1, 1)[:, None]
    first_B1 = (tour_BN == 0).long().argmax(1, keepdim=True)
    return tour_BN.gather(1, (first_B1 + way_B1 * torch.arange(n, device=tour_BN.device)) % n)


def _by_incentre(xy_BN2: Tensor, label_BL: Tensor) -> Tensor:
    corner_BM3 = label_BL.unflatten(1, (-1, 3))
    there_BM = corner_BM3[..., 0] >= 0
    place_BM32 = _at(xy_BN2, label_BL.clamp(min=0)).unflatten(1, (-1, 3))
    # counter-clockwise, whatever it was
    one_BM2, two_BM2 = place_BM32[:, :, 1] - place_BM32[:, :, 0], place_BM32[:, :, 2] - place_BM32[:, :, 0]
    clockwise_BM = one_BM2[..., 0] * two_BM2[..., 1] < one_BM2[..., 1] * two_BM2[..., 0]
    turn_3 = torch.arange(3, device=label_BL.device)
    turned_BM3 = torch.where(clockwise_BM[..., None], -turn_3, turn_3)
    x_BM3 = place_BM32[..., 0].gather(2, turned_BM3 % 3)
    order_BM3 = turned_BM3.gather(2, (x_BM3.argmin(2, keepdim=True) + turn_3) % 3) % 3
    corner_BM3 = corner_BM3.gather(2, order_BM3)
    # the incentre is the mean of the corners, each weighed by the length of the side across
    side_BM3 = (place_BM32.roll(-1, 2) - place_BM32.roll(-2, 2)).norm(dim=-1)
    x_BM = (side_BM3 * place_BM32[..., 0]).sum(2) / side_BM3.sum(2)
    place_BM = x_BM.masked_fill(~there_BM, torch.inf).argsort(1)
    return corner_BM3.gather(1, place_BM[..., None].expand(-1, -1, 3)).flatten(1)


def _at(xy_BN2: Tensor, number_BL: Tensor) -> Tensor:
    return xy_BN2.gather(1, number_BL[..., None].expand(-1, -1, 2))


def _length(xy: np.ndarray, tour: np.ndarray) -> float:
    return float(np.linalg.norm(xy[tour] - xy[np.roll(tour, -1)], axis=1).sum())

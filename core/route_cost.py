"""What a driver's next step costs, learned: the straight way, slowed by the map, lengthened by habits of places.

    cost(i -> j) = d_ij exp(g_ij) s_ij + h_ij

- s is the mean of a learned slowness along the straight line, which depends on where it is and which way it is driven:
  grids of several sizes laid over the city, each cell with five harmonics of the direction.
- g and h see both places themselves, not only how far apart they are: through random waves over the city and a network
  over the pair, and through a soft map of districts with learned tables of passing from one to another.
All begin without effect: before training a route is planned by plain distance.

Sources: Tancik et al. 2020 (random Fourier features, arXiv 2006.10739); Mueller et al. 2022 (grids of several sizes,
arXiv 2201.05989). The line of slowness and the tables of districts are ours.
Shape legend: B batch, N places, D width, K districts, F waves, P pair features, S samples of a line, C a grid's cells
a side, W harmonics of the direction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAIR = 4
WAYS = 5
"""Harmonics: 1, cos, sin, cos 2, sin 2 of the direction."""
CELLS = (4, 8, 16, 32)
REACH = 2.0
"""Standard deviations of the places from the middle to the rim of the grids; beyond, the rim goes on."""
SAMPLES = 10
"""Points of a straight line at which the slowness is read."""
LEAST, MOST = -3.0, 5.0
"""Of logarithms of factors on the distance."""
SHARPNESS = 4.0
"""Cost of a typical step before training: a route that costs one unit more is e times less likely."""


class RouteCost(nn.Module):
    """Costs between all places of a route.

    Args:
        d_model: width D.
        districts: K of the soft map.
        frequencies: F, random waves over the city.
        fineness: of the finest waves: radians over a standard deviation of the places.
        seed: of the waves.
    """

    centre: Tensor
    spread: Tensor
    step: Tensor
    waves: Tensor

    def __init__(
        self,
        d_model: int = 64,
        *,
        districts: int = 16,
        frequencies: int = 32,
        fineness: float = 8.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("step", torch.ones(()))
        random = torch.Generator().manual_seed(seed)
        angle_F = torch.rand(frequencies, generator=random) * 2 * torch.pi
        size_F = fineness ** torch.rand(frequencies, generator=random)
        self.register_buffer("waves", torch.stack([angle_F.cos(), angle_F.sin()]) * size_F)
        self.encode = nn.Sequential(
            nn.Linear(2 + 2 * frequencies, d_model), nn.GELU(), nn.Linear(d_model, d_model)
        )
        self.leave = nn.Linear(d_model, d_model)
        self.arrive = nn.Linear(d_model, d_model, bias=False)
        self.between = nn.Linear(PAIR, d_model, bias=False)
        self.hidden = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, 2)
        self.map = nn.Linear(d_model, districts)
        self.tables = nn.Parameter(torch.zeros(2, districts, districts))
        self.grids = nn.ParameterList(torch.zeros(WAYS, cells, cells) for cells in CELLS)
        for cells in CELLS:
            self.register_buffer(f"up_{cells}", _hats(cells, CELLS[-1]), persistent=False)
        self.log_scale = nn.Parameter(torch.tensor(SHARPNESS).log())
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def fit_units(self, xy_M2: Tensor, step: float) -> None:
        """Take the middle and the spread of all M places seen, and the length of a typical step in their unit."""
        self.centre.copy_(xy_M2.mean(0))
        self.spread.copy_((xy_M2 - self.centre).square().sum(1).mean().div(2).sqrt().clamp(min=1e-12))
        self.step.fill_(max(step, 1e-12))

    def forward(self, xy_BN2: Tensor) -> Tensor:
        """(B, N, N) costs of going from the row's place to the column's; the diagonal means nothing."""
        p_BN2 = (xy_BN2 - self.centre) / self.spread
        angle_BNF = p_BN2 @ self.waves
        e_BND = self.encode(torch.cat([p_BN2, angle_BNF.sin(), angle_BNF.cos()], -1))
        away_BNN2 = p_BN2[:, None] - p_BN2[:, :, None]  # from the row's place to the column's
        d_BNN1 = (
            away_BNN2.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
        )  # a sum that small is optimised away
        pair_BNNP = torch.cat([away_BNN2, d_BNN1, torch.log(d_BNN1 + 0.1)], -1)
        x_BNND = self.leave(e_BND)[:, :, None] + self.arrive(e_BND)[:, None] + self.between(pair_BNNP)
        x_BNND = nn.functional.gelu(self.hidden(nn.functional.gelu(x_BNND)))
        z_B1NK = self.map(e_BND).softmax(-1)[:, None]
        table_B2NN = z_B1NK @ self.tables @ z_B1NK.transpose(2, 3)
        g_BNN, h_BNN = (self.out(x_BNND).permute(0, 3, 1, 2) + table_B2NN).unbind(1)
        slow_BNN = self._slowness(p_BN2, away_BNN2, d_BNN1)
        d_BNN = d_BNN1[..., 0] * (self.spread / self.step)
        return (d_BNN * torch.exp(g_BNN.clamp(LEAST, MOST)) * slow_BNN + h_BNN) * torch.exp(self.log_scale)

    def slowness(self, xy_M2: Tensor, way_M2: Tensor) -> Tensor:
        """(M,) learned slowness at places, driven along unit vectors: 1 before training. For maps."""
        p_1M2 = ((xy_M2 - self.centre) / self.spread)[None]
        x_M, y_M = way_M2.unbind(-1)
        return torch.exp((self._field(p_1M2)[0] * _harmonics(x_M, y_M)).sum(0).clamp(LEAST, MOST))

    def _field(self, p_BM2: Tensor) -> Tensor:
        """(B, W, M) harmonics of the log slowness at standardised places."""
        fine_WCC = torch.stack(
            [up @ grid @ up.T for up, grid in zip(self._ups(), self.grids, strict=True)]
        ).sum(0)
        field_BWM1 = nn.functional.grid_sample(
            fine_WCC[None].expand(p_BM2.shape[0], -1, -1, -1),
            (p_BM2 / REACH)[:, :, None],
            align_corners=True,
            padding_mode="border",
        )
        return field_BWM1[..., 0]

    def _ups(self) -> list[Tensor]:
        """Of each grid, the matrix that puts lines of it on the cells of the finest."""
        return [getattr(self, f"up_{cells}") for cells in CELLS]

    def _slowness(self, p_BN2: Tensor, away_BNN2: Tensor, d_BNN1: Tensor) -> Tensor:
        """(B, N, N) mean slowness of the straight lines."""
        batch, n = p_BN2.shape[:2]
        ways_WBNN = _harmonics(*(away_BNN2 / d_BNN1).unbind(-1))
        share_S1 = (torch.arange(SAMPLES, device=p_BN2.device)[:, None] + 0.5) / SAMPLES
        at_BNNS2 = p_BN2[:, :, None, None] + share_S1 * away_BNN2[:, :, :, None]
        field_BWNNS = self._field(at_BNNS2.reshape(batch, n * n * SAMPLES, 2)).unflatten(2, (n, n, SAMPLES))
        log_BNNS = (field_BWNNS * ways_WBNN.transpose(0, 1)[..., None]).sum(1)
        return torch.exp(log_BNNS.clamp(LEAST, MOST)).mean(-1)


def _hats(cells: int, finest: int) -> Tensor:
    """(finest, cells) linear interpolation of a line of `cells` numbers at `finest` places, both ends included."""
    at_C1 = torch.linspace(0, cells - 1, finest)[:, None]
    return (1 - (at_C1 - torch.arange(cells)).abs()).clamp(min=0)


def _harmonics(x: Tensor, y: Tensor) -> Tensor:
    """(W, ...) of the direction (x, y), a unit vector."""
    return torch.stack([torch.ones_like(x), x, y, x * x - y * y, 2 * x * y])

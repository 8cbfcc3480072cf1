"""Plain recurrent nets on the capacity matrix: RNN, GRU and LSTM, each with and without additive attention.

The deep models of Hilal and Saha (arXiv 2312.05717), as rows of the benchmark table: they show what the raw curves give
to a net that is handed no battery knowledge. The matrix is downsampled so that a fit takes a second.

Shape legend: N cells, B batch, T steps, V voltages, D width.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from ...data.battery.early import repair
from ...data.battery.schema import conform, curve_matrix

KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
RECURRENT = tuple(f"{kind}{attention}" for kind in KINDS for attention in ("", "_attention"))
"""Names that `fit_recurrent` takes."""


def capacity_matrix(
    curves: pl.DataFrame, *, max_cycle: int = 100, steps: int = 20, voltages: int = 20
) -> np.ndarray:
    """(N, steps, voltages) Ah: how far the mean curve of each twentieth of the cycles has moved from the first one.

    Args:
        curves: `cell_id, cycle, q_ah`; cells keep their order of first appearance. Spikes are repaired.
        max_cycle: later cycles are not looked at.
    """
    curves, _ = conform(curves, "curves", source="capacity_matrix")
    edges = np.linspace(1, max_cycle, steps + 1)
    cells = []
    for cell in curves.filter(pl.col("cycle") <= max_cycle).partition_by("cell_id", maintain_order=True):
        cycle = cell["cycle"].to_numpy()
        q_CV, _ = repair(curve_matrix(cell).astype(np.float64), str(cell["cell_id"][0]))
        means = []
        for low, high in pairwise(edges):
            inside = (cycle > low) & (cycle <= high)
            nearest = np.abs(cycle - (low + high) / 2).argmin()
            means.append(q_CV[inside].mean(0) if inside.any() else q_CV[nearest])
        q_TV = np.stack(means)[:, :: q_CV.shape[1] // voltages]
        cells.append(q_TV - q_TV[0])
    return np.stack(cells).astype(np.float32)


class Recurrent(nn.Module):
    """x_BTV -> (B,) standardised log life: one recurrent layer, read at its last step or through attention.

    Attention is additive (Bahdanau) pooling of all outputs: softmax over v . tanh(W h_t).
    """

    def __init__(self, kind: str, *, voltages: int, attention: bool, d_model: int = 16) -> None:
        super().__init__()
        self.cell = KINDS[kind](voltages, d_model, batch_first=True)
        self.score = (
            nn.Sequential(nn.Linear(d_model, d_model), nn.Tanh(), nn.Linear(d_model, 1))
            if attention
            else None
        )
        self.head = nn.Linear(d_model, 1)

    def forward(self, x_BTV: Tensor) -> Tensor:
        h_BTD, _ = self.cell(x_BTV)
        if self.score is None:
            return self.head(h_BTD[:, -1])[:, 0]
        return self.head((self.score(h_BTD).softmax(dim=1) * h_BTD).sum(dim=1))[:, 0]


class FittedRecurrent:
    """`predict` of a fitted net: (N, T, V) matrices -> (N,) lives in cycles."""

    def __init__(self, net: Recurrent, scale_V: Tensor, centre: float, spread: float) -> None:
        self.net, self.scale_V, self.centre, self.spread = net, scale_V, centre, spread

    def predict(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = self.net(torch.from_numpy(x) / self.scale_V).double().numpy()
        return np.asarray(10 ** (out * self.spread + self.centre))


def fit_recurrent(
    name: str, x: np.ndarray, y: np.ndarray, *, seed: int = 0, epochs: int = 150
) -> FittedRecurrent:
    """Fit one of `RECURRENT` in log10 life on (N, T, V) matrices and (N,) lives, all cells in one batch."""
    if name not in RECURRENT:
        raise ValueError(f"there is no recurrent baseline {name!r}; choose from {', '.join(RECURRENT)}")
    torch.manual_seed(seed)
    kind, _, attention = name.partition("_")
    net = Recurrent(kind, voltages=x.shape[2], attention=bool(attention))
    rows = torch.from_numpy(x)
    scale_V = rows[:, -1].std(0) + 1e-4
    log_life = np.log10(y)
    centre, spread = float(log_life.mean()), float(log_life.std()) or 1.0
    target = torch.from_numpy((log_life - centre) / spread).float()
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        noisy = rows / scale_V
        noisy = noisy + 0.1 * torch.randn_like(noisy)  # forty cells are few: blur them a little
        loss = nn.functional.mse_loss(net(noisy), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return FittedRecurrent(net.eval(), scale_V, centre, spread)

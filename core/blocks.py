"""The residual block around a layer.

Shape legend: B batch, T time, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .state import SequenceLayer, State


class Block(nn.Module):
    """x + layer(norm(x)), then x + feedforward(norm(x)): a pre-norm transformer block around any layer.

    Args:
        layer: the layer, of width `d_model`; its state is the block's state.
        d_model: width D.
        ff_mult: hidden width of the feed-forward part, in units of `d_model`.
        dropout: probability, on both branches.
    """

    def __init__(self, layer: SequenceLayer, d_model: int, *, ff_mult: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = layer
        self.layer_norm = nn.LayerNorm(d_model)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, ff_mult * d_model),
            nn.GELU(),
            nn.Linear(ff_mult * d_model, d_model),
            nn.Dropout(dropout),
        )
        self.dropout = nn.Dropout(dropout)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return self.layer.init_state(batch_size, device=device, dtype=dtype)

    def forward(
        self, x_BTD: Tensor, state: State = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y_BTD, state = self.layer.forward(self.layer_norm(x_BTD), state, mask_BT=mask_BT)
        return self._residuals(x_BTD, y_BTD), state

    def step(self, x_BD: Tensor, state: State, *, mask_B: Tensor | None = None) -> tuple[Tensor, State]:
        y_BD, state = self.layer.step(self.layer_norm(x_BD), state, mask_B=mask_B)
        return self._residuals(x_BD, y_BD), state

    def _residuals(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.dropout(y)
        return x + self.feedforward(x)

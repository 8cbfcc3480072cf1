"""The one stack: features -> preprocess -> embed -> blocks -> head -> calibration, itself a sequence layer.

Shape legend: B batch, N sequences, T time, F raw features, D model width, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .blocks import Block
from .layers.aaren import Aaren
from .state import SequenceLayer, State


class ModelState(NamedTuple):
    """State of the running features (`()` without them) and of each block."""

    features: State
    blocks: tuple[State, ...]


class SequenceModel(nn.Module):
    """Raw features (B, T, F) to outputs (B, T, O), in parallel or step by step.

    Args:
        num_features: F, columns of the raw input.
        num_outputs: O of the network's head; a calibration may change the number of columns.
        layer: makes a layer of a given width, once per block.
        d_model: width D of the blocks.
        num_layers: number of blocks; 0 leaves a network without memory behind the running features.
        ff_mult: hidden width of the feed-forward parts, in units of `d_model`.
        dropout: probability, in every block and on the embedding.
        linear_skip: adds a linear read-out of the preprocessed step to the head, whose own last layer then starts
            at zero: the blocks learn what a linear model misses. For small data.
        features: running features, a sequence layer from F to its `out_features` columns, before
            `preprocess`; it sees missing values as NaN.
        preprocess: module on (..., columns) with `in_features`, `out_features` and `fit`, as `Standardize`.
        calibration: module on the head's output (..., O), as `ConformalInterval`; usually set after training:
            `model.calibration = ...`.

    Raises:
        ValueError: where the widths of `features` and `preprocess` do not meet.
    """

    features: Any  # modules, each with the methods told above
    preprocess: Any
    blocks: Any
    calibration: Any

    def __init__(
        self,
        num_features: int,
        num_outputs: int,
        *,
        layer: Callable[[int], SequenceLayer] = Aaren,
        d_model: int = 64,
        num_layers: int = 2,
        ff_mult: int = 2,
        dropout: float = 0.0,
        linear_skip: bool = False,
        preprocess: nn.Module | None = None,
        features: nn.Module | None = None,
        calibration: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.num_features, self.num_outputs = num_features, num_outputs
        self.features, self.preprocess, self.calibration = features, preprocess, calibration
        columns = num_features if features is None else self.features.out_features
        if preprocess is not None and preprocess.in_features != columns:
            raise ValueError(
                f"SequenceModel: preprocess takes {preprocess.in_features} columns, but gets {columns} "
                f"from the {'input' if features is None else 'running features'}; make them agree"
            )
        embedded = columns if preprocess is None else self.preprocess.out_features
        self.embed = nn.Sequential(nn.Linear(embedded, d_model), nn.Dropout(dropout))
        self.blocks = nn.ModuleList(
            Block(layer(d_model), d_model, ff_mult=ff_mult, dropout=dropout) for _ in range(num_layers)
        )
        self.head = nn.Sequential(
            nn.LayerNorm(d_model), nn.Linear(d_model, d_model), nn.GELU(), nn.Linear(d_model, num_outputs)
        )
        self.skip = nn.Linear(embedded, num_outputs) if linear_skip else None
        if linear_skip:
            for parameter in self.head[-1].parameters():
                nn.init.zeros_(parameter)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> ModelState:
        options = {"device": device, "dtype": dtype}
        features = () if self.features is None else self.features.init_state(batch_size, **options)
        return ModelState(features, tuple(block.init_state(batch_size, **options) for block in self.blocks))

    def forward(
        self, x_BTF: Tensor, state: ModelState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, ModelState]:
        if state is None:
            state = self.init_state(x_BTF.shape[0], device=x_BTF.device, dtype=x_BTF.dtype)
        features: State = ()
        if self.features is not None:
            x_BTF, features = self.features(x_BTF, state.features, mask_BT=mask_BT)
        z_BTF = self._preprocessed(x_BTF)
        x_BTD, blocks = self.embed(z_BTF), []
        for block, before in zip(self.blocks, state.blocks, strict=True):
            x_BTD, after = block(x_BTD, before, mask_BT=mask_BT)
            blocks.append(after)
        return self._read(x_BTD, z_BTF), ModelState(features, tuple(blocks))

    def step(
        self, x_BF: Tensor, state: ModelState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, ModelState]:
        features: State = ()
        if self.features is not None:
            x_BF, features = self.features.step(x_BF, state.features, mask_B=mask_B)
        z_BF = self._preprocessed(x_BF)
        x_BD, blocks = self.embed(z_BF), []
        for block, before in zip(self.blocks, state.blocks, strict=True):
            x_BD, after = block.step(x_BD, before, mask_B=mask_B)
            blocks.append(after)
        return self._read(x_BD, z_BF), ModelState(features, tuple(blocks))

    @torch.no_grad()
    def fit_preprocess(self, x_NTF: Tensor, mask_NT: Tensor | None = None) -> SequenceModel:
        """Fit the preprocessing on training sequences, after the running features; returns self."""
        if self.preprocess is not None:
            if self.features is not None:
                x_NTF, _ = self.features(x_NTF, mask_BT=mask_NT)
            self.preprocess.fit(x_NTF, mask_NT)
        return self

    def _preprocessed(self, x: Tensor) -> Tensor:
        return x if self.preprocess is None else self.preprocess(x)

    def _read(self, x: Tensor, z: Tensor) -> Tensor:
        y = self.head(x) if self.skip is None else self.head(x) + self.skip(z)
        return y if self.calibration is None else self.calibration(y)

"""Running features: averages, slopes and crossings of each column at several time scales, in constant memory.

One running softmax (`ops/softmax_scan`) whose score is position / tau is an exponential moving average over the last
tau positions that needs no start-up correction and takes irregular gaps as they are; a negative tau averages the first
|tau| positions instead. Averages of the position under the same weights turn differences of averages into slopes.

Slopes are small differences of large averages, so everything runs in float64, whatever the input: this is what keeps
the window and the step form together to float32 rounding over thousands of steps.

Shape legend: B batch, T time, F input columns, C averaged columns (all but the position), K time constants, S slopes,
V = 3 C values, L levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..ops.softmax_scan import SoftmaxState, empty_state, softmax_scan, softmax_step

APART = 0.25
"""Positions by which two averages must differ before a slope is read from them."""

NEAREST, FARTHEST = 1e-3, 1e5
"""Smallest distance to a level (units of the column) and largest extrapolated number of positions to it."""

FADED = 1e-30
"""Share of the weight below which a column counts as not seen: missing for about 70 time constants, or always."""


class RunningFeatures(nn.Module):
    """From raw columns (B, T, F) to (B, T, out_features), named in `out_names`. It has no parameters.

    Outputs, in order: for each time constant the average of each column; for each pair in `slopes` the change of each
    column per position; for each level the log of the positions left until the column falls to it, by each slope in
    turn, and the log of the distance to it; log(1 + position). A column that was missing (NaN, infinite) so far, or a
    slope without two separate positions behind it, gives NaN; a single missing value is left out of the averages.

    Args:
        names: the F column names, in order.
        position: the column that counts (cycle, time); finite, the others are averaged against it.
        time_constants: the tau of each average, in units of `position`; negative for an average of the first |tau|.
        slopes: pairs of time constants; the slope is the difference of the two averages of a column over that of the
            position.
        levels: by column, the levels of which the crossing from above is extrapolated.

    Raises:
        ValueError: where a name is unknown or twice, a time constant is 0, or a slope is not of two time constants.
    """

    rate_K: Tensor

    def __init__(
        self,
        names: Sequence[str],
        *,
        position: str,
        time_constants: Sequence[float],
        slopes: Sequence[tuple[float, float]] = (),
        levels: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        levels = {} if levels is None else dict(levels)
        flat = [(name, float(level)) for name, some in levels.items() for level in some]
        unknown = sorted({position, *levels} - set(names))
        if unknown or len(set(names)) < len(names):
            raise ValueError(
                f"RunningFeatures: columns {unknown} are unknown or a name comes twice in {list(names)}"
            )
        if position in levels:
            raise ValueError(
                f"RunningFeatures: the position {position!r} has no level; give levels of other columns"
            )
        if 0 in time_constants or not {tau for pair in slopes for tau in pair} <= set(time_constants):
            raise ValueError(
                f"RunningFeatures: wanted time constants other than 0 and slopes between two of them; "
                f"got {list(time_constants)} and {list(slopes)}"
            )
        self.names, self.position = tuple(names), list(names).index(position)
        self.columns = [i for i in range(len(names)) if i != self.position]
        averaged = [names[i] for i in self.columns]
        self.fast = [list(time_constants).index(a) for a, _ in slopes]
        self.slow = [list(time_constants).index(b) for _, b in slopes]
        self.level_columns = [averaged.index(name) for name, _ in flat]
        self.levels = [level for _, level in flat]
        self.register_buffer("rate_K", torch.tensor([1.0 / tau for tau in time_constants]))
        self.out_names = (
            *(f"{name}.mean{tau:g}" for tau in time_constants for name in averaged),
            *(f"{name}.slope{a:g}_{b:g}" for a, b in slopes for name in averaged),
            *(f"{name}.left{a:g}_{b:g}.{level:g}" for a, b in slopes for name, level in flat),
            *(f"{name}.above.{level:g}" for name, level in flat),
            f"{position}.log",
        )
        self.out_features = len(self.out_names)

    def init_state(
        self, batch_size: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> SoftmaxState:
        """Always float64, whatever `dtype`: see the head of this file."""
        width = 3 * len(self.columns)
        return empty_state(batch_size, len(self.rate_K), width, device=device, dtype=torch.float64)

    def forward(
        self, x_BTF: Tensor, state: SoftmaxState | None = None, *, mask_BT: Tensor | None = None
    ) -> tuple[Tensor, SoftmaxState]:
        s_BTK, v_BTV = self._scores_and_values(x_BTF)
        v_BKTV = v_BTV[:, None].expand(-1, len(self.rate_K), -1, -1)
        o_BKTV, state = softmax_scan(s_BTK.transpose(1, 2), v_BKTV, state, mask_BT=mask_BT)
        return self._read(o_BKTV.transpose(1, 2), x_BTF), state

    def step(
        self, x_BF: Tensor, state: SoftmaxState, *, mask_B: Tensor | None = None
    ) -> tuple[Tensor, SoftmaxState]:
        s_BK, v_BV = self._scores_and_values(x_BF)
        v_BKV = v_BV[:, None].expand(-1, len(self.rate_K), -1)
        o_BKV, state = softmax_step(s_BK, v_BKV, state, mask_B=mask_B)
        return self._read(o_BKV, x_BF), state

    def _scores_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., K) scores and (..., 3 C) values: each column, whether it is there, and the position where it is."""
        x = x.double()
        position, x = x[..., self.position, None], x[..., self.columns]
        there = torch.isfinite(x)
        values = torch.cat([x.masked_fill(~there, 0.0), there.double(), position * there], -1)
        return position * self.rate_K.double(), values

    def _read(self, o_KV: Tensor, x_F: Tensor) -> Tensor:
        """Averages (..., K, V) and raw columns (..., F) to features (..., out_features), in the type of the input."""
        sum_KC, there_KC, position_KC = o_KV.chunk(3, -1)
        seen_KC = there_KC > FADED
        weight_KC = torch.where(seen_KC, there_KC, 1.0)
        mean_KC, position_KC = sum_KC / weight_KC, position_KC / weight_KC
        fast, slow = self.fast, self.slow
        apart_SC = position_KC[..., fast, :] - position_KC[..., slow, :]
        known_SC = seen_KC[..., fast, :] & seen_KC[..., slow, :] & (apart_SC > APART)
        slope_SC = (mean_KC[..., fast, :] - mean_KC[..., slow, :]) / torch.where(known_SC, apart_SC, 1.0)

        at = self.level_columns
        level_L = torch.tensor(self.levels, dtype=torch.float64, device=x_F.device)
        above_KL = (mean_KC[..., at] - level_L).clamp(min=NEAREST)
        falling_SL = (-slope_SC[..., at]).clamp(min=NEAREST / FARTHEST)
        left_SL = (above_KL[..., fast, :] / falling_SL).clamp(1.0, FARTHEST).log()
        parts = [
            mean_KC.masked_fill(~seen_KC, torch.nan),
            slope_SC.masked_fill(~known_SC, torch.nan),
            left_SL.masked_fill(~known_SC[..., at], torch.nan),
            above_KL[..., :1, :].log().masked_fill(~seen_KC[..., :1, at], torch.nan),
            x_F[..., self.position, None, None].double().clamp(min=0).log1p(),
        ]
        return torch.cat([part.flatten(-2) for part in parts], -1).to(x_F.dtype)

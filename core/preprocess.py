"""Raw features to network inputs, inside the graph: log, standardise, clip, flag what is missing.

Everything fitted is a buffer, so it travels with the weights and into the ONNX file.
Shape legend: ... any leading axes, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """(x - mean) / std of each column, with missing values (NaN, infinities) at 0 and a flag column for each.

    Output: (..., 2 F) values then flags, or (..., F) without flags. A flag is 1 where the value is missing;
    columns never missing in `fit` keep their flag at 0, since the network has not learned what it would mean.

    Args:
        names: the F column names, in order.
        log: names of columns taken as log(max(x, smallest positive value seen in `fit`)).
        flags: whether to append the flag columns.
        clip: bound on the standardised values.
        compress: whether to take sign(z) log(1 + |z|) of the standardised values, for columns with heavy tails.

    Raises:
        ValueError: where `log` names an unknown column or a name comes twice.
    """

    mean_F: Tensor
    std_F: Tensor
    log_F: Tensor
    floor_F: Tensor
    flagged_F: Tensor

    def __init__(
        self,
        names: Sequence[str],
        *,
        log: Sequence[str] = (),
        flags: bool = True,
        clip: float = 10.0,
        compress: bool = False,
    ) -> None:
        super().__init__()
        unknown = sorted(set(log) - set(names))
        if unknown or len(set(names)) < len(names):
            raise ValueError(
                f"Standardize: log columns {unknown} are unknown or a name comes twice in {list(names)}"
            )
        self.names, self.flags, self.clip, self.compress = tuple(names), flags, clip, compress
        self.in_features = len(self.names)
        self.out_features = (1 + flags) * self.in_features
        ones_F = torch.ones(self.in_features)
        self.register_buffer("mean_F", torch.zeros_like(ones_F))
        self.register_buffer("std_F", ones_F)
        self.register_buffer("log_F", torch.tensor([name in log for name in self.names], dtype=torch.bool))
        self.register_buffer("floor_F", 1e-12 * ones_F)
        self.register_buffer("flagged_F", ones_F.clone())

    def forward(self, x_F: Tensor) -> Tensor:
        missing_F = ~torch.isfinite(x_F)
        z_F = (self._logged(x_F.masked_fill(missing_F, 1.0)) - self.mean_F) / self.std_F
        z_F = z_F.clamp(-self.clip, self.clip).masked_fill(missing_F, 0.0)
        if self.compress:
            z_F = z_F.sign() * z_F.abs().log1p()
        return torch.cat([z_F, missing_F.to(z_F.dtype) * self.flagged_F], -1) if self.flags else z_F

    @torch.no_grad()
    def fit(self, x_F: Tensor, mask: Tensor | None = None) -> Standardize:
        """Set the buffers from training rows (..., F), those where `mask` (...) is True; returns self.

        Constant columns get a std of 1.

        Raises:
            ValueError: where a column holds no value at all, or a log column no positive one.
        """
        if x_F.shape[-1] != self.in_features:
            raise ValueError(
                f"Standardize.fit: x has {x_F.shape[-1]} columns, wanted {self.in_features}: {self.names}"
            )
        x_NF = (x_F.reshape(-1, self.in_features) if mask is None else x_F[mask]).double()
        present_NF = torch.isfinite(x_NF)
        positive_NF = present_NF & (x_NF > 0)
        useful_F = torch.where(self.log_F, positive_NF.any(0), present_NF.any(0))
        if not useful_F.all():
            empty = [name for name, useful in zip(self.names, useful_F.tolist(), strict=True) if not useful]
            raise ValueError(
                f"Standardize.fit: columns {empty} hold no (for log: no positive) value in {len(x_NF)} rows; "
                "drop them"
            )
        floor_F = x_NF.masked_fill(~positive_NF, torch.inf).amin(0)
        self.floor_F.copy_(torch.where(self.log_F, floor_F, 1.0))
        z_NF = self._logged(x_NF.masked_fill(~present_NF, 1.0)).masked_fill(~present_NF, 0.0)
        count_F = present_NF.sum(0)
        mean_F = z_NF.sum(0) / count_F
        std_F = ((z_NF - mean_F).masked_fill(~present_NF, 0.0).square().sum(0) / count_F).sqrt()
        constant_F = std_F <= 1e-7 * (1 + mean_F.abs())
        self.mean_F.copy_(mean_F)
        self.std_F.copy_(std_F.masked_fill(constant_F, 1.0))
        self.flagged_F.copy_((~present_NF).any(0))
        return self

    def _logged(self, x_F: Tensor) -> Tensor:
        return torch.where(self.log_F, torch.maximum(x_F, self.floor_F.to(x_F.dtype)).log(), x_F)

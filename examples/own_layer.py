"""A memory layer of your own: a state, three methods, and the laws that every layer obeys.

Run it: python examples/own_layer.py

Train it, with this folder on PYTHONPATH: on the life of cells, on the answers of students, and as what a hull pointer
remembers of the points it took (as --model.encoder it reads the points in their order):

    remem battery fit --model.layer=own_layer.LeakyMean
    remem tracing fit --model.layer=own_layer.LeakyMean
    remem hull fit --config=pointer_network --model.kind=any --model.decoder=own_layer.LeakyMean

Its options follow its name: --model.layer.init_args.span=30
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from remem.core.ops.softmax_scan import SoftmaxState, empty_state, softmax_scan, softmax_step
from remem.core.testing import check_layer


class LeakyState(NamedTuple):
    mean: SoftmaxState


class LeakyMean(nn.Module):
    """The input plus a learned map of its exponential moving average over about `span` steps."""

    def __init__(self, d_model: int, *, span: float = 10.0) -> None:
        super().__init__()
        self.d_model, self.span = d_model, span
        self.out = nn.Linear(d_model, d_model)

    def init_state(self, batch_size, *, device=None, dtype=None):
        return LeakyState(empty_state(batch_size, 1, self.d_model, device=device, dtype=dtype))

    def forward(self, x_BTD: Tensor, state: LeakyState | None = None, *, mask_BT: Tensor | None = None):
        if state is None:  # shape[0], not len(): that would fix the batch when a graph is traced
            state = self.init_state(x_BTD.shape[0], device=x_BTD.device, dtype=x_BTD.dtype)
        s_BHT = x_BTD[:, None, :, 0] * 0
        mean_BHTD, after = softmax_scan(
            s_BHT, x_BTD[:, None], state.mean, decay_BHT=s_BHT + 1 / self.span, mask_BT=mask_BT
        )
        return x_BTD + self.out(mean_BHTD[:, 0]), LeakyState(after)

    def step(self, x_BD: Tensor, state: LeakyState, *, mask_B: Tensor | None = None):
        s_BH = x_BD[:, :1] * 0
        mean_BHD, after = softmax_step(
            s_BH, x_BD[:, None], state.mean, decay_BH=s_BH + 1 / self.span, mask_B=mask_B
        )
        return x_BD + self.out(mean_BHD[:, 0]), LeakyState(after)


if __name__ == "__main__":
    torch.manual_seed(0)
    checks = check_layer(LeakyMean)
    for law, count in checks.items():
        print(f"{law:<40} {count:>5} checks")
    print(f"{'in all':<40} {sum(checks.values()):>5}")

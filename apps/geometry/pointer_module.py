"""Pointer networks under Lightning: tours, hulls and triangulations with any layer as encoder and any as decoder.

They read coordinates as they are and are taught answers step by step. That is the seed paper's way; the local-frame
pointers (`tour_module.py`, `hull_module.py`, `delaunay_module.py`) are handed the geometry, and are far better.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ...core.decode import beam, greedy
from ...core.export_decoder import export_decoder
from ...core.layers.lstm import LSTM
from ...core.layers.set_attention import SetAttention
from ...core.pointer_network import PointerNetwork
from ...core.state import SequenceLayer
from ..module import Batch, TaskModule
from ..schedule import one_cycle
from .data import Task
from .local_bundle import write_local_bundle
from .pointer_answers import RULE_OF, figures, shuffled, taught

Kind = Literal["any", "paper"]
ANSWER = {"tsp": "tour", "hull": "hull", "delaunay": "triangles"}
TRACED, PROBES = (3, 37), ((1, 3), (5, 50), (2, 9))
"""Batch and number of points that are traced, and at which the graph is compared with torch."""


class PointerModule(TaskModule):
    """What is learnt, and how.

    Args:
        task: tsp, hull or delaunay.
        kind: "paper", the LSTM pointer network of Vinyals et al., of which only `d_model` can be chosen; or "any".
        encoder: makes an encoder layer of a width.
        decoder: makes the decoder layer of a width.
        d_model: width.
        num_layers: of the encoder.
        both_ways: a second encoder reads the points backwards.
        glimpses, clip: of the pointer, see `PointerAttention`.
        lr: of Adam, under a one-cycle schedule.
        width: of the beam that decodes; 1 is greedy.
    """

    def __init__(
        self,
        task: Task,
        kind: Kind = "any",
        encoder: Callable[[int], nn.Module] = SetAttention,
        decoder: Callable[[int], SequenceLayer] = LSTM,
        d_model: int = 96,
        num_layers: int = 2,
        both_ways: bool = False,
        glimpses: int = 0,
        clip: float | None = 10.0,
        lr: float = 1e-3,
        width: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if task not in get_args(Task):
            raise ValueError(f"--model.task is {task!r}; wanted one of {', '.join(get_args(Task))}")
        if kind not in get_args(Kind):
            raise ValueError(f"--model.kind is {kind!r}; wanted one of {', '.join(get_args(Kind))}")
        if kind == "paper":
            self.network = PointerNetwork.of_paper(RULE_OF[task], d_model=d_model)
        else:
            self.network = PointerNetwork(
                RULE_OF[task],
                encoder=encoder,
                decoder=decoder,
                d_model=d_model,
                num_layers=num_layers,
                both_ways=both_ways,
                glimpses=glimpses,
                clip=clip,
            )

    @property
    def title(self) -> str:
        if self.hparams.kind == "paper":
            return "LSTM pointer network"
        encoder, decoder = (
            type(getattr(part, "layer", part)).__name__
            for part in (self.network.encoder[0], self.network.decoder)
        )
        return f"pointer network, {encoder} to {decoder}"

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def loss(self, batch: Batch) -> Tensor:
        """Mean negative log-probability of a step. While training, points are shuffled, and mirrored where possible."""
        task, xy_BN2, label_BL = self.hparams.task, batch["x"], batch["label"]
        if self.training:
            xy_BN2, label_BL = shuffled(task, xy_BN2, label_BL)
        return taught_loss(task, self.network, xy_BN2, label_BL)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Of the decoded answers; see `pointer_answers.figures`."""
        answer_BL = self(batch["x"])
        found = figures(self.hparams.task, batch["x"].cpu(), answer_BL.cpu(), batch["label"].cpu())
        return {name: torch.tensor(value) for name, value in found.items()}

    @torch.no_grad()
    def forward(self, xy_BN2: Tensor) -> Tensor:
        """Answers (B, L) int64: tours, hulls or flat triangles, -1 behind the last."""
        answer_BL, _ = PointerDecoder(self.network, self.hparams.width)(
            xy_BN2, _all_there(xy_BN2), graph=False
        )
        return answer_BL

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch["x"])

    def write_bundle(self, folder: Path) -> None:
        """`greedy.onnx`: `xy` (batch, n, 2) and `real` (batch, n) to the answer and `log_p` (batch,)."""
        free = {0: "batch", 1: "n"}
        length = "n" if self.network.rule.per_point == 1 else "length"
        decoder = PointerDecoder(self.network, self.hparams.width)

        def export(part: Path) -> None:
            export_decoder(
                decoder,
                part / "greedy.onnx",
                inputs={"xy": free, "real": free},
                outputs={ANSWER[self.hparams.task]: {0: "batch", 1: length}, "log_p": {0: "batch"}},
                example=_problems(*TRACED),
                probes=[_problems(*shape) for shape in PROBES],
            )

        write_local_bundle(folder, self.hparams.task, export, self.record)


def taught_loss(task: Task, network: PointerNetwork, xy_BN2: Tensor, label_BL: Tensor) -> Tensor:
    """Mean negative log-probability of a step of the answers, in the order in which they are taught."""
    action_BL = taught(task, xy_BN2, label_BL)
    log_p_BL = network(xy_BN2, _all_there(xy_BN2), action_BL)
    return -log_p_BL.sum() / (action_BL >= 0).sum()


class PointerDecoder(nn.Module):
    """Points (B, N, 2) and which are there (B, N) to answers (B, L) and their log-probabilities (B,)."""

    def __init__(self, network: PointerNetwork, width: int = 1) -> None:
        super().__init__()
        self.network, self.width = network, width

    def forward(self, xy: Tensor, real: Tensor, graph: bool = True) -> tuple[Tensor, Tensor]:
        start, steps = self.network.start(xy, real), self.network.steps(xy.shape[1])
        if self.width == 1:
            state, log_p_B = greedy(self.network, start, steps, graph=graph)
        else:
            state, log_p_B = beam(self.network, start, steps, self.width, graph=graph)
        return state.answer, log_p_B


def _all_there(xy_BN2: Tensor) -> Tensor:
    return torch.ones_like(xy_BN2[..., 0], dtype=torch.bool)


def _problems(batch: int, n: int) -> tuple[Tensor, Tensor]:
    """Points, some of which are not there in the second row."""
    random = torch.Generator().manual_seed(batch * 1000 + n)
    real_BN = torch.ones(batch, n, dtype=torch.bool)
    real_BN[1:2, n - n // 3 :] = False
    return torch.rand(batch, n, 2, generator=random), real_BN

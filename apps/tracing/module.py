"""The tracing model under Lightning: concept memory, a network, trees beside it, and their calibrated stack.

The concept memory has no parameters: its features are computed once, those of training answers out of fold. Lightning
trains the network on them; trees are boosted on the same features; a logistic regression on validation stacks and
calibrates both.

Shape legend: B batch, T time, F columns of the answers, Z features, N answered rows, M members.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import polars as pl
import torch
from lightning.pytorch import Callback
from torch import Tensor

from ...core.layers.aaren import Aaren
from ...core.layers.concept_memory import ConceptMemory
from ...core.layers.distance_attention import DistanceAttention
from ...core.layers.same_concept import SameConcept
from ...core.recall import Recall, Recurrent
from ...core.state import SequenceLayer
from ...core.tracing import TracingModel, TracingNetwork
from ...core.trees import TreeEnsemble
from ...data.tracing.answers import CORRECT
from ...data.tracing.encode import Vocabulary
from ...data.tracing.metrics import auc
from ...data.tracing.situations import situation_tables
from ..module import Batch, TaskModule
from ..schedule import one_cycle
from .boosting import fit_trees
from .bundle import write_tracing_bundle
from .keep_best import KeepBest
from .memories import features, memory_of, out_of_fold
from .pieces import Featured, whole_batches

RecallName = Literal["recurrent", "attention", "cakt"]
CELLS = 8_192
BETAS = (0.9, 0.98)
"""Of AdamW: a fit has few steps."""
_VOCABULARY = "vocabulary"  # key inside a checkpoint


class TracingModule(TaskModule):
    """What is learnt, and how.

    Args:
        recall: what the network remembers by itself, beside the concept memory: "recurrent", layers of `layer`;
            "attention", the student's last answers with a decay by distance; "cakt", those on the concept at hand.
        layer: makes a memory layer of a given width, one for each of `num_layers`; of "recurrent" alone.
        d_model: width of the network; a square number for "cakt".
        num_layers: of "recurrent" alone.
        dropout: in the network.
        question_dropout: chance that training hides which question an answer is to, so that the network can do
            without.
        lr, weight_decay: of AdamW under a one-cycle schedule.
        patience: epochs without a better AUC on validation before training stops; the best weights are kept.
        trees: whether boosted trees stand beside the network.
        num_trees: at most; validation stops them.
        tree_depth, tree_lr: of the trees.
        folds: parts of the training students that are left out in turn for what is told of questions.
    """

    model: TracingModel

    def __init__(
        self,
        recall: RecallName = "recurrent",
        layer: Callable[[int], SequenceLayer] = Aaren,
        d_model: int = 64,
        num_layers: int = 1,
        dropout: float = 0.3,
        question_dropout: float = 0.1,
        lr: float = 5e-3,
        weight_decay: float = 0.01,
        patience: int = 2,
        trees: bool = True,
        num_trees: int = 400,
        tree_depth: int = 5,
        tree_lr: float = 0.06,
        folds: int = 5,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if recall not in get_args(RecallName):
            raise ValueError(f"--model.recall is '{recall}'; wanted one of {', '.join(get_args(RecallName))}")
        if not 0 <= question_dropout < 1:
            raise ValueError(f"--model.question_dropout is {question_dropout}; wanted 0 <= share < 1")
        self.layer = layer
        self._vocabulary: Vocabulary | None = None
        self.watched: list[tuple[Tensor, Tensor]] = []

    @property
    def title(self) -> str:
        told = {"attention": "attention", "cakt": "CAKT"}
        name = told.get(self.hparams.recall, type(self.layer(self.hparams.d_model)).__name__)
        return f"{name} + trees" if self.hparams.trees else name

    @property
    def vocabulary(self) -> Vocabulary:
        """The questions and concepts of the training log."""
        if self._vocabulary is None:
            raise ValueError("this tracing module was not fitted: call prepare(log), or load a checkpoint")
        return self._vocabulary

    @property
    def network(self) -> TracingNetwork:
        """The member that Lightning trains."""
        return cast(TracingNetwork, self.model.members["network"])

    def prepare(self, frame: pl.DataFrame, *, seed: int) -> Featured:
        """Make the model for the questions and concepts of a training log; its answers with their features."""
        self._vocabulary = Vocabulary.fit(frame)
        answers = self.vocabulary.encode(frame)
        self._build(memory_of(self.vocabulary, situation_tables(self.vocabulary, answers)))
        if len(answers.students) < self.hparams.folds:
            raise ValueError(
                f"the log to train on has {len(answers.students)} students; wanted at least {self.hparams.folds}, one "
                "for each of --model.folds"
            )
        z_NZ = out_of_fold(self.vocabulary, answers, folds=self.hparams.folds, seed=seed)
        given_N = np.isfinite(answers.x[:, CORRECT])
        if len(np.unique(answers.x[given_N, CORRECT])) < 2:
            raise ValueError("the log to train on has only right or only wrong answers; wanted some of both")
        self.network.fit_preprocess(torch.from_numpy(z_NZ))
        return Featured(answers.x, z_NZ, answers.offsets, answers.row)

    def featured(self, frame: pl.DataFrame) -> Featured:
        """The answers of other students with the features that the deployed memory gives them."""
        answers = self.vocabulary.encode(frame)
        z_NZ = features(self.model.memory, answers)
        return Featured(answers.x, z_NZ, answers.offsets, answers.row)

    def configure_optimizers(self) -> dict[str, object]:
        hp = self.hparams
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=hp.lr, weight_decay=hp.weight_decay, betas=BETAS
        )
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        # a function of the step, not OneCycleLR: a fit that goes on from a checkpoint may be given more epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_callbacks(self) -> list[Callback]:
        return [KeepBest("val_auc", self.hparams.patience)]

    def loss(self, batch: Batch) -> Tensor:
        x_BTF = batch["x"]
        if self.training and self.hparams.question_dropout:
            hidden_BT = torch.rand_like(x_BTF[..., 0]) < self.hparams.question_dropout
            x_BTF = torch.cat([x_BTF[..., :1].masked_fill(hidden_BT[..., None], 0), x_BTF[..., 1:]], -1)
        logit_N, y_N = self._answered(x_BTF, batch)
        return torch.nn.functional.binary_cross_entropy_with_logits(logit_N, y_N)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        logit_N, y_N = self._answered(batch["x"], batch)
        self.watched.append((logit_N, y_N))
        return {"nll": torch.nn.functional.binary_cross_entropy_with_logits(logit_N, y_N)}

    def on_validation_epoch_end(self) -> None:
        self._log_auc("val")

    def on_test_epoch_end(self) -> None:
        self._log_auc("test")

    def forward(self, x_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T, O): the probability that each answer is right, before it is given; see `TracingModel`."""
        return self.model(x_BTF, mask_BT=mask_BT)[0]

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch["x"], batch["mask"])

    @torch.no_grad()
    def calibrate(self, training: Featured, watched: Featured, *, seed: int) -> None:
        """Boost the trees, then fit the stack on the students that are chosen on.

        Raises:
            ValueError: these have no right or no wrong answers.
        """
        hp = self.hparams
        y_N = watched.x[:, CORRECT]
        given_N = np.isfinite(y_N)
        if len(np.unique(y_N[given_N])) < 2:
            raise ValueError(
                "the students to choose on have only right or only wrong answers, if any; give more of them"
            )
        if hp.trees:
            own_N = np.isfinite(training.x[:, CORRECT])
            self._build(
                self.model.memory,
                fit_trees(
                    training.z[own_N],
                    training.x[own_N, CORRECT],
                    watched.z[given_N],
                    y_N[given_N],
                    most=hp.num_trees,
                    depth=hp.tree_depth,
                    lr=hp.tree_lr,
                    seed=seed,
                ),
            )
        logit_NM = torch.from_numpy(self.member_logits(watched)[given_N])
        self.model.calibration.fit(logit_NM, torch.from_numpy(y_N[given_N]))

    @torch.no_grad()
    def member_logits(self, rows: Featured) -> np.ndarray:
        """(N, M) logit of each member for every row, before calibration."""
        logit_NM = np.empty((len(rows.x), len(self.model.members)), np.float32)
        for place, batch in whole_batches(rows, cells=CELLS):
            for m, member in enumerate(self.model.members.values()):
                if isinstance(member, TreeEnsemble):
                    logit_BT = member(batch["z"])
                else:
                    logit_BT, _ = member(batch["z"], batch["x"], mask_BT=batch["mask"])
                logit_NM[place, m] = logit_BT[batch["mask"]].numpy()
        return logit_NM

    @torch.no_grad()
    def forecasts(self, rows: Featured) -> np.ndarray:
        """(R, O) calibrated probabilities of every row; see `TracingModel`."""
        return self.model.calibration(torch.from_numpy(self.member_logits(rows))).numpy()

    def write_bundle(self, folder: Path) -> None:
        write_tracing_bundle(folder, self.model.eval(), self.vocabulary, self.record)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[_VOCABULARY] = self.vocabulary.to_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        vocabulary = Vocabulary.from_json(checkpoint[_VOCABULARY])
        boosted = any(name.startswith("model.members.trees.") for name in checkpoint["state_dict"])
        if self._vocabulary is None:  # a fit that goes on has built its own
            self._vocabulary = vocabulary
            memory = memory_of(vocabulary)
            self._build(memory, TreeEnsemble(memory.out_features) if boosted else None)
        elif (self.vocabulary.questions, self.vocabulary.concepts) != (
            vocabulary.questions,
            vocabulary.concepts,
        ):
            raise ValueError(
                f"the checkpoint was fitted on {len(vocabulary.questions) - 1} questions and "
                f"{len(vocabulary.concepts) - 1} concepts, these data have {len(self.vocabulary.questions) - 1} and "
                f"{len(self.vocabulary.concepts) - 1}; go on with the same data, or start afresh"
            )

    def _build(self, memory: ConceptMemory, trees: TreeEnsemble | None = None) -> None:
        """The model on this memory; the network that there is stays."""
        hp = self.hparams
        made = "model" in self._modules
        network = (
            self.network
            if made
            else TracingNetwork(memory, recall=self._recall(), d_model=hp.d_model, dropout=hp.dropout)
        )
        members = {"network": network} | ({} if trees is None else {"trees": trees})
        self.model = TracingModel(memory, members)

    def _recall(self) -> Recall:
        hp = self.hparams
        if hp.recall == "attention":
            return DistanceAttention(hp.d_model)
        if hp.recall == "cakt":
            return SameConcept(hp.d_model)
        return Recurrent(self.layer, hp.d_model, num_layers=hp.num_layers, dropout=hp.dropout)

    def _answered(self, x_BTF: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits and labels (N,) of the answered rows of a batch."""
        logit_BT, _ = self.network(batch["z"], x_BTF, mask_BT=batch["mask"])
        known_BT = batch["mask"] & torch.isfinite(x_BTF[..., CORRECT])
        return logit_BT[known_BT], x_BTF[..., CORRECT][known_BT]

    def _log_auc(self, stage: str) -> None:
        logit_N, y_N = (torch.cat(part).double().cpu() for part in zip(*self.watched, strict=True))
        self.watched.clear()
        self.log(f"{stage}_auc", auc(y_N.numpy(), logit_N.sigmoid().numpy()), prog_bar=True)

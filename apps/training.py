"""What `fit`, `validate`, `test` and `predict` of every app share: LightningCLI with `--out`, and a quiet Lightning."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from .module import TaskModule, export_checkpoint, read_checkpoint


class TrainingCLI(LightningCLI):
    """fit, validate, test, predict; `--out DIR` is where all of a run goes, `told` what people read in the end.

    What a checkpoint forecasts is asked of its bundle, as production will: the same figures as after the fit.
    """

    told: str = ""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str, default="out", help="folder for all that a run leaves behind")

    @property
    def out(self) -> Path:
        return Path(self._get(self.config, "out"))

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that is judged."""
        return Path(self._get(self.config, "ckpt_path"))

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        chosen = self.config.subcommand
        given, out = self.config[chosen].ckpt_path, self.config[chosen].out
        if chosen != "fit" and given is None:
            raise ValueError(
                f"{out}: no fit left its config.yaml and model.ckpt here; give --out DIR of a fit, or --ckpt_path FILE"
            )
        if given is not None and "optimizer_states" not in read_checkpoint(given) and chosen == "fit":
            raise ValueError(
                f"--ckpt_path {given}: holds weights alone, a fit cannot go on from it; give a checkpoint that was "
                "written on the way, with --trainer.enable_checkpointing=true"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        return super().instantiate_trainer(default_root_dir=str(self.out), **kwargs)

    @contextmanager
    def exported(self) -> Iterator[Path]:
        """The bundle of the checkpoint that is judged, for as long as the block lasts."""
        with tempfile.TemporaryDirectory() as scratch:
            yield export_checkpoint(self.checkpoint, Path(scratch) / "bundle")


C = TypeVar("C", bound=TrainingCLI)


def launch_cli(cli: type[C], data: type[LightningDataModule], arguments: Sequence[str]) -> C:
    """One subcommand, done."""
    quiet()
    return cli(
        TaskModule,
        data,
        args=list(arguments),
        subclass_mode_model=True,
        # a config tells how a model was fitted: the other commands leave it alone
        save_config_callback=SaveConfigCallback if "fit" in arguments[:1] else None,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
    )


def quiet() -> None:
    """Silence what lightning says about itself; its warnings about the user's own run stay."""
    for text in (
        "isinstance.treespec, LeafSpec",
        "LightningCLI's args parameter",
        "The '.*_dataloader' does not have many workers",
        "You defined a .validation_step. but have no",
        "The number of training batches",
        "Total length of .list. across ranks",
        "Your .IterableDataset. has",  # one process loads
        "configure_optimizers. returned .None.",  # a closed-form fit descends nothing
    ):
        warnings.filterwarnings("ignore", message=f"(?s).*{text}")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)

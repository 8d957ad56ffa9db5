"""What watches a run: the state to go on from, and the bar. Imported late: lightning is slow."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dropmax._files import write_whole
from dropmax.training.config import RunConfig
from dropmax.training.run import RESUME


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all, so that a full disk leaves the last one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        assert storage_options is None
        state = io.BytesIO()
        torch.save(checkpoint, state)
        write_whole(Path(path), state.getvalue())


def resume_state(folder: Path) -> ModelCheckpoint:
    """Writes the whole state after each epoch, over the one before."""
    return ModelCheckpoint(
        dirpath=folder,
        filename=Path(RESUME).stem,
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class EpochBar(Callback):
    """A bar over epochs with the nll and the time left."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.progress: Progress | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        if not trainer.is_global_zero:
            return
        self.progress = Progress(
            TextColumn(f"{self.config.head}, seed {self.config.seed}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[nll]}"),
        )
        self.task = self.progress.add_task(
            "", total=self.config.resolved_epochs, completed=trainer.current_epoch, nll=""
        )
        self.progress.start()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        if self.progress is not None:
            nll = f"nll {pl_module.mean_nll():.3f} nats"
            self.progress.update(self.task, advance=1, nll=nll)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self._stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        self._stop()

    def _stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()

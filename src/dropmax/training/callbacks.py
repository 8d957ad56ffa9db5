"""What watches a run: the state to go on from, and the bar. Imported late: lightning is slow."""

import io
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from dropmax._files import write_whole
from dropmax._progress import progress_bar
from dropmax.training.config import RunConfig
from dropmax.training.module import VALIDATION_NLL
from dropmax.training.run import BEST, RESUME


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


def early_stop(folder: Path, patience: int) -> list[Callback]:
    """Ends a run whose validation NLL no longer falls, and keeps the weights of the best epoch."""
    return [
        EarlyStopping(VALIDATION_NLL, patience=patience, mode="min", verbose=False),
        ModelCheckpoint(
            dirpath=folder,
            filename=Path(BEST).stem,
            monitor=VALIDATION_NLL,
            mode="min",
            save_weights_only=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]


class EpochBar(Callback):
    """A bar over epochs with the nll and the time left."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.open = ExitStack()
        self.advance: Callable[..., None] | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        bar = progress_bar(
            trainer.max_epochs,
            "epochs",
            done=trainer.current_epoch,
            label=f"{self.config.head}, seed {self.config.seed}",
            shown=trainer.is_global_zero,
        )
        self.advance = self.open.enter_context(bar)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        assert self.advance is not None
        self.advance(1.0, f"nll {pl_module.mean_nll():.3f} nats")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self.open.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        self.open.close()

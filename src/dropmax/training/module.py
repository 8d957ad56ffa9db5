"""The LightningModule of a run. It alone imports lightning at its top, and is imported late."""

import time
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from dropmax.calibration import TemperatureScaling
from dropmax.data import Splits
from dropmax.data.pictures import Pictures
from dropmax.errors import TrainingError
from dropmax.functional import Objective
from dropmax.fused.compiled import ENOUGH
from dropmax.heads import DropMaxHead, Scores
from dropmax.metrics import evaluate, gate_health
from dropmax.training.classifier import flipped_and_cropped, method_of, mixed, predict
from dropmax.training.config import CURVE_POINTS, RunConfig, epoch_seed
from dropmax.training.optimization import make_optimizer, make_schedule
from dropmax.wrap import find_head

TUNED_CURVE_POINTS = 3
"""How often at most a pretrained network is evaluated for its learning curve: with few rows to
train it on, evaluation takes longer than training."""

TERMS = Objective._fields

VALIDATION_NLL = "validation_nll"
"""By which patience chooses an epoch, in nats."""


class RunModule(LightningModule):
    """Trains a classifier, with class weights or without, and keeps the history of its epochs.

    The learning rate goes as planned for so many steps, even if training ends before; for as many
    as the trainer takes if None. The process's CPU time is counted from when the run started, which
    is now if None.
    """

    weight: Tensor | None

    def __init__(
        self,
        config: RunConfig,
        classifier: nn.Sequential,
        splits: Splits,
        weight: Tensor | None = None,
        planned: int | None = None,
        curve_points: int = CURVE_POINTS,
        started: float | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.config = config
        self.planned = planned
        self.curve_points = (
            min(curve_points, TUNED_CURVE_POINTS) if config.is_tuned else curve_points
        )
        self.classifier = classifier
        self.splits = splits
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._cpu_before = 0.0
        self._cpu_started = time.process_time() if started is None else started
        shape = splits.train.inputs.shape[1:]
        self._crops = config.resolved.augment and len(shape) == 3 and shape[0] == 3
        self._started = 0.0
        head = find_head(classifier)
        enough = config.resolved.batch_size * head.out_features >= ENOUGH
        self.fuses = enough and isinstance(head, DropMaxHead) and head.can_fuse

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        target = self.splits.train.target
        dataset = TensorDataset(torch.arange(len(target)), target)
        sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(
            dataset,
            self.trainer.world_size,
            self.global_rank,
            seed=epoch_seed(self.config.seed, 0),
        )
        return DataLoader(
            dataset,
            self.config.resolved.batch_size,
            sampler=sampler,
            generator=torch.Generator(),  # or the loader would draw from the default one
        )

    def on_before_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:  # noqa: ARG002
        """The rows that the loader drew become images: the only ones that need to be held."""
        rows, target = batch
        inputs = self.splits.train.inputs
        if self._crops and isinstance(inputs, Pictures):
            return [inputs.cropped(rows), target]
        return [inputs[rows], target]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        steps = self.planned or int(self.trainer.estimated_stepping_batches)
        optimizer = make_optimizer(self.classifier, self.config)
        schedule = make_schedule(optimizer, self.config, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_epoch_start(self) -> None:
        self._started = time.perf_counter()
        seed = epoch_seed(self.config.seed, self.current_epoch)
        torch.manual_seed(seed * self.trainer.world_size + self.global_rank)
        zeros = torch.zeros(len(TERMS), dtype=torch.float64, device=self.device)
        self._raw, self._weighted = zeros.clone(), zeros.clone()
        self._broken = torch.zeros(len(TERMS), dtype=torch.bool, device=self.device)
        self._steps = 0

    def training_step(self, batch: list[Tensor]) -> Tensor:
        images, classes = batch
        target = classes
        if self._crops:
            images = flipped_and_cropped(images)
        head = find_head(self.classifier)
        if self.config.mixup:
            images, target = mixed(images, target, head.out_features, alpha=self.config.mixup)
            classes = target.argmax(-1)
        if self.fuses:
            assert isinstance(head, DropMaxHead)
            features = self.classifier[:-1](images)
            weighted = head.fused_loss(features, target, weight=self.weight)
            few = max(1, ENOUGH // head.out_features)  # or their scores would need the memory
            self._last = features[:few].detach(), classes[:few]
        else:
            scores: Scores = self.classifier(images)
            raw = head.raw_loss(scores, target, weight=self.weight)
            weighted = head.weighted(raw)
            self._raw += _stacked(raw)
            self._last = scores, classes
        self._record(weighted)
        return weighted.total

    @torch.no_grad()
    def _record(self, weighted: Objective) -> None:
        """Add up the terms, and keep which of them was the first to be no number; no sync."""
        terms = _stacked(weighted)
        broken = ~terms.isfinite()
        self._broken = torch.where(self._broken.any(), self._broken, broken)
        self._weighted += terms
        self._steps += 1

    def on_train_epoch_end(self) -> None:
        if self._broken.any():
            parts = [
                name
                for name, broken in zip(TERMS[1:], self._broken[1:].tolist(), strict=True)
                if broken
            ]
            raise TrainingError(
                f"train: {', '.join(parts or ['total'])} must stay finite, got NaN or infinity in "
                f"epoch {self.current_epoch + 1} with head {self.config.head!r}; "
                "train with smaller weights, or look at the images."
            )
        row: dict[str, Any] = {
            "epoch": self.current_epoch + 1,
            "raw": None if self.fuses else self._means(self._raw),
            "weighted": self._means(self._weighted),
        }
        last, target = self._last
        with torch.no_grad():
            scores = last if isinstance(last, Scores) else self.classifier[-1](last)
        if scores.retain_logits is not None:
            posterior = find_head(self.classifier).posterior_logits(scores, target)
            row["gate"] = gate_health(scores, target, posterior_logits=posterior)._asdict()
        self.seconds += time.perf_counter() - self._started
        epochs = self.trainer.max_epochs
        assert epochs is not None
        every = -(-epochs // self.curve_points)
        if row["epoch"] % every == 0 or row["epoch"] == epochs:
            row["curve"] = self.evaluate()
        if self.config.patience is not None and len(self.splits.validation):
            row[VALIDATION_NLL] = self.evaluate("validation")["validation"]["nll"]
            self.log(VALIDATION_NLL, row[VALIDATION_NLL], sync_dist=True)
        self.history.append(row)

    def mean_nll(self) -> float:
        """The mean nll of the epoch so far, in nats."""
        return self._means(self._weighted)["nll"]

    def _means(self, sums: Tensor) -> dict[str, float]:
        return dict(zip(TERMS, (sums / self._steps).tolist(), strict=True))

    def evaluate(
        self, *names: str, scaling: TemperatureScaling | None = None
    ) -> dict[str, dict[str, float]]:
        """Metrics of splits that are not empty, of all if none is named."""
        method = method_of(self.classifier, self.config)
        found = {}
        for name, split in self.splits._asdict().items():
            if len(split) and (not names or name in names):
                inputs = split.inputs
                log_probs = predict(
                    self.classifier, inputs, method=method, scaling=scaling
                ).log_probs
                found[name] = evaluate(log_probs, split.target)._asdict()
        return found

    @property
    def cpu_seconds(self) -> float:
        """The time that CPUs have worked on this run, in this process and in those it goes on from.

        Training and evaluation together; what else the machine does is not in it.
        """
        return self._cpu_before + time.process_time() - self._cpu_started

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        spent = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        checkpoint["dropmax"] = {"history": self.history, **spent}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["dropmax"]["history"]
        self.seconds = checkpoint["dropmax"]["seconds"]
        self._cpu_before = checkpoint["dropmax"].get("cpu_seconds", 0.0)  # older runs have none


def _stacked(objective: Objective) -> Tensor:
    """The terms, without gradient, in float64 for sums over many steps."""
    return torch.stack(tuple(term.detach() for term in objective)).double()

"""Training one classifier on labeled images, and the directory that a run leaves."""

from dropmax.training.config import PROTOCOLS, Protocol, RunConfig, TrainingError
from dropmax.training.fit import check, train
from dropmax.training.run import Run, load_run

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Run",
    "RunConfig",
    "TrainingError",
    "check",
    "load_run",
    "train",
]

"""Training one classifier on labeled images, and the directory that a run leaves."""

from dropmax.errors import TrainingError
from dropmax.training.config import PROTOCOLS, Protocol, RunConfig
from dropmax.training.fit import check, data_for, data_of, train
from dropmax.training.predictions import describe_predictions
from dropmax.training.run import Run, load_run

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Run",
    "RunConfig",
    "TrainingError",
    "check",
    "data_for",
    "data_of",
    "describe_predictions",
    "load_run",
    "train",
]

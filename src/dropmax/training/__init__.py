"""Training one classifier on labeled images, and the directory that a run leaves."""

from dropmax.errors import TrainingError
from dropmax.training.config import PROTOCOLS, Protocol, RunConfig
from dropmax.training.fit import train
from dropmax.training.folds import HeldOut, held_out
from dropmax.training.predictions import describe_predictions
from dropmax.training.rows import data_for, data_of, draw, labeled_for, splits_and_classifier
from dropmax.training.run import Run, load_run

__all__ = [
    "PROTOCOLS",
    "HeldOut",
    "Protocol",
    "Run",
    "RunConfig",
    "TrainingError",
    "data_for",
    "data_of",
    "describe_predictions",
    "draw",
    "held_out",
    "labeled_for",
    "load_run",
    "splits_and_classifier",
    "train",
]

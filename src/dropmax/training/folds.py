"""What is said of every row by a classifier that was not trained on it: cross-validation."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropmax import _check
from dropmax.data import DataSet, LabeledData
from dropmax.data.splits import folds
from dropmax.training.classifier import predict, retain_probs_of
from dropmax.training.fit import train
from dropmax.training.rows import draw
from dropmax.training.run import Run

FOLDS = "folds"
"""The folder within that of a run."""


def fold_folder(run: Path, number: int, num_folds: int) -> Path:
    """Where the run is that was trained without a fold."""
    return run / FOLDS / f"{number}-of-{num_folds}"


class HeldOut(NamedTuple):
    """Rows, and what is said of each by a classifier that was trained without it.

    Attributes:
        data: The rows, of all splits.
        splits: Of each row: "train", "validation" or "test".
        log_probs: Of the classifiers `[N, K]`.
        retain_probs: Of their gates `[N, K]`; None for a head without one.
    """

    data: LabeledData
    splits: tuple[str, ...]
    log_probs: Tensor
    retain_probs: Tensor | None


def held_out(
    run: Run, data: DataSet, *, num_folds: int = 5, progress: bool = True, **options: Any
) -> HeldOut:
    """Train with the settings of a run on all rows but a fold, and predict it, fold by fold.

    The folds' runs are kept in the folder of the run, so that what was interrupted goes on. Rows of
    a class that has a single row, or equal ones alone, are judged by none and left out. Where the
    run's settings say that no fraction validates, all rows but the fold train.

    Args:
        run: A finished run.
        data: The data set it was trained on.
        num_folds: At least 2.
        progress: Whether to show a bar with the time left.
        options: Where and with how many threads, as `train` takes them.

    Raises:
        ValueError: If a class has too few rows for the run's settings.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_data
        >>> from dropmax.training import RunConfig, held_out, train
        >>> config = RunConfig("digits", "softmax", epochs=1)
        >>> data = load_data("digits")
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = train(config, out, progress=False)
        ...     len(held_out(run, data, num_folds=2, progress=False).log_probs)
        1797
    """
    _check.integer("num_folds", num_folds, low=2)
    whole, splits = data.train, ["train"] * len(data.train)
    for name, split in (("validation", data.validation), ("test", data.test)):
        whole = whole.joined(split) if len(split) else whole
        splits += [name] * len(split)
    drawn = set() if len(data.validation) else set(draw(run.config, data).validation.ids)
    splits[: len(data.train)] = [
        "validation" if row in drawn else "train" for row in data.train.ids
    ]
    config = replace(
        run.config,
        train_per_class=None,
        validation_per_class=0,
        validation_fraction=0.0 if run.config.validation_fraction == 0.0 else None,
        test_fraction=None,
        split="fraction",
    )
    order: list[int] = []
    found = []
    parted = folds(whole, len(data.class_names), num_folds, config.seed)
    for number, fold in enumerate(filter(None, parted)):
        kept = set(fold)
        rest = [n for n in range(len(whole)) if n not in kept]
        test, none = whole.rows(fold), whole.rows([])
        digest = hashlib.sha256(b"".join([data.digest.encode(), *sorted(test.keys)])).hexdigest()
        rows = {"train": whole.rows(rest), "validation": none, "test": test, "digest": digest}
        part = replace(data, **rows)  # type: ignore[arg-type]
        settings = config
        if not len(draw(config, part).validation):
            settings = replace(config, patience=None, refit=False)
        if progress:
            print(f"Fold {number + 1} of {num_folds}:", file=sys.stderr)
        folder = fold_folder(run.path, number, num_folds)
        of_fold = train(settings, folder, data=part, progress=progress, examples=False, **options)
        classifier, (judged,) = of_fold.judging([part.test])
        method, scaling = of_fold.method_and_scaling(classifier)
        found.append(predict(classifier, judged.inputs, method=method, scaling=scaling))
        order += fold
    return HeldOut(
        whole.rows(order),
        tuple(splits[n] for n in order),
        torch.cat([one.log_probs.float() for one in found]),
        retain_probs_of(found),
    )

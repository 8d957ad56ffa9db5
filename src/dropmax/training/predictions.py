"""What a run says of image files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dropmax import _check
from dropmax.training.classifier import method_of, predict
from dropmax.training.run import Run

RETAINED = 0.5
"""A class is named as retained where its retain probability is at least this."""


def describe_predictions(
    run: Run, files: Sequence[str | Path], top: int = 3, *, method: str | None = None
) -> Iterator[dict[str, Any]]:
    """For each image the likeliest classes, and those that the gate retains.

    Args:
        run: A finished run.
        files: Images of the size the run was trained on.
        top: How many classes to name; all of them where there are fewer.
        method: Of the probabilities, "plugin" or, for DropMax, "exact"; the run's own if None.

    Yields:
        `{"file", "top": [{"class", "probability"}], "retained": [{"class", "probability"}]}`;
        retained are the classes of retain probability at least 0.5, None for a head without gate.

    Raises:
        ValueError: If a file is no readable image of that size, or the head has no such method;
            before anything is yielded.

    Examples:
        >>> import tempfile
        >>> from dropmax.training import RunConfig, describe_predictions, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     list(describe_predictions(train(config, out, progress=False), []))
        []
    """
    _check.integer("predict", "top", top, low=1)
    if not files:
        return
    if len(run.shape) != 3:
        got = _check.Verbatim(f"one on rows of {run.shape[0]} numbers")
        _check.fail("predict", "run", "be one on images", got, "call run.classifier() on rows")
    images = torch.stack([_read(Path(file), run.shape) for file in files])
    classifier = run.classifier()
    method = method or method_of(classifier, run.config)
    scores, log_probs = predict(classifier, images, method=method)
    probs = log_probs.double().exp()
    for n, file in enumerate(files):
        likeliest = probs[n].argsort(descending=True)[:top].tolist()
        line: dict[str, Any] = {
            "file": str(file),
            "top": [_named(run, probs[n], k) for k in likeliest],
            "retained": None,
        }
        if scores.retain_logits is not None:
            retain = scores.retain_logits[n].double().sigmoid()
            order = retain.argsort(descending=True).tolist()
            line["retained"] = [_named(run, retain, k) for k in order if retain[k] >= RETAINED]
        yield line


def _named(run: Run, probs: Tensor, k: int) -> dict[str, Any]:
    return {"class": run.class_names[k], "probability": round(float(probs[k]), 6)}


def _read(file: Path, shape: tuple[int, ...]) -> Tensor:
    """An image as the run takes it, uint8 [C, H, W]."""
    from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__})")
        _check.fail("predict", "files", "be readable images", got, "check the path")
    if pixels.shape[:2] != (height, width):
        got = _check.Verbatim(f"{pixels.shape[1]} x {pixels.shape[0]} in {str(file)!r}")
        must = f"be {width} x {height} pixels, as the run was trained"
        _check.fail("predict", "files", must, got, "resize it")
    return torch.from_numpy(pixels.reshape(height, width, channels).copy()).permute(2, 0, 1)

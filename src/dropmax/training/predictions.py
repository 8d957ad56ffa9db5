"""What a run says of image files and of tables."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dropmax import _check
from dropmax.data import tables
from dropmax.data.numbers import numbers
from dropmax.data.texts import embed, texts_of
from dropmax.errors import DropmaxFileNotFoundError, DropmaxValueError
from dropmax.training.classifier import Prediction, method_of, predict
from dropmax.training.run import Run

RETAINED = 0.5
"""A class is named as retained where its retain probability is at least this."""
AT_ONCE = 1_000
"""So many instances are predicted at a time."""


class Instances(NamedTuple):
    """What is predicted: where each instance stands, and the inputs of those not broken, in order.

    `broken` holds what is wrong with the others.
    """

    places: Sequence[Mapping[str, Any]]
    inputs: Tensor
    broken: Mapping[int, str]


def describe_predictions(
    run: Run, files: Sequence[str | Path], top: int = 3, *, method: str | None = None
) -> Iterator[dict[str, Any]]:
    """The likeliest classes of each image or row, and those that the gate retains.

    Args:
        run: A finished run.
        files: Images of the size the run was trained on; or, for a run on numbers or texts, CSV or
            parquet files with its columns.
        top: The number of classes to name; all of them if there are fewer.
        method: How to predict: "plugin" or, for DropMax, "exact". The run's own if None.

    Yields:
        `{"file", "top": [{"class", "probability"}], "retained": [{"class", "probability"}]}`;
        retained are the classes of retain probability at least 0.5, None for a head without gate.
        For tables "row" is the place in the file, counted from 0, and `{"file", "row", "error"}`
        stands for a row that cannot be read.

    Raises:
        FileNotFoundError: If there is no such file, before anything is yielded.
        OSError: If a file is no readable image, before anything is yielded.
        ValueError: If an image is of another size, or a table lacks a column, before anything is
            yielded; if the head has no such method.

    Examples:
        >>> import tempfile
        >>> from dropmax.training import RunConfig, describe_predictions, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     list(describe_predictions(train(config, out, progress=False), []))
        []
    """
    _check.integer("top", top, low=1)
    if not files:
        return
    classifier = run.classifier()
    method = method or method_of(classifier, run.config)
    paths = [Path(file) for file in files]
    of_images = len(run.shape) == 3
    found = [_images(run, paths)] if of_images else [_rows(run, path) for path in paths]
    for places, inputs, broken in found:
        parts = torch.split(inputs, AT_ONCE)
        described = (
            description
            for part in parts
            for description in _described(run, predict(classifier, part, method=method), top)
        )
        for n, place in enumerate(places):
            yield {**place, **({"error": broken[n]} if n in broken else next(described))}


def _described(run: Run, prediction: Prediction, top: int) -> Iterator[dict[str, Any]]:
    scores, log_probs = prediction
    probs = log_probs.double().exp()
    retain = None if scores.retain_logits is None else scores.retain_logits.double().sigmoid()
    for n in range(len(probs)):
        likeliest = probs[n].argsort(descending=True)[:top].tolist()
        retained = None
        if retain is not None:
            order = retain[n].argsort(descending=True).tolist()
            retained = [_named(run, retain[n], k) for k in order if retain[n, k] >= RETAINED]
        yield {"top": [_named(run, probs[n], k) for k in likeliest], "retained": retained}


def _named(run: Run, probs: Tensor, k: int) -> dict[str, Any]:
    return {"class": run.class_names[k], "probability": round(float(probs[k]), 6)}


def _images(run: Run, files: Sequence[Path]) -> Instances:
    places = [{"file": str(file)} for file in files]
    return Instances(places, torch.stack([_read(file, run.shape) for file in files]), {})


def _rows(run: Run, file: Path) -> Instances:
    """The rows of a table: numbers, or embeddings of texts by the encoder of the run."""
    if not tables.is_table(file):
        must = "be CSV or parquet files, as the run is on rows of a table"
        error = DropmaxValueError if file.exists() else DropmaxFileNotFoundError
        _check.fail("files", must, str(file), "check the path", error=error)
    rows, found = tables.read("files", file)
    broken = dict(found)
    places = [{"file": str(file), "row": n} for n in range(len(rows))]
    encoder = run.config.encoder
    if encoder is None:
        inputs = numbers(rows, run.columns, broken)
        return Instances(places, inputs[[n not in broken for n in range(len(rows))]], broken)
    named = run.columns[0] if run.columns else run.config.text_column
    column = tables.column("text_column", named, rows.features, "string")
    every = texts_of(rows, column, broken)
    texts = [text for n, text in enumerate(every) if n not in broken]
    inputs = embed(texts, encoder=encoder) if texts else torch.empty(0, *run.shape)
    return Instances(places, inputs, broken)


def _read(file: Path, shape: tuple[int, ...]) -> Tensor:
    """An image as the run takes it, uint8 [C, H, W]."""
    with _check.extra("train"):
        from PIL import Image, UnidentifiedImageError

    channels, height, width = shape
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__})")
        must = "be readable images"
        _check.fail("files", must, got, "check the path", error=_check.kind_of(error))
    if pixels.shape[:2] != (height, width):
        got = _check.Verbatim(f"{pixels.shape[1]} x {pixels.shape[0]} in {str(file)!r}")
        must = f"be {width} x {height} pixels, as the run was trained"
        _check.fail("files", must, got, "resize it")
    return torch.from_numpy(pixels.reshape(height, width, channels).copy()).permute(2, 0, 1)

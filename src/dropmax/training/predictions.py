"""What a run says of image files and of tables."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropmax import _check
from dropmax.data import DataWarning, folders, tables
from dropmax.data.columns import encode
from dropmax.data.labeled import some
from dropmax.data.pixels import centered, pixels
from dropmax.data.texts import PACKAGED, column_of_texts, embed, texts_of
from dropmax.errors import DropmaxFileNotFoundError, DropmaxValueError
from dropmax.training.classifier import Prediction, predict
from dropmax.training.pretrained import reads_texts, within
from dropmax.training.rows import check_places
from dropmax.training.run import Run

RETAINED = 0.5
"""A class is named as retained where its retain probability is at least this."""
AT_ONCE = 1_000
"""So many instances are predicted at a time."""


class Instances(NamedTuple):
    """What is predicted: where each instance stands, and the inputs of those not broken, in order.

    `broken` holds what is wrong with the others, `notes` what no training row had.
    """

    places: Sequence[Mapping[str, Any]]
    inputs: Tensor
    broken: Mapping[int, str]
    notes: Mapping[int, str] = MappingProxyType({})


def describe_predictions(
    run: Run,
    files: Sequence[str | Path],
    top: int = 3,
    *,
    method: str | None = None,
    root: str | Path | None = None,
) -> Iterator[dict[str, Any]]:
    """The likeliest classes of each image or row, and those that the gate retains.

    Args:
        run: A finished run.
        files: Images, which are turned, resized and cropped as those of the run were, or folders
            of images. Or, for a run on a table or on texts, CSV, TSV or parquet files with its
            columns.
        top: The number of classes to name; all of them if there are fewer.
        method: How to predict: "plugin" or, for DropMax, "exact". The run's own if None.
        root: A folder that may hold the encoder of the run, beside the working directory.

    Yields:
        `{"file", "top": [{"class", "probability"}], "retained": [{"class", "probability"}]}`;
        retained are the classes of retain probability at least 0.5, None for a head without gate.
        For tables "row" is the place in the file, counted from 0. A "note" says what no training
        row had, such as a new level. `{"file", "error"}`, or `{"file", "row", "error"}`, stands for
        an image or a row that cannot be read.

    Raises:
        FileNotFoundError: If there is no such file, before anything is yielded.
        ValueError: If a table lacks a column, before anything is yielded; if the head has no such
            method; if the encoder lies elsewhere.

    Examples:
        >>> import tempfile
        >>> from dropmax.training import RunConfig, describe_predictions, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     list(describe_predictions(train(config, out, progress=False), []))
        []
    """
    _check.integer("top", top, low=1)
    check_places(run, "encoder", root=root)
    if not files:
        return
    classifier = run.classifier()
    method, scaling = run.method_and_scaling(classifier, method)
    paths = [Path(file) for file in files]
    found: Iterable[Instances]
    if len(run.shape) == 3:
        _check_files(paths)
        paths = [picture for path in paths for picture in _pictures(path)]
        starts = range(0, len(paths), AT_ONCE)
        found = (_images(run, paths[start : start + AT_ONCE]) for start in starts)
    else:
        found = [_rows(run, path) for path in paths]
    for places, inputs, broken, notes in found:
        parts = torch.split(inputs, AT_ONCE)
        described = (
            description
            for part in parts
            for description in _described(
                run, predict(classifier, part, method=method, scaling=scaling), top
            )
        )
        for n, place in enumerate(places):
            note = {"note": notes[n]} if n in notes else {}
            yield {**place, **({"error": broken[n]} if n in broken else next(described) | note)}


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


def _check_files(files: Sequence[Path]) -> None:
    """Every file is there, readable or not."""
    missing = next(filter(_is_missing, files), None)
    if missing is not None:
        error = DropmaxFileNotFoundError
        _check.fail("files", "be there", str(missing), "check the path", error=error)


def _pictures(path: Path) -> list[Path]:
    """A file, or the pictures of a folder; a warning says which of its files are none."""
    if not path.is_dir():
        return [path]
    listing = folders.listed("files", path)
    pictures = listing.pictures
    if not pictures:
        got = _check.Verbatim(f"{path}, with {listing.described()}")
        _check.fail("files", "be images, or folders of them", got, "name another")
    if unused := listing.but(set(pictures)):
        said = f"files of {path} that are no images: {len(unused)} ({some(unused)})"
        warnings.warn(f"{_check.caller('files')}: {said}.", DataWarning, stacklevel=3)
    return [path / picture for picture in pictures]


def _is_missing(file: Path) -> bool:
    try:
        file.stat()
    except FileNotFoundError:
        return True
    except OSError:  # that of reading it says more
        return False
    return False


def _images(run: Run, files: Sequence[Path]) -> Instances:
    """The images that can be read, made as those were on which the run was trained."""
    found = [_read(file, run) for file in files]
    broken = {n: image for n, image in enumerate(found) if isinstance(image, str)}
    images = [image for image in found if isinstance(image, Tensor)]
    inputs = torch.stack(images) if images else torch.empty(0, *run.shape, dtype=torch.uint8)
    return Instances([{"file": str(file)} for file in files], inputs, broken)


def _rows(run: Run, file: Path) -> Instances:
    """The rows of a table: numbers, or embeddings of texts by the encoder of the run."""
    if not file.is_file():
        must = "be CSV, TSV or parquet files, as the run is on rows of a table"
        error = DropmaxValueError if file.exists() else DropmaxFileNotFoundError
        _check.fail("files", must, str(file), "check the path", error=error)
    rows, found, _ = tables.read("files", file)
    broken = dict(found)
    places = [{"file": str(file), "row": n} for n in range(len(rows))]
    if run.record is not None:
        values, notes = encode(run.record, rows)
        sound = [n for n in range(len(rows)) if n not in broken]
        inputs = torch.from_numpy(values[sound]).float()
        return Instances(places, inputs, broken, {n: "; ".join(notes[n]) for n in notes})
    known = run.columns[0] if run.columns else run.config.text_column
    labels = run.config.label_column or tables.LABEL
    column = column_of_texts("files", known, rows, labels)
    every = texts_of(rows, column, broken)
    texts = [text for n, text in enumerate(every) if n not in broken]
    config = within(run.config, run.path)
    rows_of: Callable[[Sequence[str]], Tensor] = partial(embed, encoder=config.encoder or PACKAGED)
    if config.pretrained is not None:
        rows_of = reads_texts(config) or rows_of
    inputs = rows_of(texts) if texts else torch.empty(0, *run.shape)
    return Instances(places, inputs, broken)


def _read(file: Path, run: Run) -> Tensor | str:
    """An image uint8 `[C, H, W]` as the run takes it, or the reason why there is none."""
    channels, height, width = run.shape
    found = pixels(file, run.size, channels)
    if isinstance(found, str):
        return found
    image = centered(found, run.size)
    if image.shape[1:] != (height, width):
        came = f"{image.shape[2]} x {image.shape[1]} pixels"
        return f"{came}, while the run takes {width} x {height}; resize it, or train with --size"
    return image

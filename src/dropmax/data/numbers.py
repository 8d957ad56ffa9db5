"""Rows of numbers: a table whose columns, but for that of the labels, hold numbers."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax.data import tables
from dropmax.data.labeled import LabeledData

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


Divide = Callable[[dict[str, LabeledData], int], dict[str, LabeledData]]
"""Draws the test split where there is none, of the splits and the number of classes."""


def read_numbers(
    splits: Mapping[str, tables.Table], label_column: str, divide: Divide
) -> tables.Found:
    """The numbers and labels of a table's splits: all columns but that of the labels."""
    columns = tuple(
        name
        for name in splits["train"].rows.features
        if name != label_column and not tables.INDEX.match(name)
    )
    class_names, found = tables.labeled(
        splits, label_column, lambda rows, broken: numbers(rows, columns, broken)
    )
    parts = {
        split: LabeledData(
            values[kept],
            target[kept],
            tuple(map(str, kept)),
            tables.notes(broken),
            together=False,
        )
        for split, (values, target, kept, broken) in found.items()
    }
    return tables.Found(class_names, divide(parts, len(class_names)), columns)


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
            if DECIMAL_COMMA.fullmatch(str(cell)):
                what = f"holds {cell!r}: decimals are written with a point"
            broken.setdefault(n, f"column {column!r} {what}")
    return torch.from_numpy(found)

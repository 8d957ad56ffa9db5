"""Rows as a network takes them: numbers, scaled, dense, in batches."""

import warnings
from collections.abc import Hashable
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dropmax import _check
from dropmax.data import DataWarning, tables
from dropmax.data.record import Record, kind_of

NO_CELLS = (timedelta, np.timedelta64)
"""Types of cells that no column of a table has."""


class Rows:
    """Scaled rows `[N, D]`, float32 where they train: sparse ones become dense batch by batch."""

    def __init__(self, table: Any, scaler: StandardScaler, dtype: torch.dtype = torch.float32):
        self.sparse = is_sparse(table)
        self.table = table if self.sparse else scaler.transform(table)
        self.scaler, self.dtype = scaler, dtype

    def __len__(self) -> int:
        return int(self.table.shape[0])

    def __getitem__(self, chosen: Any) -> Tensor:
        rows = self.table[chosen]
        dense = self.scaler.transform(rows.toarray()) if self.sparse else rows
        return torch.from_numpy(np.ascontiguousarray(dense)).to(self.dtype)


def is_mixed(X: Any) -> bool:
    """Whether rows stand in a DataFrame that holds more than numbers without gaps."""
    if not hasattr(X, "iloc") or not hasattr(X, "dtypes"):
        return False
    numeric = all(type_.kind in "biuf" for type_ in X.dtypes)
    return not numeric or bool(X.isna().to_numpy().any())


def record_of(X: Any) -> Record | None:
    """What is fitted to the columns of a mixed DataFrame; None for rows of numbers."""
    if not is_mixed(X):
        return None
    cells = {str(name): _cells(X[name]) for name in X}
    kinds = {
        str(name): "category" if hasattr(X[name], "cat") else kind_of(str(name), cells[str(name)])
        for name in X
    }
    return Record.fit(cells, kinds)


def numbers(record: Record | None, X: Any) -> Any:
    """Rows as numbers, float64 or sparse; a warning says what no training row had."""
    if record is None:
        return X
    if is_sparse(X):
        must = "be a DataFrame or an array of the columns it was fitted to"
        _check.fail("X", must, _check.Verbatim("a sparse table"), "make it dense")
    if hasattr(X, "iloc"):
        cells = {str(name): _cells(X[name]) for name in X}
    else:
        cells = dict(zip(record.names, np.asarray(X, dtype=object).T, strict=True))
    values, notes = record.encode(cells)
    if notes:
        named = tables.named({n: "; ".join(said) for n, said in notes.items()})
        message = f"{_check.caller('X')}: {len(notes)} of {len(values)} rows hold"
        warnings.warn(f"{message} what training rows do not: {named}.", DataWarning, stacklevel=3)
    return values


def _cells(column: Any) -> Any:
    """A column of a DataFrame as an array that a record takes.

    Raises:
        ValueError: If it holds what is neither number, text, boolean nor date.
    """
    kind = column.dtype.kind
    if kind == "M":
        return column.dt.tz_localize(None).to_numpy()
    if kind in "iuf":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    whole = column.astype(object)
    types = {timedelta} if kind == "m" else {*map(type, whole[column.notna()])}
    odd = [t for t in types if issubclass(t, NO_CELLS) or not issubclass(t, Hashable)]
    if odd:
        must = "hold numbers, texts, booleans, dates or categories"
        got = _check.Verbatim(f"{odd[0].__name__} in column {str(column.name)!r}")
        _check.fail("X", must, got, "make it numbers, or leave it out")
    return np.fromiter(whole.where(column.notna(), None), dtype=object, count=len(column))


def is_sparse(table: Any) -> bool:
    """Whether a table keeps only what is not 0."""
    return hasattr(table, "toarray")


def scale_to(scaler: StandardScaler, table: Any, weight: Any) -> StandardScaler:
    """Let mean and deviation follow more rows.

    Sparse rows stay sparse for it. They are centered like dense ones when they become dense.
    """
    scaler.with_mean = not is_sparse(table)
    scaler.partial_fit(table, sample_weight=weight)
    scaler.with_mean = True
    return scaler

"""Rows of a table: which columns are features, what their cells are, and what becomes of them."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dropmax import _check
from dropmax.data import tables
from dropmax.data.labeled import DataWarning, LabeledData
from dropmax.data.record import Encoded, Record, check_columns, kind_of, rare, read, values_of

DIFFERENT = 0.95
"""A column numbers or names the rows if more than this share of them have a value of their own."""
Parts = dict[str, LabeledData]
"""The rows of each split."""

RECUR = (
    "texts that hardly recur: text_column (--text-column) embeds texts, and dates are read as "
    "2024-01-31"
)
IDENTITY = re.compile(
    r"(?i:(.*[\W_])?(id|idx|index|uuid|guid|key|row|rowid|no|nr)|id[\W_].*)|.*[a-z0-9]I[dD]"
)
"""Names of columns that say which row it is, if no two rows agree."""


def read_rows(
    splits: Mapping[str, tables.Table],
    label_column: str,
    divide: Callable[[Parts, int], Parts] | None = None,
    *,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    record: Record | None = None,
    class_names: tuple[str, ...] = (),
) -> tables.Found:
    """The labeled rows of a table's splits, as numbers.

    Args:
        splits: Each a table.
        label_column: The column of the labels.
        divide: Draws a test split where there is none, by the texts of the rows. What is fitted is
            fitted after that: no test row decides it. No split is drawn if None.
        drop: Columns to leave out.
        keep: Columns to learn from whatever they hold.
        record: What was fitted to the columns before; fitted to the training rows if None.
        class_names: Of the classes; those of the training rows if there are none.
    """
    if record is None:
        train = splits["train"]
        kinds = features(train, label_column, drop=drop, keep=keep)
    else:
        kinds = record.kinds
    class_names, found = tables.labeled(
        splits, label_column, lambda rows, _: values_of(kinds, _cells(rows, kinds)), class_names
    )
    values = [values for (values, _), *_ in found.values()]
    whole = {name: np.concatenate([one[name] for one in values]) for name in kinds}
    texts = row_texts(whole)
    parts: Parts = {}
    start = 0
    for split, ((_, odd), target, kept, broken) in found.items():
        if odd:
            of_split = f"some cells of {split} count as gaps"
            named = tables.named({n: "; ".join(said) for n, said in odd.items()})
            warnings.warn(
                f"{_check.caller('rows')}: {of_split}: {named}.", DataWarning, stacklevel=4
            )
        places = [start + n for n in kept]
        parts[split] = LabeledData(
            torch.tensor(places)[:, None],
            target[kept],
            tuple(map(str, kept)),
            tables.notes(broken),
            tuple(texts[place] for place in places),
            together=False,
        )
        start += len(target)
    if divide is not None:
        parts = divide(parts, len(class_names))
    if record is None:
        known = _places(parts["train"]).numpy()
        record = Record.fit({name: column[known] for name, column in whole.items()}, kinds)
    rows = torch.from_numpy(record.encode(whole).values.astype(np.float32))
    parts = {split: replace(part, inputs=rows[_places(part)]) for split, part in parts.items()}
    return tables.Found(class_names, parts, tuple(kinds), record=record)


def _places(part: LabeledData) -> Tensor:
    """Where the rows of a split are among those of all splits."""
    assert isinstance(part.inputs, Tensor)
    return part.inputs[:, 0]


def encode(record: Record, table: Any) -> Encoded:
    """The rows of a table as numbers by a record, and what no training row had."""
    return record.encode(_cells(table, record.kinds))


def _cells(table: Any, kinds: Mapping[str, str]) -> dict[str, Any]:
    check_columns(kinds, table.features)
    table = table.with_format("arrow")
    return {name: cells_of(table, name, kind) for name, kind in kinds.items()}


def features(
    table: tables.Table,
    label_column: str,
    *,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> dict[str, str]:
    """The columns to learn from and their kinds; a warning names those that are left out.

    Left out are columns that number the rows, those that hold one value or none, texts that hardly
    recur, and what is neither number, text, boolean nor date.

    Args:
        table: Training rows; those that are broken are not looked at.
        label_column: Is no feature.
        drop: Columns to leave out without a warning.
        keep: Columns to learn from whatever they hold.

    Raises:
        ValueError: If there is no such column, or none is left.
    """
    names = [name for name in table.rows.features if name != label_column]
    for argument, asked in (("drop", drop), ("keep", keep)):
        for name in asked:
            _check.choice(argument, name, names)
    for name in set(drop) & set(keep):
        _check.fail("keep", "name other columns than drop", name, "name it in one of them")
    sound = [n for n in range(len(table.rows)) if n not in table.broken]
    rows = table.rows.with_format("arrow")
    kinds, left_out = {}, {}
    for name in names:
        if name not in drop:
            of_levels = name in table.levels or hasattr(rows.features[name], "names")
            kind = "category" if of_levels else None
            kind, why = _looked_at(rows, name, sound, kind)
            if name in keep and not kind:
                must = "name columns of numbers, texts, booleans or dates"
                got = _check.Verbatim(f"{name!r}: {why}")
                _check.fail("keep", must, got, "leave it out, or convert it")
            if why and name not in keep:
                left_out[name] = why
            else:
                kinds[name] = kind
    said = ", ".join(f"{name!r} ({why})" for name, why in left_out.items())
    if not kinds:
        got = _check.Verbatim(said or "that of the labels alone")
        remedy = "add columns, or name one by keep (--keep), or texts by text_column"
        _check.fail("columns", "hold something to learn from", got, remedy)
    if left_out:
        message = f"{_check.caller('columns')}: columns are left out: {said}"
        remedy = "keep (--keep) takes a column in, and drop (--drop) leaves it out unsaid"
        warnings.warn(f"{message}; {remedy}.", DataWarning, stacklevel=4)
    return kinds


def _looked_at(
    table: Any, name: str, sound: Sequence[int], kind: str | None = None
) -> tuple[str, str]:
    """The kind of a column, and why it is left out, if it is.

    That there are no sound rows at all is said elsewhere.
    """
    cells = cells_of(table, name, kind)
    if cells is None:
        return "", f"it holds {tables.kind_of(table.features[name])}"
    kind = kind or kind_of(name, cells)
    if not sound:
        return kind, ""
    values = read(kind, cells).values[sound]
    levels = Counter(values.tolist() if kind == "category" else [])
    count = len(levels) or len(np.unique(values))
    gaps = levels[None] if levels else int(np.isnan(values).sum())
    filled = len(values) - gaps
    known = values[~np.isnan(values)] if kind == "number" else values
    whole = kind == "number" and bool((known % 1 == 0).all())
    different = count - (gaps > 0) > DIFFERENT * len(values)
    if not filled:
        return kind, "it is empty"
    if tables.INDEX.fullmatch(name):
        return kind, "it numbers the rows"
    if count == 1:
        return kind, "it holds one value"
    if different and whole and known.min() in (0, 1) and np.ptp(known) < len(table):
        return kind, "it numbers the rows"
    if different and (whole or kind == "category") and IDENTITY.fullmatch(name):
        return kind, "it names the rows"
    if levels and (2 * count > filled or max(levels.values()) < rare(len(values))):
        return kind, RECUR
    return kind, ""


def cells_of(table: Any, name: str, kind: str | None = None) -> Any:
    """The cells of a column, of a table in Arrow's format, as a record takes them.

    Texts that are all numbers come as numbers, unless there is a kind that is another. Lists,
    pictures and the like are None, unless there is a kind.
    """
    import pyarrow
    from pyarrow import compute, types

    column = table[name][:]
    column = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    feature, type_ = table.features[name], column.type
    if names := getattr(feature, "names", None):
        return _objects([None if k is None or k < 0 else names[k] for k in column.to_pylist()])
    if (types.is_timestamp(type_) or types.is_date(type_)) and kind in (None, "date"):
        moments = compute.local_timestamp(column) if getattr(type_, "tz", None) else column
        return moments.cast(pyarrow.timestamp("us"), safe=False).to_numpy(zero_copy_only=False)
    numeric = types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_)
    texts = types.is_string(type_) or types.is_large_string(type_)
    if kind in (None, "number") and (numeric or texts):
        try:
            values = column.cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
        except pyarrow.ArrowInvalid:
            pass
        else:
            if numeric or np.isfinite(values).any():
                return values
    plain = numeric or texts or types.is_boolean(type_) or types.is_null(type_)
    return _objects(column.to_pylist()) if plain or kind is not None else None


def row_texts(values: Mapping[str, Any]) -> list[str]:
    """The values of each row as JSON: rows that agree have one text, however they are stored."""
    import pyarrow
    from pyarrow import compute

    parts = []
    for column in values.values():
        if column.dtype == object:
            levels = pyarrow.array(column.tolist(), pyarrow.string()).dictionary_encode()
            named = [json.dumps(level) for level in levels.dictionary.to_pylist()]
            texts = pyarrow.array(named, pyarrow.string()).take(levels.indices)
        else:
            texts = pyarrow.array(column + 0.0, from_pandas=True).cast(pyarrow.string())
        parts.append(texts.fill_null("null"))
    joined = compute.binary_join_element_wise(*parts, ", ")
    whole = compute.binary_join_element_wise("[", joined, "]", "")
    return [str(text) for text in whole.to_pylist()]


def _objects(cells: Sequence[object]) -> Any:
    return np.fromiter(cells, dtype=object, count=len(cells))

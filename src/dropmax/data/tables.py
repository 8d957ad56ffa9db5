"""A table of labeled rows, of files or of the hub: its splits, columns, classes, targets."""

import math
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from dropmax import _check
from dropmax.data import delimited
from dropmax.data.labeled import BrokenRows, LabeledData, some
from dropmax.data.record import Record
from dropmax.data.splits import SPLITS

DELIMITED = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
SUFFIXES = (*DELIMITED, ".parquet")
"""Of files that are a table each."""
READERS = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "read_excel({!r})"),
    ".json": "read_json({!r})",
    **dict.fromkeys((".jsonl", ".ndjson"), "read_json({!r}, lines=True)"),
    **dict.fromkeys((".feather", ".arrow"), "read_feather({!r})"),
    ".orc": "read_orc({!r})",
    ".dta": "read_stata({!r})",
    ".sav": "read_spss({!r})",
    ".sas7bdat": "read_sas({!r})",
    **dict.fromkeys((".zip", ".bz2", ".xz", ".zst", ".txt", ".dat"), "read_csv({!r})"),
}
"""What pandas reads other tables with, by suffix."""
INDEX = re.compile(r"(__index_level_\d+__|Unnamed: \d+(\.\d+)?)?")
"""Names of columns that hold the index of a DataFrame, and no feature."""
TRUE_OR_FALSE = {"true": "1", "false": "0"}
WHOLE = re.compile(r"([+-]?)(0|[1-9]\d*)(\.0*)?", re.ASCII)
"""A whole number, without zeros before it."""
LABEL = "label"
"""Where nothing else says which column holds the labels, the one of this name does."""

NOWHERE: Mapping[int, str] = MappingProxyType({})
"""The places of rows that are no files."""

Read = TypeVar("Read")


class Table(NamedTuple):
    """The rows of a split.

    Attributes:
        rows: A `datasets.Dataset`.
        broken: What is wrong with a row.
        levels: The columns that their file says hold categories, whatever stands in them.
    """

    rows: Any
    broken: dict[int, str]
    levels: frozenset[str] = frozenset()


class Found(NamedTuple):
    """What is read of a data set: names of its classes, its splits, and the columns of its rows.

    Of pictures there is also the size to which they were resized, and None if they are as they
    were. Of a table there is what was fitted to its columns.
    """

    class_names: tuple[str, ...]
    splits: dict[str, LabeledData]
    columns: tuple[str, ...]
    size: int | None = None
    record: Record | None = None


def is_named_as_one(name: str) -> bool:
    """Whether a name is that of a file with a table."""
    return name.lower().endswith(SUFFIXES)


def holds_rows(file: Path) -> bool:
    """Whether a file is a table by its name, of a kind that we read or of another."""
    return is_named_as_one(file.name) or file.suffix.lower() in READERS


def is_table(file: Path) -> bool:
    """Whether a file holds a table, by its name."""
    return is_named_as_one(file.name) and file.is_file()


def stem(file: Path) -> str:
    """The name of a table without its end."""
    end = next(end for end in SUFFIXES if file.name.lower().endswith(end))
    return file.name[: -len(end)]


def read(argument: str, file: Path) -> Table:
    """The table in a file.

    Raises:
        ValueError: If it is none of `SUFFIXES`, or cannot be read.
    """
    return read_with_cells(argument, file)[0]


def read_with_cells(argument: str, file: Path) -> tuple[Table, Any]:
    """The table in a file, and its cells as they stand there: a `pyarrow.Table` of the same names.

    The standard input is a CSV file.

    Raises:
        ValueError: If it is none of `SUFFIXES`, or cannot be read.
    """
    name = file.name.lower()
    if name.endswith(DELIMITED) or file == delimited.STANDARD_INPUT:
        with _check.extra("train"):
            rows, broken, cells = delimited.read(argument, file)
        return Table(rows, broken), cells
    if not name.endswith(SUFFIXES):
        reader = READERS.get(file.suffix.lower(), "").format(str(file))
        must = "be a CSV or TSV file, packed by gzip or not, or a parquet file"
        way = f"convert it: pandas.{reader}.to_csv('{file.stem}.csv', index=False)"
        _check.fail(argument, must, str(file), way if reader else "save it as CSV")
    return _parquet(argument, file)


def _parquet(argument: str, file: Path) -> tuple[Table, Any]:
    with _check.extra("train"):
        import datasets
        import pyarrow
        from pyarrow import parquet

    try:
        found = parquet.read_table(file)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__}: {reason})")
        must = "be a readable parquet file"
        _check.fail(argument, must, got, "check the file", error=_check.kind_of(error))
    of_pandas = (found.schema.pandas_metadata or {}).get("columns", ())
    levels = {one["name"] for one in of_pandas if one["pandas_type"] == "categorical"}
    cells = found
    for place, field in enumerate(found.schema):
        column = found.column(place)
        if pyarrow.types.is_dictionary(field.type):
            levels.add(field.name)
            column = column.cast(field.type.value_type)
        if field.name in levels:
            found = found.set_column(place, field.name, column.cast(pyarrow.string()))
    rows = datasets.Dataset(datasets.table.InMemoryTable(found))
    return Table(rows, {}, frozenset(levels)), cells


def first(splits: Mapping[str, Table]) -> Table:
    """The split that says which columns and classes there are: train, or the only one."""
    return splits["train"] if "train" in splits else next(iter(splits.values()))


def column(argument: str, column: str | None, features: Any, kind: str, taken: str = "") -> str:
    """The column asked for, or the only one of a kind: "Image", "ClassLabel" or "string".

    Labels may also stand in the column `LABEL`, or in the only one beside that of the images. A
    column that is taken is none of those found.
    """
    if column is not None:
        _check.choice(argument, column, features)
        return column
    found = [
        str(name)
        for name, feature in features.items()
        if kind_of(feature) == kind and name != taken and not INDEX.fullmatch(name)
    ]
    if not found and kind == "ClassLabel":
        others = [str(name) for name, feature in features.items() if not is_image(feature)]
        found = [LABEL] if LABEL in others else others if len(others) < len(features) else []
    if len(found) != 1:
        came = f"{len(found)} among the columns {', '.join(features)}"
        must = f"be named where there is not one column of type {kind}"
        remedy = f"pass --{argument.replace('_', '-')}"
        if len(features) == 1:
            remedy = "check what separates the fields: a comma, a semicolon, a tab or |"
        _check.fail(argument, must, _check.Verbatim(came), remedy)
    return found[0]


def is_image(feature: Any) -> bool:
    """Whether a column holds images."""
    return kind_of(feature) == "Image"


def kind_of(feature: Any) -> str:
    """The type of a column: of plain values that of the values, else the name of its class."""
    kind = type(feature).__name__
    return str(feature.dtype).removeprefix("large_") if kind == "Value" else kind


def class_names(rows: Any, column: str, broken: Mapping[int, str]) -> tuple[str, ...]:
    """Names of the classes: those the data set keeps, else the labels of sound rows in order."""
    _check_some(len(rows), "train", broken)
    kept = getattr(rows.features[column], "names", None)
    by_row = {n: label for n, label in enumerate(labels(rows, column)) if label is not None}
    found = {label for n, label in by_row.items() if n not in broken}
    if not kept and (lost := {n: label for n, label in by_row.items() if label not in found}):
        n, label = next(iter(lost.items()))
        got = _check.Verbatim(f"none of {label!r}: row {n}, say ({broken[n]})")
        _check.fail("rows", "hold a sound one of every class", got, "mend or remove them")
    names = kept or sorted(found, key=numbers_first)
    if len(names) < 2:
        got = _check.Verbatim(f"{len(names)} in column {column!r}")
        _check.fail("labels", "have two classes or more", got, "check the column")
    return tuple(names)


def labels(rows: Any, column: str) -> list[str | None]:
    """The name of each row's class, or None where it has none."""
    names = getattr(rows.features[column], "names", None)
    values = rows[column][:]
    if names:
        return [None if value is None or value < 0 else names[value] for value in values]
    try:
        known = {value: name_of(value) for value in set(values)}
    except TypeError:
        got = _check.Verbatim(f"{rows.features[column]} in column {column!r}")
        _check.fail("labels", "be one class a row", got, "name another column")
    return [known[value] for value in values]


def name_of(label: object) -> str | None:
    """The name of a class, however its label is stored; None for None, NaN and what is empty.

    True, "true", 1, 1.0, "1" and "1.0" are "1"; "007" is "007".
    """
    if label is None or label != label:
        return None
    text = str(label).strip()
    if whole := WHOLE.fullmatch(text):
        text = "-" * (whole[1] == "-" and whole[2] != "0") + whole[2]
    return TRUE_OR_FALSE.get(text.lower(), text) or None


def numbers_first(name: str) -> tuple[bool, float, str]:
    """By which names are sorted: numbers by their value, before all others."""
    try:
        value = float(name)
    except ValueError:
        value = math.nan
    return (False, value, name) if math.isfinite(value) else (True, 0.0, name)


def targets(
    rows: Any,
    column: str,
    class_names: tuple[str, ...],
    broken: dict[int, str],
) -> Tensor:
    """Class indices of the rows; -1, and a reason in `broken`, where there is none."""
    _check.choice("label_column", column, rows.features)
    index = {name: k for k, name in enumerate(class_names)}
    found = labels(rows, column)
    for n, label in enumerate(found):
        if label is None:
            broken.setdefault(n, "no label")
        elif label not in index:
            broken.setdefault(n, f"the label {label!r} is not in train")
    return torch.tensor([index.get(label or "", -1) for label in found], dtype=torch.int64)


def labeled(
    splits: Mapping[str, Table],
    column: str,
    read: Callable[[Any, dict[int, str]], Read],
    names: tuple[str, ...] = (),
) -> tuple[tuple[str, ...], dict[str, tuple[Read, Tensor, list[int], dict[int, str]]]]:
    """Class names; and by split what `read` makes of the rows, their classes, which rows are sound,
    and what is wrong with the others.

    `read` takes rows and the reasons for which some are broken, to which it adds. The names are
    those of the training rows, if none are given.
    """
    found = {}
    for split in SPLITS:
        if split in splits:
            rows, broken = splits[split].rows, dict(splits[split].broken)
            values = read(rows, broken)
            names = names or class_names(rows, column, broken)
            target = targets(rows, column, names, broken)
            found[split] = values, target, sound(len(rows), split, broken), broken
    return names, found


def sound(
    count: int, split: str, broken: Mapping[int, str], places: Mapping[int, str] = NOWHERE
) -> list[int]:
    """The rows that are not broken; a warning names those that are, by their places if they have.

    Raises:
        ValueError: If none is sound.
    """
    _check_some(count, split, broken, places)
    if broken:
        left_out = f"{len(broken)} of {count} rows of {split} are broken and left out"
        message = f"{_check.caller('rows')}: {left_out}"
        warnings.warn(f"{message}: {named(broken, places)}.", BrokenRows, stacklevel=4)
    return [n for n in range(count) if n not in broken]


def notes(broken: Mapping[int, str], places: Mapping[int, str] = NOWHERE) -> tuple[str, ...]:
    """What is wrong with each row that is left out."""
    return tuple(f"{places.get(n, f'row {n}')}: {broken[n]}" for n in sorted(broken))


def _check_some(
    count: int, split: str, broken: Mapping[int, str], places: Mapping[int, str] = NOWHERE
) -> None:
    """One row at least is not broken."""
    if len(broken) == count:
        got = _check.Verbatim(named(broken, places) or "no rows")
        must = f"be readable, one of {split} at least"
        remedy = "mend the rows, or check which columns are read"
        if places:
            remedy = "check the files"
        _check.fail("rows", must, got, remedy)


def named(broken: Mapping[int, str], places: Mapping[int, str] = NOWHERE) -> str:
    """The first rows, and what is wrong with them."""
    return some([f"{places.get(n, f'row {n}')} ({broken[n]})" for n in sorted(broken)])

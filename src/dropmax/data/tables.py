"""A table of labeled rows, of files or of the hub: its splits, columns, classes, targets."""

import math
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from dropmax import _check
from dropmax.data import delimited
from dropmax.data.dataset import LabeledData
from dropmax.errors import DropmaxFileNotFoundError

SUFFIXES = (".csv", ".parquet")
"""Of files that are a table each."""
INDEX = re.compile(r"__index_level_\d+__")
"""Names of columns that hold the index of a DataFrame, and no feature."""
LABEL = "label"
"""Where nothing else says which column holds the labels, the one of this name does."""
SHOWN = 5
"""How many broken rows a warning names."""


Read = TypeVar("Read")


class BrokenRows(UserWarning):
    """Rows of a data set that could not be read and were left out."""


class Table(NamedTuple):
    """The rows of a split, a `datasets.Dataset`, and what is wrong with those that are broken."""

    rows: Any
    broken: dict[int, str]


class Found(NamedTuple):
    """What is read of a data set: names of its classes, its splits, and the columns of its rows."""

    class_names: tuple[str, ...]
    splits: dict[str, LabeledData]
    columns: tuple[str, ...]


def load(source: str, root: str | Path | None) -> dict[str, Table]:
    """The splits by name, of a file, a folder or the hub."""
    with _check.extra("train"):
        import datasets

    if not isinstance(source, str) or not source:
        remedy = "pass a file, a folder or a name"
        _check.fail("source", "name a data set", source, remedy, of=str)
    places = _places(source, root)
    place = next((place for place in places if place.is_dir() or is_table(place)), None)
    if place is not None and place.is_file():
        return {"train": read("source", place)}
    if place is not None and (files := _files_with_csv(place)):
        return _splits_of(files)
    looks_like_a_path = (
        source.startswith((".", "~")) or Path(source).is_absolute() or source.count("/") > 1
    )
    looked = ", ".join(str(place) for place in places)
    if place is None and (looks_like_a_path or source.lower().endswith(SUFFIXES)):
        got = _check.Verbatim(f"{source!r}, which is not at {looked}")
        must = "be a folder, or a CSV or parquet file"
        _check.fail("source", must, got, "check the path", error=DropmaxFileNotFoundError)
    try:
        splits = datasets.load_dataset(str(place) if place else source)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0]
        got = _check.Verbatim(f"{source!r} ({looked} is no folder; {reason})")
        if place:
            got = _check.Verbatim(f"{source!r} ({reason})")
        must = "be a folder of data files or a data set of the hub"
        remedy = "check the name, --data-root or DROPMAX_DATA, and the network"
        _check.fail("source", must, got, remedy, error=_check.kind_of(error))
    if "train" not in splits:
        got = _check.Verbatim(", ".join(splits))
        _check.fail("splits", "hold train", got, "name the training split train")
    return {split: Table(rows, {}) for split, rows in splits.items()}


def _places(name: str, root: str | Path | None) -> list[Path]:
    """Where a file or a folder of that name may lie."""
    root = root or os.environ.get("DROPMAX_DATA")
    return [*([Path(root, name)] if root else []), Path(name).expanduser()]


def is_table(file: Path) -> bool:
    """Whether a file holds a table, by its name."""
    return file.suffix.lower() in SUFFIXES and file.is_file()


def read(argument: str, file: Path) -> Table:
    """The table in a CSV or parquet file."""
    with _check.extra("train"):
        import datasets

    if file.suffix.lower() == ".csv":
        return Table(*delimited.read(argument, file))
    try:
        splits = datasets.load_dataset("parquet", data_files=str(file))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__})")
        must = "be a readable parquet file"
        _check.fail(argument, must, got, "check the file", error=_check.kind_of(error))
    return Table(splits["train"], {})


def _files_with_csv(folder: Path) -> list[Path]:
    """The tables of a folder, if a CSV file is of a split or there is nothing but tables."""
    every = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    files = [file for file in every if is_table(file)]
    csv = [file for file in files if file.suffix.lower() == ".csv"]
    of_a_split = any(_is_of(split, file) for file in csv for split in ("train", "test"))
    return files if of_a_split or (csv and len(files) == len(every)) else []


def _is_of(split: str, file: Path) -> bool:
    return re.match(rf"{split}(?![a-z])", file.stem.lower()) is not None


def _splits_of(files: list[Path]) -> dict[str, Table]:
    """The tables named train and test; a single one of any other name is train."""
    names = {split: [file for file in files if _is_of(split, file)] for split in ("train", "test")}
    if not any(names.values()):
        names["train"] = files
    if len(names["train"]) != 1 or len(names["test"]) > 1:
        got = _check.Verbatim(", ".join(file.name for file in files))
        must = "be one train.csv, with one test.csv or without"
        _check.fail("tables of a folder", must, got, "rename or join them")
    return {split: read("source", found[0]) for split, found in names.items() if found}


def column(argument: str, column: str | None, features: Any, kind: str, taken: str = "") -> str:
    """The column asked for, or the only one of a kind: "Image", "ClassLabel" or "string".

    Labels may also stand in the column `LABEL`. A column that is taken is none of those found.
    """
    if column is not None:
        _check.choice(argument, column, features)
        return column
    found = [
        str(name)
        for name, feature in features.items()
        if kind_of(feature) == kind and name != taken
    ]
    if not found and kind == "ClassLabel" and LABEL in features:
        return LABEL
    if len(found) != 1:
        came = f"{len(found)} among the columns {', '.join(features)}"
        must = f"be named where there is not one column of type {kind}"
        option = "--" + argument.replace("_", "-")
        _check.fail(argument, must, _check.Verbatim(came), f"pass {option}")
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
    by_row = {n: str(label) for n, label in enumerate(rows[column][:]) if _is_named(label)}
    found = {label for n, label in by_row.items() if n not in broken}
    if not kept and (lost := {n: label for n, label in by_row.items() if label not in found}):
        n, label = next(iter(lost.items()))
        got = _check.Verbatim(f"none of {label!r}: row {n}, say ({broken[n]})")
        _check.fail("rows", "hold a sound one of every class", got, "mend or remove them")
    names = kept or sorted(found, key=_numbers_first)
    if len(names) < 2:
        got = _check.Verbatim(f"{len(names)} in column {column!r}")
        _check.fail("labels", "have two classes or more", got, "check the column")
    return tuple(names)


def _is_named(label: object) -> bool:
    """Whether a label is one, and neither None, NaN nor empty."""
    return label is not None and label == label and str(label).strip() != ""


def _numbers_first(name: str) -> tuple[bool, float, str]:
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
    labels = rows[column][:]
    if not getattr(rows.features[column], "names", None):
        index: Mapping[str, int] = {name: k for k, name in enumerate(class_names)}
        for n, label in enumerate(labels):
            labels[n] = index.get(str(label)) if _is_named(label) else None
            if _is_named(label) and labels[n] is None:
                broken.setdefault(n, f"the label {str(label)!r} is not in train")
    for n, label in enumerate(labels):
        if label is None or label < 0:
            labels[n] = -1
            broken.setdefault(n, "no label")
    return torch.tensor(labels, dtype=torch.int64)


def labeled(
    splits: Mapping[str, Table],
    column: str,
    read: Callable[[Any, dict[int, str]], Read],
) -> tuple[tuple[str, ...], dict[str, tuple[Read, Tensor, list[int], dict[int, str]]]]:
    """Class names; and by split what `read` makes of the rows, their classes, which rows are sound,
    and what is wrong with the others.

    `read` takes rows and the reasons for which some are broken, to which it adds.
    """
    names: tuple[str, ...] = ()
    found = {}
    for split in ("train", "test"):
        if split in splits:
            rows, broken = splits[split].rows, dict(splits[split].broken)
            values = read(rows, broken)
            names = names or class_names(rows, column, broken)
            target = targets(rows, column, names, broken)
            found[split] = values, target, sound(len(rows), split, broken), broken
    return names, found


def sound(count: int, split: str, broken: Mapping[int, str]) -> list[int]:
    """The rows that are not broken; a warning names those that are.

    Raises:
        ValueError: If none is sound.
    """
    _check_some(count, split, broken)
    if broken:
        left_out = f"{len(broken)} of {count} rows of {split} are broken and left out"
        message = f"{_check.caller('rows')}: {left_out}"
        warnings.warn(f"{message}: {_named(broken)}.", BrokenRows, stacklevel=4)
    return [n for n in range(count) if n not in broken]


def notes(broken: Mapping[int, str]) -> tuple[str, ...]:
    """What is wrong with each row that is left out."""
    return tuple(f"row {n}: {broken[n]}" for n in sorted(broken))


def _check_some(count: int, split: str, broken: Mapping[int, str]) -> None:
    """One row at least is not broken."""
    if len(broken) == count:
        got = _check.Verbatim(_named(broken) or "no rows")
        must = f"be readable, one of {split} at least"
        remedy = "check the columns, and pass --text-column for texts"
        _check.fail("rows", must, got, remedy)


def _named(broken: Mapping[int, str]) -> str:
    """The first rows, and what is wrong with them."""
    first = [f"row {n} ({broken[n]})" for n in sorted(broken)[:SHOWN]]
    return ", ".join(first) + ", ..." * (len(broken) > SHOWN)

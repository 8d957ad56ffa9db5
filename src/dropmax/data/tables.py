"""A table of labeled rows, of a folder or of the hub: its splits, columns, classes, targets."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropmax import _check


def load(function: str, name: str, root: str | Path | None) -> Any:
    """The splits by name, of a folder or of the hub."""
    import datasets

    if not isinstance(name, str) or not name:
        _check.fail(function, "name", "name a data set", name, "pass a folder, or a name")
    root = root or os.environ.get("DROPMAX_DATA")
    places = [Path(root, name)] if root else []
    places.append(Path(name).expanduser())
    folder = next((place for place in places if place.is_dir()), None)
    looks_like_a_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    looked = ", ".join(str(place) for place in places)
    if folder is None and looks_like_a_path:
        got = _check.Verbatim(f"{name!r}, which is not at {looked}")
        _check.fail(function, "name", "be a folder", got, "check the path")
    try:
        splits = datasets.load_dataset(str(folder) if folder else name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0]
        got = _check.Verbatim(f"{name!r} ({looked} is no folder; {reason})")
        if folder:
            got = _check.Verbatim(f"{name!r} ({reason})")
        must = "be a folder of data files or a data set of the hub"
        remedy = "check the name, --data-root or DROPMAX_DATA, and the network"
        _check.fail(function, "name", must, got, remedy)
    if "train" not in splits:
        got = _check.Verbatim(", ".join(splits))
        _check.fail(function, "splits", "hold train", got, "name the training split train")
    return splits


def column(function: str, argument: str, column: str | None, features: Any, kind: str) -> str:
    """The column asked for, or the only one of a kind: "Image", "ClassLabel" or "string"."""
    if column is not None:
        _check.choice(function, argument, column, features)
        return column
    found = [str(name) for name, feature in features.items() if kind_of(feature) == kind]
    if len(found) != 1:
        came = f"{len(found)} among the columns {', '.join(features)}"
        must = f"be named where there is not one column of type {kind}"
        option = "--" + argument.replace("_", "-")
        _check.fail(function, argument, must, _check.Verbatim(came), f"pass {option}")
    return found[0]


def kind_of(feature: Any) -> str:
    """The type of a column: of plain values that of the values, else the name of its class."""
    kind = type(feature).__name__
    return str(feature.dtype).removeprefix("large_") if kind == "Value" else kind


def class_names(function: str, rows: Any, column: str) -> tuple[str, ...]:
    """Names of the classes: those the data set keeps, else its different labels in order."""
    names = getattr(rows.features[column], "names", None) or [
        str(label) for label in sorted(set(rows[column]))
    ]
    if len(names) < 2:
        got = _check.Verbatim(f"{len(names)} in column {column!r}")
        _check.fail(function, "labels", "have two classes or more", got, "check the column")
    return tuple(names)


def targets(
    function: str, rows: Any, column: str, class_names: tuple[str, ...], split: str
) -> Tensor:
    """Class indices of the rows."""
    labels = list(rows[column])
    if not getattr(rows.features[column], "names", None):
        index = {name: k for k, name in enumerate(class_names)}
        labels = [index.get(str(label), -1) for label in labels]
    unknown = [n for n, label in enumerate(labels) if label is None or label < 0]
    if unknown:
        got = _check.Verbatim(f"{len(unknown)} rows without one, the first is {unknown[0]}")
        must = f"name a class of the training split in every row of {split}"
        _check.fail(function, "labels", must, got, "remove those rows")
    return torch.tensor(labels, dtype=torch.int64)

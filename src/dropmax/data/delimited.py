"""A CSV file as a table of texts, in which a row keeps its place whether it can be read or not."""

import csv
import itertools
from pathlib import Path
from typing import Any

from dropmax import _check

SEPARATORS = ",;\t"
"""The one that stands most often in the header separates the fields."""


def read(function: str, argument: str, file: Path) -> tuple[Any, dict[int, str]]:
    """Columns of texts by the names in the first line; and what is wrong with which row.

    A column without a name, as pandas writes its index, is left out. Empty fields are None, and so
    is every field of a row that has too few or too many. Bytes that are not UTF-8 become U+FFFD.

    Raises:
        ValueError: If the file cannot be read, or its first line does not name columns.
    """
    import datasets

    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            header = next(stream, "")
            separator = max(SEPARATORS, key=header.count)
            records = csv.reader(itertools.chain([header], stream), delimiter=separator)
            names, *rows = [record for record in records if record] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__}: {error})")
        _check.fail(function, argument, "be a CSV file with a header", got, "check the file")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice or not any(names):
        got = _check.Verbatim(f"{twice[0]!r} twice" if twice else "none")
        must = f"stand in the first line of {file.name}, each once"
        _check.fail(function, "names of columns", must, got, "add or rename them")
    broken = {
        n: f"{len(row)} fields in place of {len(names)}"
        for n, row in enumerate(rows)
        if len(row) != len(names)
    }
    empty = [None] * len(names)
    whole = [empty if n in broken else [cell or None for cell in row] for n, row in enumerate(rows)]
    columns = dict(zip(names, zip(*whole, strict=True), strict=True)) if whole else {}
    kept = [name for name in names if name]
    features = datasets.Features({name: datasets.Value("string") for name in kept})
    table = {name: list(columns.get(name, ())) for name in kept}
    return datasets.Dataset.from_dict(table, features=features), broken

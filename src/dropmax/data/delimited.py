"""A CSV file as a table of texts, in which a row keeps its place whether it can be read or not."""

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dropmax import _check

SEPARATORS = ",;\t"
"""The one that stands most often in the header separates the fields."""
LONGEST = 2**31 - 1
"""Characters of a field, at most: what the reader takes."""


def read(argument: str, file: Path) -> tuple[Any, dict[int, str]]:
    """Columns of texts by the names in the first line; and what is wrong with which row.

    Spaces around names and fields do not count, and a column without a name, as pandas writes its
    index, is left out. Empty fields are None, and so is every field of a row that is broken.

    Raises:
        ValueError: If the file cannot be read, or its first line does not name columns.
    """
    import datasets

    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            lines = list(itertools.dropwhile(lambda line: not line.strip(), stream))
    except OSError as error:
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__})")
        must = "be a readable file"
        _check.fail(argument, must, got, "check the path", error=_check.kind_of(error))
    if any("\0" in line for line in lines[:2]):
        got = _check.Verbatim(f"zeros in {file.name}")
        _check.fail(argument, "be a CSV file in UTF-8", got, "save it as UTF-8")
    separator = max(SEPARATORS, key=(lines or [""])[0].count)
    names, *rows = list(_records(lines, separator)) or [[]]
    names = [] if isinstance(names, str) else names
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice or not any(names):
        got = _check.Verbatim(f"{twice[0]!r} twice" if twice else "none")
        must = f"stand in the first line of {file.name}, each once"
        _check.fail("names of columns", must, got, "add or rename them")
    broken = {n: why for n, row in enumerate(rows) if (why := _fault(row, len(names)))}
    empty = [None] * len(names)
    whole = [empty if n in broken else [cell or None for cell in row] for n, row in enumerate(rows)]
    columns = zip(*whole, strict=True) if whole else [()] * len(names)
    table = {name: list(column) for name, column in zip(names, columns, strict=True) if name}
    features = datasets.Features({name: datasets.Value("string") for name in table})
    return datasets.Dataset.from_dict(table, features=features), broken


def _records(lines: Sequence[str], separator: str) -> Iterator[list[str] | str]:
    """The fields of each row; or what is wrong with its first line, after which it goes on."""
    limit = csv.field_size_limit(LONGEST)
    try:
        start = 0
        while start < len(lines):
            rest = itertools.islice(lines, start, None)
            reader = csv.reader(rest, delimiter=separator, strict=True)
            read = 0
            try:
                for record in reader:
                    read = reader.line_num
                    if record:  # a blank line is none
                        yield [cell.strip() for cell in record]
                return
            except csv.Error as error:
                yield f"{error}: a quote that does not end, or ends early"
                start += read + 1
    finally:
        csv.field_size_limit(limit)


def _fault(row: list[str] | str, count: int) -> str:
    """What is wrong with a row; nothing if it is sound."""
    if isinstance(row, str):
        return row
    if len(row) != count:
        return f"{len(row)} fields in place of {count}"
    return "bytes that are not UTF-8" if any("\ufffd" in cell for cell in row) else ""

"""A CSV file as a table of texts, in which a row keeps its place whether it can be read or not."""

import csv
import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dropmax import _check

SEPARATORS = ",;\t|"
LOOKED_AT = 20
"""Rows that say, with the header, which of these separates the fields."""
LONGEST_HEADER = 10_000
"""Bytes in which a zero says that the file is no CSV file in UTF-8."""
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

    lines = _lines(argument, file)
    names, *rows = list(_records(lines, _separator_of(lines))) or [[]]
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


def _lines(argument: str, file: Path) -> list[str]:
    """The lines of a file from the first that is not blank: UTF-8, or cp1252 as spreadsheets save.

    A file in which no character beyond ASCII is sound UTF-8 is read as cp1252, and a warning says
    so. In any other file a line that is no UTF-8 keeps a mark where its bytes were.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__})")
        must = "be a readable file"
        _check.fail(argument, must, got, "check the path", error=_check.kind_of(error))
    if b"\0" in content[:LONGEST_HEADER]:
        got = _check.Verbatim(f"zeros in {file.name}, as UTF-16 has")
        _check.fail(argument, "be a CSV file in UTF-8", got, "save it as UTF-8")
    encoding = "utf-8-sig"
    beyond = [line for line in content.splitlines() if not line.isascii()]
    if beyond and not any(map(_is_utf8, beyond)):
        encoding = "cp1252"
        read_as = f"{file.name} is no UTF-8 and was read as cp1252"
        message = f"{_check.caller(argument)}: {read_as}; if that's wrong, save it as UTF-8."
        warnings.warn(message, stacklevel=4)
    text = content.decode(encoding, errors="replace")
    lines = io.StringIO(text, newline="")
    return list(itertools.dropwhile(lambda line: not line.strip(), lines))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _separator_of(lines: Sequence[str]) -> str:
    """The separator with which header and first rows agree most often on a number of fields."""

    def agreement(separator: str) -> tuple[int, int]:
        first = itertools.islice(_records(lines, separator), LOOKED_AT + 1)
        header, *rows = list(first) or [[]]
        if isinstance(header, str) or len(header) < 2:
            return 0, 0
        return sum(len(row) == len(header) for row in rows if isinstance(row, list)), len(header)

    return max(SEPARATORS, key=agreement)


def _records(lines: Sequence[str], separator: str) -> Iterator[list[str] | str]:
    """The fields of each row; or what is wrong with its first line, after which it goes on."""
    limit = csv.field_size_limit(LONGEST)
    try:
        start = 0
        while start < len(lines):
            rest = (lines[n] for n in range(start, len(lines)))
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

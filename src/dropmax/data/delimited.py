"""A CSV file as a table of texts, in which a row keeps its place whether it can be read or not."""

import csv
import gzip
import hashlib
import io
import itertools
import re
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dropmax import _check
from dropmax.data.labeled import DataWarning
from dropmax.data.record import NUMBER

SEPARATORS = ",;\t|"
GZIP = b"\x1f\x8b"
"""How a file starts that gzip has packed."""
STATED = re.compile(r'"?sep=(.)"?[^\S\r\n]*(\r\n|\r|\n)', re.IGNORECASE)
"""A first line by which spreadsheets state the separator."""
BLANK = re.compile(r"(?:[^\S\r\n]*[\r\n]+)+")
QUOTED = r'"(?<![^{0}\r\n]")(?:[^"]++|"")*+"(?![^{0}\r\n])'
"""A field in quotes, which stand right beside separators and line ends.

What comes before is looked at after the first quote, which is found faster so.
"""
FIRST = 1_000_000
"""Characters in which header and separator are looked for."""
LOOKED_AT = 20
"""Rows that say, with the header, which of these separates the fields."""
LONGEST_HEADER = 10_000
"""Bytes in which a zero says that the file is no CSV file in UTF-8."""
LONGEST = 2**31 - 1
"""Characters of a field, at most: what the reader takes."""
STANDARD_INPUT = Path("-")
"""What stands for the standard input in place of a file."""
NOT_UTF8 = "bytes that are not UTF-8"
MARK = "\ufffd"
"""What stands where such bytes were."""


@dataclass(frozen=True)
class Unreadable:
    """A row that is none: what is wrong with it, and the number of its first line."""

    why: str
    line: int


Read = tuple[list[str], list[Any], dict[int, str]]
"""The fields of the first line, the columns below as arrays of pyarrow, and what is wrong."""


class Delimited(NamedTuple):
    """A CSV file.

    Attributes:
        rows: A `datasets.Dataset` of texts.
        broken: What is wrong with which row.
        cells: A `pyarrow.Table` of the fields as they stand in the file, None where a row has too
            few or too many.
    """

    rows: Any
    broken: dict[int, str]
    cells: Any


def read(argument: str, file: Path) -> Delimited:
    """Columns of texts by the names in the first line; and what is wrong with which row.

    Spaces around names and fields do not count. A column without a name is called as pandas calls
    it, "Unnamed: 0" by its place. Fields that are empty or no UTF-8 are None, and so are all those
    of a row that has too few or too many.

    Raises:
        ValueError: If the file cannot be read, or its first line does not name columns.
    """
    import datasets
    import pyarrow

    text = text_of(argument, file)
    blank = BLANK.match(text)
    text = text if blank is None else text[blank.end() :]
    if stated := STATED.match(text):
        text = text[stated.end() :]
    first = list(io.StringIO(text[:FIRST], newline=""))
    separator = _separator_of(first) if stated is None else stated[1]
    head = next(_records(first, separator), [])
    count = len(head) if isinstance(head, list) else 0
    found = _sound(text, separator, count)
    header, columns, broken = _row_by_row(text, separator) if found is None else found
    header = [name.strip() for name in header]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice or not any(header):
        got = _check.Verbatim(f"{twice[0]!r} twice" if twice else "none")
        must = f"stand in the first line of {_name_of(file)}, each once"
        _check.fail("names of columns", must, got, "add or rename them")
    if (example := _number_in(header)) is not None:
        first_line = f"the first line of {_name_of(file)}"
        taken = f"{first_line} is taken for names of columns, such as {example!r}"
        message = f"{_check.caller(argument)}: {taken}; if it is a row, put names above it."
        warnings.warn(message, DataWarning, stacklevel=4)
    names = []
    for place, name in enumerate(header):
        unnamed = f"Unnamed: {place}"
        names.append(name or (f"{unnamed}.1" if unnamed in header else unnamed))
    has_marks = MARK in text  # to look for one in each field takes longer than to read them
    trimmed = [_trimmed(column, has_marks=has_marks) for column in columns]
    table = pyarrow.table(trimmed, names=names)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    rows = datasets.Dataset(table, fingerprint=fingerprint)
    return Delimited(rows, broken, pyarrow.table(columns, names=names))


def _name_of(file: Path) -> str:
    return "the standard input" if file == STANDARD_INPUT else file.name


def _trimmed(column: Any, *, has_marks: bool) -> Any:
    """Fields without the spaces around them; None where nothing is left, or nothing readable."""
    import pyarrow
    from pyarrow import compute

    cells = compute.utf8_trim_whitespace(column)
    unread = compute.equal(cells, "")
    if has_marks:
        unread = compute.or_(unread, compute.match_substring(cells, MARK))
    return compute.if_else(unread, pyarrow.scalar(None, pyarrow.string()), cells)


def _number_in(header: Sequence[str]) -> str | None:
    """A number among the names of columns, unless these are numbered in order."""
    numbers = [name for name in header if NUMBER.fullmatch(name)]
    start = int(numbers[0]) if numbers and numbers[0].isdecimal() else 0
    in_order = numbers == [str(start + n) for n in range(len(numbers))]
    return None if in_order else numbers[0]


def _sound(text: str, separator: str, count: int) -> Read | None:
    """A text of which every row has `count` sound fields, as `_row_by_row` reads it, but at once.

    None if one has not, or if quotes stand elsewhere than around fields: readers differ on these.
    """
    import pyarrow
    from pyarrow import csv

    within = re.compile(QUOTED.format(re.escape(separator)))
    if MARK in text or ('"' in text and '"' in within.sub("", text)):
        return None
    texts = {f"f{place}": pyarrow.string() for place in range(count)}
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(text.encode()),
            csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
            csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            csv.ConvertOptions(column_types=texts),
        )
    except pyarrow.ArrowInvalid:
        return None
    columns = [column.combine_chunks() for column in table.columns]
    if len(columns) != count:
        return None
    return [column[0].as_py() for column in columns], [column.slice(1) for column in columns], {}


def _row_by_row(text: str, separator: str) -> Read:
    """The rows of a text, of which some are broken. Those with all fields keep them.

    Of the others some keep their first or last field: it may be a label that no other row has.
    """
    import pyarrow

    lines = list(io.StringIO(text, newline=""))
    header, *rows = list(_records(lines, separator)) or [[]]
    header = [] if isinstance(header, Unreadable) else header
    count = len(header)
    broken = {n: why for n, row in enumerate(rows) if (why := _fault(row, count))}
    whole = [row if isinstance(row, list) and len(row) == count else None for row in rows]
    columns = [[None if row is None else row[place] for row in whole] for place in range(count)]
    others = {
        n: lines[row.line].split(separator) if isinstance(row, Unreadable) else row
        for n, row in enumerate(rows)
        if whole[n] is None
    }
    for place in {0, count - 1} if header else ():
        for n, cell in _repeated({n: _end(row, place) for n, row in others.items()}):
            columns[place][n] = cell
    return header, [pyarrow.array(column, pyarrow.string()) for column in columns], broken


def _end(row: list[str], place: int) -> str:
    """The first field of a row, or the last from a place on that is not empty."""
    fields = [field.strip().strip('"') for field in row]
    return fields[0] if place == 0 else next(filter(None, reversed(fields[place:])), "")


def _repeated(cells: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    """Those that can be read and are not the only one: one alone is likely no label."""
    count = Counter(cells.values())
    return ((n, cell) for n, cell in cells.items() if count[cell] > 1 and cell and MARK not in cell)


def text_of(argument: str, file: Path) -> str:
    """The text of a file, or of the standard input, as UTF-8 or as cp1252.

    A file in which no character beyond ASCII is sound UTF-8 is read as cp1252, as spreadsheets
    save, and a warning says so. In any other file a line that is no UTF-8 keeps a mark where its
    bytes were. What gzip has packed is known by its first bytes.
    """
    try:
        content = sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__}: {reason})")
        must = "be a readable file"
        _check.fail(argument, must, got, "check the file", error=_check.kind_of(error))
    if b"\0" in content[:LONGEST_HEADER]:
        got = _check.Verbatim(f"zeros in {_name_of(file)}, as UTF-16 has")
        _check.fail(argument, "be a CSV file in UTF-8", got, "save it as UTF-8")
    encoding = "utf-8-sig"
    beyond = [] if content.isascii() else content.splitlines()
    beyond = [line for line in beyond if not line.isascii()]
    if beyond and not any(map(_is_utf8, beyond)):
        encoding = "cp1252"
        read_as = f"{_name_of(file)} is no UTF-8 and was read as cp1252"
        message = f"{_check.caller(argument)}: {read_as}; if that's wrong, save it as UTF-8."
        warnings.warn(message, DataWarning, stacklevel=4)
    return content.decode(encoding, errors="replace")


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
        if isinstance(header, Unreadable) or len(header) < 2:
            return 0, 0
        return sum(len(row) == len(header) for row in rows if isinstance(row, list)), len(header)

    return max(SEPARATORS, key=agreement)


def _records(lines: Sequence[str], separator: str) -> Iterator[list[str] | Unreadable]:
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
                        yield record
                return
            except csv.Error as error:
                why = f"{error}: a quote that does not end, or ends early"
                yield Unreadable(why, start + read)
                start += read + 1
    finally:
        csv.field_size_limit(limit)


def _fault(row: list[str] | Unreadable, count: int) -> str:
    """What is wrong with a row; nothing if it is sound."""
    if isinstance(row, Unreadable):
        return row.why
    if len(row) != count:
        return f"{len(row)} fields in place of {count}"
    return NOT_UTF8 if any(MARK in cell for cell in row) else ""

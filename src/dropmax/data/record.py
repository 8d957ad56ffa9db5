"""How the columns of a table become numbers: fitted to training rows, kept as JSON, applied alike.

`Record.fit` looks at training rows alone. `Record.encode` is what training, prediction and the
estimator of scikit-learn apply. The cells of a column are a NumPy array: of numbers, booleans or
moments, or of objects, among them texts as a CSV file has them.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from dropmax import _check

RARE = 5
"""A level of fewer training rows is pooled with the other rare ones; of one in 20 in few rows."""
MOST = 256
"""A category becomes so many columns at most; of more levels the rarer ones are pooled."""
NEARLY = 0.9
"""A column is of a kind if this share of its filled cells is; the others count as gaps."""
LARGEST = float(np.finfo(np.float32).max)
"""No number of a larger size is read."""
GAPS = frozenset(("", "-", "?", ".", "na", "n/a", "#n/a", "nan", "nat", "null", "none"))
"""What stands for a gap among numbers, booleans and dates, in any case."""
BOOLEANS = {"true": 1.0, "false": 0.0}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WITH_COMMAS = re.compile(r"[+-]?(\d+,\d+|\d{1,3}(,\d{3})+(\.\d*)?|\d{1,3}(\.\d{3})+,\d+)", re.ASCII)
"""A number whose commas stand for decimals or between thousands: nothing says which."""
DATE = re.compile(r"\d{4}[-/]\d\d[-/]\d\d([T ].*)?", re.ASCII)
EPOCH = datetime(1970, 1, 1)

Value = TypeVar("Value")


class Values(NamedTuple):
    """The cells of a column, read as one kind.

    Attributes:
        values: float64 with NaN at gaps: numbers, 0 or 1, or seconds since 1970; of a category
            the levels as texts, None at gaps.
        odd: The cells that are none of the kind and count as gaps, by row.
    """

    values: Any
    odd: dict[int, object]


class Encoded(NamedTuple):
    """Rows as numbers, float64 `[N, D]`, and by row what no training row had."""

    values: Any
    notes: dict[int, list[str]]


def kind_of(name: str, cells: Any) -> str:
    """What nearly all filled cells of a column are: "boolean", "number", "date" or "category".

    Raises:
        ValueError: If they are numbers with commas.
    """
    if cells.dtype != object:
        return {"b": "boolean", "M": "date"}.get(cells.dtype.kind, "number")
    cells = cells.tolist()
    each = Counter(cells).items() if _are_texts(cells) else ((cell, 1) for cell in cells)
    filled = [(cell, count) for cell, count in each if not _is_gap(cell)]
    nearly_all = NEARLY * sum(count for _, count in filled)
    if not filled:
        return "number"
    counts = {
        kind: sum(count for cell, count in filled if parse(cell) is not None)
        for kind, parse in PARSERS.items()
    }
    commas = {c: n for c, n in filled if isinstance(c, str) and WITH_COMMAS.fullmatch(c.strip())}
    if commas and sum(commas.values()) + counts["number"] >= nearly_all:
        must = "hold numbers without commas"
        remedy = "save them with a point before decimals, and nothing between thousands"
        _check.fail(f"column {name!r}", must, next(iter(commas)), remedy)
    kind = max(counts, key=counts.__getitem__)
    return kind if counts[kind] >= nearly_all else "category"


def rare(count: int) -> int:
    """A level of fewer rows than this, among so many, is rare."""
    return max(1, min(RARE, count // 20))


def read(kind: str, cells: Any) -> Values:
    """The cells of a column as values of a kind; an array of values stays what it is."""
    if kind == "category":
        levels = _each(_level, cells.tolist())
        return Values(np.fromiter(levels, dtype=object, count=len(levels)), {})
    if cells.dtype.kind in "biuf":
        values = cells.astype(np.float64)
        odd = np.abs(values) > LARGEST
        if kind == "boolean":
            odd |= ~np.isin(values, (0.0, 1.0)) & ~np.isnan(values)
        values[odd] = np.nan
        return Values(values, {n: cells[n].item() for n in np.flatnonzero(odd).tolist()})
    known = cells.astype("M8[us]") if cells.dtype.kind == "M" else cells
    cells = known.tolist()
    parsed = _each(PARSERS[kind], cells)
    found = {n: cells[n] for n, value in enumerate(parsed) if value is None}
    return Values(np.array([math.nan if v is None else v for v in parsed], dtype=float), found)


def told(kind: str, value: object) -> str:
    """A value of a kind as a person reads it; nothing for a gap.

    Examples:
        >>> from dropmax.data.record import told
        >>> told("date", 86400.0), told("boolean", 1.0), told("number", 0.5), told("number", None)
        ('1970-01-02', 'true', '0.5', '')
    """
    if value is None:
        return ""
    if kind == "boolean":
        return next(name for name, number in BOOLEANS.items() if number == value)
    if kind == "date":
        moment = EPOCH + timedelta(seconds=float(str(value)))
        return str(moment.date() if moment.time() == time() else moment)
    return str(value)


def values_of(
    kinds: Mapping[str, str], cells: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[int, list[str]]]:
    """The values of columns, and by row which cells are none and count as gaps."""
    values, notes = dict[str, Any](), dict[int, list[str]]()
    for name, kind in kinds.items():
        values[name], odd = read(kind, cells[name])
        for n, cell in odd.items():
            notes.setdefault(n, []).append(f"column {name!r} {oddity(kind, cell)}")
    return values, notes


def check_columns(names: Iterable[str], found: Iterable[str]) -> None:
    """The columns are among those found."""
    found = list(found)
    for name in names:
        if name not in found:
            got = _check.Verbatim(f"the columns {', '.join(map(str, found))}")
            must = f"hold the column {name!r} as in training"
            _check.fail("table", must, got, "add or rename it")


def oddity(kind: str, cell: object) -> str:
    """Why a cell is no value of a kind."""
    holds = f"holds {str(cell)[:40]!r}"
    if kind == "number" and WITH_COMMAS.fullmatch(str(cell)):
        return f"{holds}: numbers are written without commas"
    is_none = {
        "number": "no finite number",
        "boolean": "neither true nor false",
        "date": "no date like 2024-01-31",
    }
    return f"{holds}, {is_none[kind]}"


@dataclass(frozen=True)
class Numeric:
    """A column of numbers, booleans or dates: gaps become medians, and the rest is standardized.

    A date is four numbers: days since the first training day, year, month and weekday (Monday is
    0). If training rows had gaps, one more number says where a gap is.

    Attributes:
        name: Of the column.
        kind: "number", "boolean" or "date".
        medians: Of each number.
        gaps: Whether training rows had gaps.
        means: Of each number, and of what says where gaps are.
        scales: The deviations; 1 where all training rows agree.
        origin: The first training day, in seconds since 1970.
    """

    name: str
    kind: str
    medians: tuple[float, ...]
    gaps: bool
    means: tuple[float, ...]
    scales: tuple[float, ...]
    origin: float = 0.0

    def __post_init__(self) -> None:
        count = 4 if self.kind == "date" else 1
        numbers = (*self.medians, *self.means, *self.scales, self.origin)
        fits = (
            isinstance(self.name, str)
            and self.kind in PARSERS
            and isinstance(self.gaps, bool)
            and len(self.medians) == count
            and len(self.means) == len(self.scales) == count + self.gaps
            and all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
            and all(scale > 0.0 for scale in self.scales)
        )
        if not fits:
            raise ValueError(f"column {self.name!r} of kind {self.kind!r}")

    @classmethod
    def fit(cls, name: str, kind: str, values: Any) -> "Numeric":
        """Learn from the values of training rows."""
        filled = values[~np.isnan(values)]
        day = 86_400.0
        origin = float(filled.min() // day * day) if kind == "date" and len(filled) else 0.0
        parts = _parts(kind, values, origin)
        medians = np.array([np.median(p[~np.isnan(p)]) if len(filled) else 0.0 for p in parts.T])
        gaps = len(filled) < len(values)
        whole = _filled(parts, medians, gaps)
        deviations = whole.std(0)
        varies = (whole.max(0) > whole.min(0)) & (deviations > 0.0)
        return cls(
            name,
            kind,
            tuple(medians.tolist()),
            gaps,
            tuple(whole.mean(0).tolist()),
            tuple(np.where(varies, deviations, 1.0).tolist()),
            origin,
        )

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.means)

    def encode(self, values: Any) -> Any:
        """The values of rows as numbers `[N, width]`."""
        parts = _parts(self.kind, values, self.origin)
        whole = _filled(parts, np.array(self.medians), self.gaps)
        return (whole - np.array(self.means)) / np.array(self.scales)

    def unseen(self, values: Any) -> dict[int, str]:
        """By row what no training row had."""
        gaps = [] if self.gaps else np.flatnonzero(np.isnan(values)).tolist()
        return dict.fromkeys(gaps, "is empty, as in no training row")


@dataclass(frozen=True)
class Category:
    """A column of levels, each of which becomes a number: 1 where the row has it, else 0.

    Rare levels are pooled, and so is a level that no training row had. Where none is rare, a new
    level becomes zeros. A gap is a level like any other.

    Attributes:
        name: Of the column.
        levels: In order; None stands for a gap.
        pooled: Those that share the last number.
    """

    kind: ClassVar[str] = "category"
    name: str
    levels: tuple[str | None, ...]
    pooled: tuple[str | None, ...]

    def __post_init__(self) -> None:
        every = (*self.levels, *self.pooled)
        texts = all(level is None or isinstance(level, str) for level in every)
        if not isinstance(self.name, str) or not texts or len(set(every)) < max(1, len(every)):
            raise ValueError(f"column {self.name!r} of kind 'category'")

    @classmethod
    def fit(cls, name: str, values: Any) -> "Category":
        """Learn from the levels of training rows."""
        counts = Counter(values.tolist())
        ordered = sorted(counts, key=lambda level: (level is None, level or ""))
        kept = {level for level in ordered if counts[level] >= rare(len(values))}
        if len(kept) >= MOST:
            kept = set(sorted(ordered, key=counts.__getitem__)[1 - MOST :])
        levels = tuple(level for level in ordered if level in kept)
        return cls(name, levels, tuple(level for level in ordered if level not in kept))

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.levels) + bool(self.pooled)

    def encode(self, values: Any) -> Any:
        """The levels of rows as numbers `[N, width]`."""
        place = {level: d for d, level in enumerate(self.levels)}
        other = len(self.levels)  # beyond the last column where nothing is pooled
        places = np.array([place.get(level, other) for level in values.tolist()], dtype=np.int64)
        hot = np.zeros((len(places), other + 1))
        hot[np.arange(len(places)), places] = 1.0
        return hot[:, : self.width]

    def unseen(self, values: Any) -> dict[int, str]:
        """By row what no training row had."""
        known = {*self.levels, *self.pooled}
        return {
            n: "is empty, as in no training row"
            if level is None
            else f"holds {level[:40]!r}, as no training row"
            for n, level in enumerate(values.tolist())
            if level not in known
        }


@dataclass(frozen=True)
class Record:
    """What was learned of the columns of a table, in their order.

    Examples:
        >>> import numpy as np
        >>> from dropmax.data import Record
        >>> rows = {"x": np.array([1.0, 3.0]), "color": np.array(["red", "red"], dtype=object)}
        >>> record = Record.fit(rows)
        >>> record.encode(rows).values.tolist()
        [[-1.0, 1.0], [1.0, 1.0]]
        >>> Record.from_dict(record.to_dict()) == record
        True
    """

    columns: tuple[Numeric | Category, ...]

    @classmethod
    def fit(cls, cells: Mapping[str, Any], kinds: Mapping[str, str] | None = None) -> "Record":
        """Learn from training rows.

        Args:
            cells: Of each column, `[N]`, at least one row.
            kinds: Of each column; what nearly all cells are if None.

        Raises:
            ValueError: If a column holds numbers with commas.
        """
        columns: list[Numeric | Category] = []
        for name, column in cells.items():
            kind = kind_of(name, column) if kinds is None else kinds[name]
            values = read(kind, column).values
            of_levels = kind == "category"
            columns.append(
                Category.fit(name, values) if of_levels else Numeric.fit(name, kind, values)
            )
        return cls(tuple(columns))

    @classmethod
    def plain(cls, medians: Mapping[str, float]) -> "Record":
        """Columns of numbers as they are, but for gaps, which become the medians."""
        return cls(
            tuple(
                Numeric(name, "number", (median,), False, (0.0,), (1.0,))
                for name, median in medians.items()
            )
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns by name."""
        return tuple(column.name for column in self.columns)

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(column.width for column in self.columns)

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each column."""
        return {column.name: column.kind for column in self.columns}

    def encode(self, cells: Mapping[str, Any]) -> Encoded:
        """Rows as numbers, and what no training row had; cells of another kind are gaps.

        Args:
            cells: Of each column, `[N]`; others are not looked at.

        Raises:
            ValueError: If a column is missing.
        """
        check_columns(self.names, cells)
        values, notes = values_of(self.kinds, cells)
        for column in self.columns:
            for n, what in column.unseen(values[column.name]).items():
                told = f"column {column.name!r} "
                if not any(said.startswith(told) for said in notes.setdefault(n, [])):
                    notes[n].append(told + what)
        parts = [column.encode(values[column.name]) for column in self.columns]
        return Encoded(np.concatenate(parts, axis=1), dict(sorted(notes.items())))

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON takes it."""
        return {"columns": [{"kind": c.kind, **_plain(asdict(c))} for c in self.columns]}

    @classmethod
    def from_dict(cls, described: Any) -> "Record":
        """The record that `to_dict` gave.

        Raises:
            ValueError: If it is none.
        """
        try:
            (columns,) = (described[name] for name in described if name == "columns")
            record = cls(tuple(map(_column, columns)))
            if len(described) != 1 or len(set(record.names)) < max(1, len(columns)):
                raise ValueError("names of columns")
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())[:100]
            got = _check.Verbatim(f"{type(error).__name__}: {reason}")
            _check.fail("record", "be what Record.to_dict gives", got, "restore it")
        return record


def _column(described: dict[str, Any]) -> Numeric | Category:
    kind = described["kind"]
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described.items()
    }
    if kind == "category":
        del values["kind"]
    cls = Category if kind == "category" else Numeric
    if set(values) != {field.name for field in fields(cls)}:
        raise KeyError(f"fields {', '.join(values)}")
    return cls(**values)


def _plain(described: dict[str, Any]) -> dict[str, Any]:
    return {n: list(value) if isinstance(value, tuple) else value for n, value in described.items()}


def _parts(kind: str, values: Any, origin: float) -> Any:
    """The numbers that values stand for, `[N, 1]` or, of dates, `[N, 4]`; NaN at gaps."""
    if kind != "date":
        return values[:, None]
    gaps = np.isnan(values)
    moments = np.where(gaps, 0.0, values).astype(np.int64).astype("M8[s]")
    days, months = (moments.astype(f"M8[{unit}]").astype(np.int64) for unit in "DM")
    parts = [(values - origin) / 86_400.0, 1970 + months // 12, 1 + months % 12, (days + 3) % 7]
    return np.where(gaps[:, None], np.nan, np.stack(parts, axis=1))


def _filled(parts: Any, medians: Any, gaps: bool) -> Any:
    """Medians at gaps, and one more column that says where gaps are."""
    missing = np.isnan(parts)
    whole = np.where(missing, medians, parts)
    return np.concatenate([whole, missing[:, :1]], axis=1) if gaps else whole


def _is_gap(cell: object) -> bool:
    if isinstance(cell, str):
        return cell.strip().lower() in GAPS
    return _is_nothing(cell)


def _is_nothing(cell: object) -> bool:
    """Whether it is None, NaN or NaT, or pandas' NA, which is not even unequal to itself."""
    return cell is None or type(cell).__name__ == "NAType" or bool(cell != cell)


def _level(cell: object) -> str | None:
    """The name of a level: 1 and 1.0 are one."""
    if _is_nothing(cell):
        return None
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip() or None


def _are_texts(cells: Sequence[object]) -> bool:
    return {*map(type, cells)} <= {str, type(None)}


def _each(function: Callable[[Any], Value], cells: Sequence[Any]) -> list[Value]:
    """The function of each cell; equal texts are looked at once."""
    if not _are_texts(cells):
        return list(map(function, cells))
    known = {cell: function(cell) for cell in set(cells)}
    return [known[cell] for cell in cells]


def _boolean(cell: Any) -> float | None:
    if _is_gap(cell):
        return math.nan
    if isinstance(cell, str):
        return BOOLEANS.get(cell.strip().lower(), _bit(_number(cell)))
    return float(cell) if isinstance(cell, bool) else _bit(_number(cell))


def _bit(number: float | None) -> float | None:
    return number if number in (0.0, 1.0) else None


def _number(cell: Any) -> float | None:
    if _is_gap(cell):
        return math.nan
    if isinstance(cell, bool) or (isinstance(cell, str) and not NUMBER.fullmatch(cell.strip())):
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= LARGEST else None


def _date(cell: Any) -> float | None:
    if _is_gap(cell):
        return math.nan
    if isinstance(cell, str):
        text = cell.strip()
        try:
            cell = datetime.fromisoformat(text.replace("/", "-")) if DATE.fullmatch(text) else None
        except ValueError:
            return None
    elif isinstance(cell, date) and not isinstance(cell, datetime):
        cell = datetime.combine(cell, time())
    if not isinstance(cell, datetime):
        return None
    return (cell.replace(tzinfo=None) - EPOCH) / timedelta(seconds=1)


PARSERS: Mapping[str, Callable[[Any], float | None]] = {
    "number": _number,
    "boolean": _boolean,
    "date": _date,
}
"""What makes values of cells, by kind: NaN at gaps, None where a cell is none."""

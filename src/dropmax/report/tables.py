"""The table of a comparison, in Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dropmax.compare.summary import METRICS, Difference, Spread, summarize
from dropmax.report.names import NAMES


def table(lines: Sequence[Mapping[str, Any]], names: Mapping[str, str] | None = None) -> str:
    """Mean ± standard deviation over seeds, and the paired difference to softmax.

    Seconds are shown where every run was made with `--jobs 1`. A metric that lines lack is blank.

    Args:
        lines: As `dropmax.compare.compare` returns them.
        names: What heads are called, those of the paper if None. A head it lacks stands as you
            asked for it.

    Raises:
        ValueError: If there are none.

    Examples:
        >>> from dropmax.report import table
        >>> test = {"error": 5.0, "nll": 0.2, "ece": 1.0, "brier": 0.1}
        >>> config = {"head": "softmax", "seed": 0}
        >>> line = {"config": config, "test": test, "seconds": 3.0, "jobs": 2}
        >>> print(table([line]).splitlines()[2])
        | softmax | 1 | 5.00 |  |  | 0.200 | 1.00 | 0.100 |
    """
    return markdown(table_rows(lines, NAMES if names is None else names))


def table_rows(lines: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[list[str]]:
    """The cells of that table, its heading first."""
    summaries = summarize(lines)
    timed = summaries[0].seconds is not None
    gated = any(summary.rivals_retained is not None for summary in summaries)
    first, *others = (column.heading for column in METRICS.values())
    header = ["head", "seeds", first, "minus softmax [95 %]", "wins", *others]
    rows = [[*header, *["rivals retained"] * gated, *["seconds"] * timed]]
    for summary in summaries:
        difference = summary.differences.get("error")
        error, *others = (
            spread(summary.metrics[name], column.digits) if name in summary.metrics else ""
            for name, column in METRICS.items()
        )
        row = [
            names.get(summary.head, f"`{summary.head}`"),
            str(summary.seeds),
            error,
            interval(difference, METRICS["error"].digits) if difference else "",
            f"{difference.wins} of {difference.seeds}" if difference else "",
            *others,
        ]
        if gated:
            retained = summary.rivals_retained
            row.append("" if retained is None else f"{retained:.1f}")
        if summary.seconds is not None:
            row.append(spread(summary.seconds, 1))
        rows.append(row)
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; its first row is the header."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(found: Spread, digits: int) -> str:
    """Mean ± standard deviation."""
    mean = f"{found.mean:.{digits}f}"
    return mean if math.isnan(found.std) else f"{mean} ± {found.std:.{digits}f}"


def interval(difference: Difference, digits: int) -> str:
    """A mean difference with its 95 % interval, where there is one."""
    mean = f"{difference.mean:+.{digits}f}"
    if math.isnan(difference.low):
        return mean
    return f"{mean} [{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"

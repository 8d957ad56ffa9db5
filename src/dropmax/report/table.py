"""The table of a comparison, in Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dropmax.report.summary import Difference, Spread, summarize

HEADER = (
    "head",
    "error %",
    "minus softmax [95 %]",
    "wins",
    "NLL, nats",
    "ECE %",
    "Brier",
)


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Mean ± standard deviation over seeds, and the paired difference to softmax.

    Seconds are shown where every run was made with `--jobs 1`.

    Args:
        lines: As `dropmax.experiments.compare` returns them.

    Raises:
        ValueError: If there are none.

    Examples:
        >>> from dropmax.report import table
        >>> test = {"error": 5.0, "nll": 0.2, "ece": 1.0, "brier": 0.1}
        >>> config = {"head": "softmax", "seed": 0}
        >>> line = {"config": config, "test": test, "seconds": 3.0, "jobs": 2}
        >>> print(table([line]).splitlines()[2])
        | `softmax` | 5.00 |  |  | 0.200 | 1.00 | 0.100 |
    """
    summaries = summarize(lines)
    timed = summaries[0].seconds is not None
    header = [*HEADER, "seconds"] if timed else list(HEADER)
    rows = [header, ["---"] * len(header)]
    for summary in summaries:
        difference = summary.differences.get("error")
        row = [
            f"`{summary.head}`",
            _spread(summary.metrics["error"], 2),
            _interval(difference),
            f"{difference.wins} of {difference.seeds}" if difference else "",
            _spread(summary.metrics["nll"], 3),
            _spread(summary.metrics["ece"], 2),
            _spread(summary.metrics["brier"], 3),
        ]
        if summary.seconds is not None:
            row.append(_spread(summary.seconds, 1))
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _spread(spread: Spread, digits: int) -> str:
    mean = f"{spread.mean:.{digits}f}"
    return mean if math.isnan(spread.std) else f"{mean} ± {spread.std:.{digits}f}"


def _interval(difference: Difference | None) -> str:
    if difference is None:
        return ""
    mean = f"{difference.mean:+.2f}"
    if math.isnan(difference.low):
        return mean
    return f"{mean} [{difference.low:+.2f}, {difference.high:+.2f}]"

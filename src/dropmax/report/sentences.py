"""What a comparison comes to, in a sentence for each head."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dropmax.compare.summary import BASELINE, Difference, summarize
from dropmax.report.names import NAMES


def verdict(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether each head makes fewer errors than softmax, and whether that is settled.

    It is settled where the 95 % interval over seeds leaves out that they make as many. Test rows
    choose nothing here.

    Args:
        lines: As `dropmax.compare.compare` returns them.

    Raises:
        ValueError: If there are none.

    Examples:
        >>> from dropmax.report import verdict
        >>> def line(head, seed, error):
        ...     test = {"error": error, "nll": 0.2, "ece": 1.0, "brier": 0.1}
        ...     config = {"head": head, "seed": seed}
        ...     return {"config": config, "test": test, "seconds": 3.0, "jobs": 1}
        >>> lines = [line("softmax", 0, 9.0), line("dropmax", 0, 5.0)]
        >>> verdict(lines)
        ['DropMax makes 4.0 points fewer errors than softmax: not settled by 1 seed.']
    """
    found = summarize(lines)
    if len(found) > 1 and not any(one.differences for one in found):
        return [f"No verdict: {NAMES[BASELINE]} isn't among the heads."]
    return [
        _sentence(NAMES.get(one.head, one.head), one.differences["error"])
        for one in found
        if "error" in one.differences
    ]


def _sentence(name: str, difference: Difference) -> str:
    makes = f"{name} makes {_points(difference.mean)} {NAMES[BASELINE]}"
    seeds = f"{difference.seeds} {'seed' if difference.seeds == 1 else 'seeds'}"
    if math.isnan(difference.low):
        return f"{makes}: not settled by {seeds}."
    interval = f"95 %: {_more(difference.low)} to {_more(difference.high)}"
    is_settled = difference.low > 0.0 or difference.high < 0.0
    return f"{makes} ({interval}): {'settled' if is_settled else 'not settled'} by {seeds}."


def _points(difference: float) -> str:
    if round(abs(difference), 1) == 0.0:
        return "as many errors as"
    return f"{abs(difference):.1f} points {'fewer' if difference < 0.0 else 'more'} errors than"


def _more(difference: float) -> str:
    return f"{abs(difference):.1f} {'fewer' if difference < 0.0 else 'more'}"

"""Heads whose learning rate was chosen on the validation rows of one seed, for each by itself.

A study of them has a part for each rate of a data set, DATA-RATE, with every head of the seed
`CHOICE`, and of the other seeds the heads for which that rate was best.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax.compare import RESULTS, read_lines
from dropmax.compare.summary import METRICS, by_head
from dropmax.report.tables import markdown

Line = Mapping[str, Any]

CHOICE = 100
"""The seed whose validation rows choose, and which is in no table of test rows."""


def lines_of(folder: Path, data: str) -> list[Line]:
    """The lines of all rates of a data set.

    Raises:
        ValueError: If there are none.
    """
    lines = [line for file in folder.glob(f"{data}-*/{RESULTS}") for line in read_lines(file)]
    lines = [line for line in lines if line["config"].get("tune") == "all"]
    if not lines:
        got = _check.Verbatim(str(folder))
        _check.fail("folder", f"hold parts named {data}-RATE", got, "run the study")
    return sorted(lines, key=rate_of)


def rate_of(line: Line) -> float:
    """The highest learning rate of the network."""
    return float(line["config"]["backbone_lr"])


def validation_nll(line: Line) -> float:
    """In nats; after the temperature, if one was fitted."""
    return float(line["validation"]["nll"])


def chosen_rates(lines: Sequence[Line]) -> dict[str, float]:
    """By head, the rate with the lowest validation NLL."""
    return {
        head: rate_of(min(runs, key=validation_nll))
        for head, runs in by_head([n for n in lines if n["config"]["seed"] == CHOICE])
    }


def chosen_lines(lines: Sequence[Line]) -> list[Line]:
    """The lines of the other seeds, of each head those at its chosen rate.

    Raises:
        ValueError: If the seeds of a head are not those of the others.
    """
    rates = chosen_rates(lines)
    chosen = [
        line
        for line in lines
        if line["config"]["seed"] != CHOICE and rate_of(line) == rates[line["config"]["head"]]
    ]
    seeds = {
        head: sorted(line["config"]["seed"] for line in runs) for head, runs in by_head(chosen)
    }
    if seeds.keys() != rates.keys() or len(set(map(tuple, seeds.values()))) > 1:
        got = _check.Verbatim(f"{seeds} of {rates}")
        _check.fail("lines", "hold the same seeds of each head", got, "run them at its rate")
    return chosen


def rates_table(lines: Sequence[Line], names: Mapping[str, str]) -> str:
    """Validation error and NLL by head and rate, those of the chosen rate in bold."""
    rates, chosen = sorted({rate_of(line) for line in lines}), chosen_rates(lines)
    rows = [["head", *(f"{rate:.0e}".replace("e-0", "e-") for rate in rates)]]
    for head, runs in by_head([n for n in lines if n["config"]["seed"] == CHOICE]):
        cells = []
        for line in sorted(runs, key=rate_of):
            error, nll = (
                f"{line['validation'][name]:.{METRICS[name].digits}f}" for name in ("error", "nll")
            )
            cell = f"{error} %, {nll}"
            cells.append(f"**{cell}**" if rate_of(line) == chosen[head] else cell)
        rows.append([names.get(head, f"`{head}`"), *cells])
    return markdown(rows)

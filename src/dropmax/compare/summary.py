"""Means, deviations and paired differences over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from dropmax import _check

BASELINE = "softmax"
"""The head that the others are compared with."""


class Column(NamedTuple):
    """How a table shows a metric: its heading, and the digits after the point."""

    heading: str
    digits: int


METRICS: Mapping[str, Column] = MappingProxyType(
    {
        "error": Column("error %", 2),
        "nll": Column("NLL, nats", 3),
        "ece": Column("ECE %", 2),
        "brier": Column("Brier", 3),
    }
)
"""The metrics of a comparison, by their field in `dropmax.metrics.Metrics`."""


class Spread(NamedTuple):
    """Mean and standard deviation over seeds. With one seed the deviation is NaN."""

    mean: float
    std: float


class Difference(NamedTuple):
    """A metric of a head less that of a baseline, paired by seed.

    Attributes:
        mean: The mean difference over the seeds that both have.
        low: Lower end of the 95 % interval by Student's t. NaN for fewer than three seeds, of which
            it would say next to nothing.
        high: Upper end of it.
        wins: The number of seeds in which the head is lower.
        seeds: The number of seeds that both have.
        ratio: The head's mean divided by the baseline's.
        each: The difference of each seed.
    """

    mean: float
    low: float
    high: float
    wins: int
    seeds: int
    ratio: float
    each: tuple[float, ...]


class Summary(NamedTuple):
    """One head over all its seeds, on the test rows.

    Attributes:
        head: Its name.
        metrics: The spread of each metric that all lines have.
        differences: The difference of each metric to softmax. Empty for softmax itself, and if
            there is no softmax.
        seeds: The number of seeds.
        rivals_retained: How many rivals were kept in the last batch of training, on average; None
            for a head without a gate.
        seconds: The time of training; None unless every run had the machine to itself.
    """

    head: str
    metrics: Mapping[str, Spread]
    differences: Mapping[str, Difference]
    seeds: int
    rivals_retained: float | None
    seconds: Spread | None


def summarize(lines: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """The means, deviations and differences of a comparison, head by head.

    Args:
        lines: As `dropmax.compare.compare` returns them.

    Raises:
        ValueError: If there are none.

    Examples:
        >>> from dropmax.compare import summarize
        >>> test = {"error": 5.0, "nll": 0.2, "ece": 1.0, "brier": 0.1}
        >>> config = {"head": "softmax", "seed": 0}
        >>> line = {"config": config, "test": test, "seconds": 3.0, "jobs": 1}
        >>> summarize([line])[0].metrics["error"].mean
        5.0
    """
    if not lines:
        _check.fail("lines", "hold at least one", lines, "train a head first")
    by_seed = {
        head: {line["config"]["seed"]: line for line in runs} for head, runs in by_head(lines)
    }
    baseline = by_seed.get(BASELINE, {})
    alone = all(line["jobs"] == 1 for line in lines)
    return [
        Summary(
            head,
            {m: spread_of([line["test"][m] for line in runs.values()]) for m in _metrics(runs)},
            {
                m: _difference(m, runs, baseline)
                for m in _metrics(runs, baseline)
                if _has_both(head, runs, baseline)
            },
            len(runs),
            _rivals_retained(runs),
            spread_of([line["seconds"] for line in runs.values()]) if alone else None,
        )
        for head, runs in by_seed.items()
    ]


def paired(
    lines: Sequence[Mapping[str, Any]], metric: str, head: str, baseline: str = BASELINE
) -> Difference:
    """A metric of a head less that of a baseline, over the seeds that both have.

    Raises:
        ValueError: If they have no seed in common.
    """
    runs, baselines = (
        {line["config"]["seed"]: line for line in lines if line["config"]["head"] == name}
        for name in (head, baseline)
    )
    if not runs.keys() & baselines.keys():
        got = _check.Verbatim(f"{head} and {baseline}, which have none")
        _check.fail("lines", "hold a seed of both heads", got, "run both")
    return _difference(metric, runs, baselines)


def by_head(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The lines of each head: first softmax, then the others in their order."""
    heads: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        heads.setdefault(line["config"]["head"], []).append(line)
    return sorted(heads.items(), key=lambda item: item[0] != BASELINE)


def _metrics(*runs: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """The metrics that all of the lines have. Older lines may lack newer ones."""
    lines = [line for by_seed in runs for line in by_seed.values()]
    return [metric for metric in METRICS if all(metric in line["test"] for line in lines)]


def _has_both(head: str, runs: Mapping[int, Any], baseline: Mapping[int, Any]) -> bool:
    return head != BASELINE and bool(runs.keys() & baseline.keys())


def spread_of(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of a value over seeds."""
    return Spread(
        statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan
    )


def _rivals_retained(runs: Mapping[int, Mapping[str, Any]]) -> float | None:
    gates = [line["gate"] for line in runs.values() if line.get("gate")]
    return statistics.mean(gate["rivals_retained"] for gate in gates) if gates else None


def _difference(
    metric: str, runs: Mapping[int, Mapping[str, Any]], baseline: Mapping[int, Mapping[str, Any]]
) -> Difference:
    with _check.extra("train"):
        from scipy.stats import t

    shared = sorted(runs.keys() & baseline.keys())
    of_head, of_baseline = ([by[s]["test"][metric] for s in shared] for by in (runs, baseline))
    differences = [mine - other for mine, other in zip(of_head, of_baseline, strict=True)]
    mean, std = spread_of(differences)
    count = len(shared)
    half = float(t.ppf(0.975, count - 1)) * std / math.sqrt(count) if count > 2 else math.nan
    wins = sum(difference < 0.0 for difference in differences)
    level = statistics.mean(of_baseline)
    ratio = statistics.mean(of_head) / level if level else math.nan
    return Difference(mean, mean - half, mean + half, wins, count, ratio, tuple(differences))

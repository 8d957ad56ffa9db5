"""The figure of a study whose parts are REGIME-K: what the number K of classes does to a head."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax.compare import RESULTS, read_lines
from dropmax.compare.summary import BASELINE, METRICS, Difference, summarize
from dropmax.report.figures import COLORS, axes_of, colors_of
from studies.variants import NAMES

PART = re.compile(r"(?P<regime>[a-z]+)-(?P<classes>\d+)")
REGIMES: Mapping[str, str] = {
    "plain": "without crops, flips and dropout",
    "augmented": "with crops, flips and dropout",
}
"""What the figure calls the regimes of our studies."""


def by_classes_figure(folder: Path, metric: str = "error") -> Any:
    """A metric less softmax's by the number of classes: a point a seed, a line through the means.

    A panel a regime.

    Raises:
        ValueError: If no part of the study is named REGIME-K.
    """
    _check.choice("metric", metric, METRICS)
    regimes: dict[str, dict[int, Sequence[Mapping[str, Any]]]] = {}
    for part in folder.iterdir():
        found = PART.fullmatch(part.name)
        if found and (lines := read_lines(part / RESULTS)):
            regimes.setdefault(found["regime"], {})[int(found["classes"])] = lines
    if not regimes:
        got = _check.Verbatim(str(folder))
        _check.fail("folder", "hold parts named REGIME-K", got, "run some")
    figure, axes = axes_of(len(regimes), width=4.2, height=3.2)
    for ax, regime in zip(axes, sorted(regimes, reverse=True), strict=True):
        curves: dict[str, list[tuple[int, Difference]]] = {}
        for classes, of_part in sorted(regimes[regime].items()):
            for summary in summarize(of_part):
                if summary.head != BASELINE:
                    point = classes, summary.differences[metric]
                    curves.setdefault(summary.head, []).append(point)
        ax.axhline(0.0, color=COLORS[0], lw=1, ls="--")
        colors = colors_of(curves)
        for head, points in curves.items():
            means = [(classes, difference.mean) for classes, difference in points]
            seeds = [(classes, each) for classes, difference in points for each in difference.each]
            ax.plot(*zip(*means, strict=True), "-", color=colors[head], label=NAMES[head])
            ax.plot(*zip(*seeds, strict=True), "o", ms=4, alpha=0.5, color=colors[head])
        ax.set_xscale("log")
        numbers = sorted(regimes[regime])
        ax.set_xticks(numbers, [str(number) for number in numbers], minor=False)
        ax.set_xticks([], minor=True)
        ax.set_xlabel("classes", fontsize=9)
        ax.set_title(REGIMES.get(regime, regime), fontsize=9)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel(f"{METRICS[metric].heading} minus {BASELINE}'s", fontsize=9)
    axes[0].legend(fontsize=8, frameon=False)
    return figure

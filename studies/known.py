"""The figure of what scores and gates know, from the lines of `studies.uncertainty`."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dropmax.compare import read_lines
from dropmax.report.figures import axes_of, colors_of
from studies.variants import NAMES

PANELS: Mapping[str, tuple[str, str]] = {
    "labels": ("auroc", "finds wrong labels: AUROC, %"),
    "scope": ("auroc", "finds unknown classes: AUROC, %"),
    "conformal": ("size", "classes in a set that covers 90 %"),
}
"""By question the number that is shown, and what it's called."""
RANGES = {"auroc": (80.0, 100.2), "size": (0.8, 4.5)}
"""The same for both areas: differences that don't matter must look so."""


def known_figure(folder: Path) -> Any:
    """A dot a seed and a line at the mean, by head and source of the score; a panel a question."""
    figure, axes = axes_of(len(PANELS), width=3.6, height=2.8)
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for question, (metric, _) in PANELS.items():
        for line in read_lines(folder / f"{question}.jsonl"):
            if metric in line:
                row = values.setdefault((line["head"], line["source"]), {})
                row.setdefault(question, []).append(line[metric])
    colors = colors_of(dict.fromkeys(head for head, _ in values))
    for ax, (question, (metric, label)) in zip(axes, PANELS.items(), strict=True):
        for n, ((head, _), found) in enumerate(values.items()):
            if question in found:
                each, color = found[question], colors[head]
                ax.plot(each, [n] * len(each), "o", color=color, alpha=0.5, ms=4)
                ax.plot([statistics.mean(each)] * 2, [n - 0.3, n + 0.3], color=color, lw=2)
        names = [f"{NAMES[head]}: {source}" for head, source in values]
        ax.set_yticks(range(len(values)), names if ax is axes[0] else [""] * len(values))
        ax.set(xlim=RANGES[metric], ylim=(len(values) - 0.5, -0.5))
        ax.set_xlabel(label, fontsize=9)
        ax.grid(axis="x", alpha=0.3)
    return figure

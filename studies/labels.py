"""The figure of errors against labels: what each head comes to with more and more of them."""

from pathlib import Path
from typing import Any

from dropmax.compare.summary import by_head, spread_of
from dropmax.report.figures import axes_of, colors_of
from studies.fair import SHOWN, judged_lines, over_shared_seeds
from studies.variants import NAMES


def labels_figure(folder: Path) -> Any:
    """Error, and NLL after the temperature, by labels a class: the mean and deviation over seeds.

    Args:
        folder: The results of a study whose parts are named after the number of labels a class.
    """
    parts = sorted((int(part.name), part) for part in folder.iterdir() if part.name.isdigit())
    figure, axes = axes_of(len(SHOWN), width=4.0, height=3.0)
    for ax, measure in zip(axes, SHOWN, strict=True):
        found: dict[str, list[tuple[int, float, float]]] = {}
        for count, part in parts:
            judged = judged_lines(part, measure.when)
            heads = {line["config"]["head"] for line in judged}
            for head, lines in by_head(over_shared_seeds(judged, heads)):
                mean, std = spread_of([line["test"][measure.metric] for line in lines])
                found.setdefault(head, []).append((count, mean, std))
        colors = colors_of(found)
        for head, points in found.items():
            counts, means, stds = zip(*points, strict=True)
            color, name = colors[head], NAMES.get(head, head)
            ax.errorbar(counts, means, stds, color=color, marker="o", ms=4, capsize=2, label=name)
        ax.set_xscale("log")
        ax.set_xticks([count for count, _ in parts], [str(count) for count, _ in parts])
        ax.set_xticks([], minor=True)
        ax.set_xlabel("labels a class", fontsize=9)
        ax.set_title(measure.title, fontsize=9)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8, frameon=False)
    return figure

"""The figure of a study: when DropMax makes fewer errors than its baselines, and when more."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dropmax.compare import RESULTS, read_lines
from dropmax.compare.summary import BASELINE, Difference, paired
from dropmax.report.figures import COLORS, axes_of, colors_of
from studies.variants import EARLIER, NAMES

AGAINST = (BASELINE, "softmax:label_smoothing=0.1")
HEADS = ("dropmax", EARLIER, "dropmax:preset=paper")
SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "mnist/1k": "MNIST, 100 images a class",
        "mnist/5k": "MNIST, 500 images a class",
        "mnist/55k": "MNIST, all images",
        "mnist/1k-mnist_cnn": "MNIST, 100 a class, another network",
        "change/background": "digits over random pixels",
        "change/background_rotation": "rotated digits over textures",
        "frozen/linear-5": "77 intents, 5 texts a class",
        "frozen/hidden-5": "... and a hidden layer",
        "frozen/linear-10": "77 intents, 10 texts a class",
        "frozen/hidden-10": "... and a hidden layer",
        "frozen/linear-all": "77 intents, all texts",
        "frozen/hidden-all": "... and a hidden layer",
        "cifar100-small/plain": "100 kinds of photos",
        "cifar100-small/augmented": "... with crops and flips",
    }
)
"""A comparison for each kind of data, and how the figure calls it."""

MOST = 7.0
"""Errors in 100 instances, more or fewer, that the figure has room for."""


def verdict_figure(folder: Path) -> Any:
    """The error of DropMax less that of softmax and of label smoothing, with 95 % intervals.

    A row a comparison. An interval is of Student's t over seeds, shown from three seeds on.

    Args:
        folder: The results of a study.
    """
    rows = {part: name for part, name in SETTINGS.items() if part.partition("/")[0] == folder.name}
    figure, axes = axes_of(len(AGAINST), width=5.0, height=1.0 + 0.33 * len(rows))
    lines = {part: read_lines(folder.parent / part / RESULTS) for part in rows}
    colors, shown = colors_of(HEADS), dict[str, None]()
    for ax, baseline in zip(axes, AGAINST, strict=True):
        ax.axvline(0.0, color=COLORS[0], lw=1, ls="--")
        for n, of_part in enumerate(lines.values()):
            trained = {line["config"]["head"] for line in of_part}
            for k, head in enumerate(head for head in HEADS if head in trained):
                shown.setdefault(head)
                found = paired(of_part, "error", head, baseline)
                draw_difference(ax, found, n + 0.15 * (2 * k - 1), colors[head], MOST)
        ax.set_yticks(range(len(rows)), rows.values() if ax is axes[0] else [])
        ax.set(xlim=(-MOST, MOST), ylim=(len(rows) - 0.5, -0.5))
        ax.grid(axis="x", alpha=0.3)
        ax.set_title(f"DropMax against {NAMES[baseline]}", fontsize=10)
        ax.set_xlabel("\u2190 fewer errors in 100      more errors \u2192", fontsize=9)
    points = [axes[0].plot([], [], "o", color=colors[head], ms=5)[0] for head in shown]
    names = [NAMES[head] for head in shown]
    figure.legend(points, names, fontsize=8, frameon=False, ncols=2, loc="outside lower center")
    return figure


def draw_difference(ax: Any, found: Difference, height: float, color: str, most: float) -> None:
    """An interval and its mean; where it is beyond the axis, the number."""
    ax.plot([found.low, found.high], [height] * 2, color=color, lw=2)
    ax.plot(found.mean, height, "o", color=color, ms=5)
    if abs(found.mean) > most:
        side = "right" if found.mean > 0.0 else "left"
        shown = f"{found.mean:+.2g}"
        end, inward = (most, -3) if side == "right" else (-most, 3)
        ax.annotate(
            shown,
            (end, height),
            (inward, 0),
            textcoords="offset points",
            color=color,
            fontsize=8,
            ha=side,
            va="center",
        )

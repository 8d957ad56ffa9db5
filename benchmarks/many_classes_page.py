"""The settings of `many_classes.py`, and the figure of its lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RANK = 32
BASELINE = "linear + cross_entropy"
PLAIN = "plain"
FUSED = "fused"
LOW_RANK = f"fused, rank {RANK}"
ALONE = "maps alone"
METHODS = (
    BASELINE,
    "F.linear_cross_entropy",
    PLAIN,
    FUSED,
    "fused, defaults",
    "fused, no compiler",
    LOW_RANK,
    ALONE,
)


class Setting(NamedTuple):
    """N instances with features of width D, and K classes."""

    instances: int
    width: int
    classes: int


WIDE = [Setting(1_024, 512, classes) for classes in (1_024, 4_096, 16_384, 32_768)]
NARROW = [Setting(64, 64, 4**n) for n in range(5, 11)]


def draw(lines: Sequence[Mapping[str, Any]], stem: Path) -> None:
    """Milliseconds, and their ratio to the baseline's, against the number of classes."""
    from dropmax.report.figures import axes_of, save

    costs = [line for line in lines if line["kind"] == "cost"]
    figure, axes = axes_of(2, 2, width=6.0, height=3.2)
    for n, settings in enumerate((WIDE, NARROW)):
        mine = [line for line in costs if of(line) in settings]
        above, below = axes[n], axes[n + 2]
        _draw_methods(above, mine, "milliseconds")
        _draw_methods(below, mine, "ratio")
        ticks = [0.5, 1, 2, 3, 4, 8, 16]
        below.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        below.set_xlabel("classes", fontsize=9)
        title = f"{settings[0].instances:,} instances, width {settings[0].width}"
        above.set_title(title, fontsize=9)
    axes[0].set_ylabel("a step, milliseconds", fontsize=9)
    axes[2].set_ylabel(f"in that of {BASELINE}", fontsize=9)
    axes[1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save({stem.name: figure}, stem.parent, ("svg",))


def _draw_methods(ax: Any, lines: Sequence[Mapping[str, Any]], quantity: str) -> None:
    """A line a method; the limit is dashed."""
    from dropmax.report.figures import COLORS, log_scale

    for n, method in enumerate(METHODS):
        points = [(x["classes"], x[quantity]) for x in lines if x["method"] == method]
        limit = {"ls": "--", "color": "#000000"}
        style = limit if method == ALONE else {"marker": "o", "ms": 3, "color": COLORS[n]}
        ax.plot(*zip(*points, strict=True), label=method, **style)
    log_scale(ax, "x")
    log_scale(ax, "y")
    classes = sorted({line["classes"] for line in lines})
    ax.set_xticks(classes, [f"{number:,}" for number in classes], rotation=30)
    ax.minorticks_off()
    ax.grid(alpha=0.3)


def of(line: Mapping[str, Any]) -> Setting:
    return Setting(line["instances"], line["width"], line["classes"])

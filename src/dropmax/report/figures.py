"""The figures of a comparison, each as PNG and as SVG."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax._files import make_folder, whole
from dropmax.compare.summary import by_head, summarize
from dropmax.report.dark import follow_scheme
from dropmax.report.names import NAMES

COLORS = (
    "#4d4d4d",
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c6d31",
    "#7b4173",
    "#b3b3b3",
    "#332288",
    "#999933",
    "#882255",
    "#44aa99",
    "#f4a6c0",
)
"""Told apart by people who do not see all colors alike (Okabe and Ito), and nine more."""

DECADES = 3
"""A logarithmic axis of fewer has 2 and 5 beside the powers of ten."""

Lines = Sequence[Mapping[str, Any]]
Names = Mapping[str, str]


def draw(lines: Lines, out: str | Path) -> list[Path]:
    """Draw error by head, reliability diagrams and learning curves.

    Args:
        lines: As `dropmax.compare.compare` returns them.
        out: The directory for `error`, `reliability` and `learning_curves`, `.png` and `.svg`.

    Returns:
        The files.

    Raises:
        ValueError: If there are no lines.

    Examples:
        >>> from dropmax.report import draw
        >>> draw([], "figures")
        Traceback (most recent call last):
        ...
        dropmax.errors.DropmaxValueError: draw: lines must hold at least one, got []; train a head
        first.
    """
    return save({name: figure(lines, NAMES) for name, figure in FIGURES.items()}, out)


def save(
    figures: Mapping[str, Any], out: str | Path, suffixes: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Write each figure as PNG and as SVG, whole or not at all."""
    with _check.extra("train"):
        from matplotlib import rc_context

    folder = make_folder(Path(out))
    files = []
    for name, figure in figures.items():
        for suffix in suffixes:
            file = folder / f"{name}.{suffix}"
            metadata = {"Date": None} if suffix == "svg" else None
            with whole(file) as partial, rc_context({"svg.hashsalt": "dropmax"}):
                figure.savefig(partial, format=suffix, dpi=150, metadata=metadata)
                if suffix == "svg":
                    follow_scheme(partial)
            files.append(file)
    return files


def axes_of(
    columns: int,
    rows: int = 1,
    *,
    width: float = 3.0,
    height: float = 3.0,
    ratios: Sequence[float] | None = None,
) -> Any:
    """A figure without a window and its axes, a list in reading order."""
    with _check.extra("train"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, width_ratios=ratios).ravel().tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(which="both", labelsize=8)
    return figure, axes


def log_scale(ax: Any, which: str) -> None:
    """Make "x" or "y" logarithmic, with numbers as people write them: 0.2 and no power of ten.

    Call it after all is drawn: the limits decide how many numbers there are. Where nothing is above
    0 the axis stays as it is.
    """
    with _check.extra("train"):
        from matplotlib.ticker import LogLocator, NullFormatter

    axis = getattr(ax, f"{which}axis")
    if axis.get_data_interval()[1] <= 0.0:
        return
    ax.set(**{f"{which}scale": "log"})
    low, high = axis.get_view_interval()
    few = high < low * 10.0**DECADES
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(lambda value, _: f"{value:,.12f}".rstrip("0").rstrip("."))
    axis.set_minor_formatter(NullFormatter())


def colors_of(heads: Iterable[str]) -> dict[str, str]:
    """The color of each head: of `NAMES` always the same, of the others one that is free."""
    heads = list(heads)
    standing = dict(zip(NAMES, COLORS, strict=True))
    taken = {standing[head] for head in heads if head in standing}
    others = cycle([color for color in COLORS if color not in taken] or COLORS)
    return {head: standing.get(head) or next(others) for head in heads}


def _error(lines: Lines, names: Names) -> Any:
    """A dot a seed and a line at the mean, for error and for calibration error."""
    summaries = summarize(lines)
    heads = dict(by_head(lines))
    colors = colors_of(heads)
    figure, axes = axes_of(2, width=4.5, height=0.9 + 0.32 * len(heads))
    for ax, metric, label in zip(
        axes, ("error", "ece"), ("test error, %", "calibration error, %"), strict=True
    ):
        for n, summary in enumerate(summaries):
            values = [line["test"][metric] for line in heads[summary.head]]
            color = colors[summary.head]
            ax.plot(values, [n] * len(values), "o", color=color, alpha=0.5, markersize=4)
            ax.plot([summary.metrics[metric].mean] * 2, [n - 0.3, n + 0.3], color=color, lw=2)
        ax.set_yticks(range(len(summaries)), [names.get(s.head, s.head) for s in summaries])
        ax.invert_yaxis()
        ax.set_xlim(0.0, 1.04 * max(line["test"][metric] for line in lines) or 1.0)
        ax.set_xlabel(label, fontsize=9)
        ax.grid(axis="x", alpha=0.3)
    axes[1].tick_params(labelleft=False)
    return figure


def _reliability(lines: Lines, names: Names) -> Any:
    """Accuracy against confidence, the bins of all seeds together, a panel a head."""
    heads = by_head(lines)
    columns = min(len(heads), 5)
    colors = colors_of(head for head, _ in heads)
    figure, axes = axes_of(columns, -(-len(heads) // columns), width=2.4, height=2.6)
    for ax, (head, runs) in zip(axes, heads, strict=False):
        bins = [line["reliability"] for line in runs]
        counts = [sum(column) for column in zip(*(b["instances"] for b in bins), strict=True)]
        confidence, accuracy = (
            [
                sum(c * v for c, v in zip(column, values, strict=True)) / total if total else None
                for column, values, total in zip(
                    zip(*(b["instances"] for b in bins), strict=True),
                    zip(*(b[name] for b in bins), strict=True),
                    counts,
                    strict=True,
                )
            ]
            for name in ("confidence", "accuracy")
        )
        filled = [k for k, count in enumerate(counts) if count]
        sizes = [4 + 120 * counts[k] / sum(counts) for k in filled]
        points = [confidence[k] for k in filled], [accuracy[k] for k in filled]
        ax.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--")
        ax.plot(*points, color=colors[head], lw=1)
        ax.scatter(*points, sizes, color=colors[head], clip_on=False, zorder=3)
        ece = statistics.mean(line["test"]["ece"] for line in runs)
        name = names.get(head, head.replace(",", ",\n"))
        ax.set_title(f"{name}\nECE {ece:.2f} %", fontsize=8)
        ax.set_xlim(0, 1.03)
        ax.set_ylim(0, 1.03)
        ax.set_xlabel("confidence", fontsize=8)
    for ax in axes[::columns]:
        ax.set_ylabel("accuracy", fontsize=8)
    for ax in axes[len(heads) :]:
        ax.set_visible(False)
    return figure


def _learning_curves(lines: Lines, names: Names) -> Any:
    """NLL over epochs, on training and on test rows, the mean over n seeds."""
    heads = by_head(lines)
    colors = colors_of(head for head, _ in heads)
    figure, axes = axes_of(2, width=5.2, height=3.2)
    for ax, (split, title) in zip(axes, {"train": "training", "test": "test"}.items(), strict=True):
        for n, (head, runs) in enumerate(heads):
            curves = [_curve(line, f"{split}_nll") for line in runs]
            epochs = sorted(set.intersection(*map(set, curves)))  # runs may stop early
            means = [statistics.mean(curve[epoch] for curve in curves) for epoch in epochs]
            again = colors[head] in list(colors.values())[:n]
            style = {"ls": "--" if again else "-", "color": colors[head]}
            label = f"{names.get(head, head)}, n = {len(runs)}"
            ax.plot(epochs, means, marker="o", ms=2.5, lw=1.2, label=label, **style)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("epoch", fontsize=9)
        ax.xaxis.get_major_locator().set_params(integer=True)
        log_scale(ax, "y")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("NLL, nats", fontsize=9)
    handles = axes[0].get_lines()
    figure.legend(handles=handles, fontsize=7, frameon=False, loc="outside right center")
    return figure


def _curve(line: Mapping[str, Any], name: str) -> dict[int, float]:
    """A learning curve by epoch."""
    return dict(zip(line["curve"]["epoch"], line["curve"][name], strict=True))


FIGURES: Mapping[str, Callable[[Lines, Names], Any]] = {
    "error": _error,
    "reliability": _reliability,
    "learning_curves": _learning_curves,
}
"""The figures of a comparison by name, each made from its lines."""

"""The figures of the paper's poster, from the lines that `write_gates` wrote."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropmax import _check
from dropmax.report.figures import COLORS, axes_of, save
from dropmax.report.gate import (
    NAMED_CLASSES,
    gate_figure,
    name_classes,
    pictures,
    posterior_figure,
)

LIKELIEST = 10
"""Classes of which the spread is shown where there are too many."""


def draw_gates(lines: Sequence[Mapping[str, Any]], out: str | Path) -> list[Path]:
    """Draw what the lines hold of gates; no run is read.

    Args:
        lines: As `studies.write_gates` returns them; of several lines of a kind the
            first is drawn.
        out: The directory for `gate`, `posterior` (where the head has one), `spread`,
            `correlation` and `retained` (of colored images), `.png` and `.svg`.

    Returns:
        The files.

    Raises:
        ValueError: If lines for `gate`, `spread` or `correlation` are missing.

    Examples:
        >>> from studies import draw_gates
        >>> draw_gates([], "figures")
        Traceback (most recent call last):
        ...
        dropmax.errors.DropmaxValueError: draw_gates: lines must hold those of write_gates, got no
        instances; write them.
    """
    figures = {name: gates_figure(lines, name) for name in GATE_FIGURES}
    return save({name: figure for name, figure in figures.items() if figure is not None}, out)


def gates_figure(lines: Sequence[Mapping[str, Any]], name: str) -> Any:
    """One of `GATE_FIGURES`; None where the lines have nothing for it."""
    kind, draw = GATE_FIGURES[name]
    found = [line for line in lines if line["kind"] == kind]
    if found:
        return draw(found[0])
    if kind != "retained":
        got = _check.Verbatim(f"no {kind}")
        _check.fail("lines", "hold those of write_gates", got, "write them")
    return None


def _posterior(line: Mapping[str, Any]) -> Any:
    return None if line["difficult"][0]["q"] is None else posterior_figure(line)


def _spread(line: Mapping[str, Any]) -> Any:
    """For each class nine tenths and the middle half of p(y | mask), and what masks average to."""
    figure, axes = axes_of(4, width=2.6, height=3.2, ratios=(1.0, 4.0, 1.0, 4.0))
    for pair, name in enumerate(("easy", "difficult")):
        picture, ax = axes[2 * pair : 2 * pair + 2]
        image = line[name]
        _picture(picture, image)
        classes = _shown(image)
        places = range(len(classes))
        target = classes.index(image["target"])
        low, lower, middle, upper, high = (
            np.array(image["quantiles"][level])[classes] for level in ("5", "25", "50", "75", "95")
        )
        mean, exact = (np.array(image[name])[classes] for name in ("mean", "exact"))
        ax.axvspan(target - 0.4, target + 0.4, color=COLORS[3], alpha=0.15, lw=0, label="target")
        ax.vlines(places, low, high, COLORS[0], lw=1, label="5 to 95 % of masks")
        ax.vlines(places, lower, upper, COLORS[0], lw=6, alpha=0.4, label="25 to 75 %")
        ax.plot(places, middle, "_", color=COLORS[0], ms=9, label="median")
        ax.plot(places, mean, "o", color=COLORS[1], mfc="none", ms=6, label="mean")
        ax.plot(places, exact, "D", color=COLORS[2], ms=3, label="exact")
        ax.set_ylim(-0.03, 1.03)
        ax.set_title(f"{name} test image, {line['num_masks']} masks", fontsize=9)
        name_classes(ax.xaxis, [line["class_names"][k] for k in classes])
    axes[1].set_ylabel("p(y | mask)", fontsize=9)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=8, frameon=False, ncols=len(labels), loc="outside lower center"
    )
    return figure


def _picture(ax: Any, image: Mapping[str, Any]) -> None:
    pictures(ax, [image])
    ax.set_aspect("equal")
    ax.axis("off")
    ax.set_title(image["name"], fontsize=9)


def _shown(image: Mapping[str, Any]) -> list[int]:
    """The classes of a spread: all, or the target and the likeliest."""
    exact = np.array(image["exact"])
    if len(exact) <= NAMED_CLASSES:
        return list(range(len(exact)))
    rivals = [k for k in np.argsort(-exact, kind="stable").tolist() if k != image["target"]]
    return [image["target"], *rivals[: LIKELIEST - 1]]


def _correlation(line: Mapping[str, Any]) -> Any:
    figure, axes = axes_of(1, width=5.2, height=4.2)
    matrix = np.array(line["matrix"], dtype=float)
    np.fill_diagonal(matrix, np.nan)  # 1, beside which the others would look alike
    most = np.nanmax(np.abs(matrix))
    shown = axes[0].imshow(matrix, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for axis in (axes[0].xaxis, axes[0].yaxis):
        name_classes(axis, line["class_names"])
    axes[0].set_title("classes retained together", fontsize=9)
    figure.colorbar(shown, ax=axes[0], label="correlation of retain probabilities", fraction=0.05)
    return figure


def _retained(line: Mapping[str, Any]) -> Any:
    """Each image above its most and its least retained classes."""
    images = line["images"]
    figure, axes = axes_of(len(images), 2, width=2.1, height=2.0)
    for picture, ax, image in zip(axes, axes[len(images) :], images, strict=False):
        _picture(picture, image)
        first = 0
        for name, bars, color in (
            ("most retained", image["most"], COLORS[1]),
            ("least retained", image["least"][::-1], COLORS[2]),
        ):
            places = range(first, first + len(bars))
            ax.barh(places, [bar["rho"] for bar in bars], color=color, label=name)
            first += len(bars)
        names = [bar["class"] for bar in image["most"] + image["least"][::-1]]
        ax.set_yticks(range(len(names)), names, fontsize=7)
        ax.invert_yaxis()
        ax.set_xlim(0.0, 1.0)
        ax.set_xlabel("retain probability", fontsize=8)
    handles = axes[-1].containers
    figure.legend(handles=handles, fontsize=8, frameon=False, ncols=2, loc="outside lower center")
    return figure


GATE_FIGURES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    "gate": ("instances", gate_figure),
    "posterior": ("instances", _posterior),
    "spread": ("spread", _spread),
    "correlation": ("correlation", _correlation),
    "retained": ("retained", _retained),
}
"""The figures of gates: the kind of the line that each is made of, and how."""

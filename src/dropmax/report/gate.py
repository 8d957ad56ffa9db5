"""Heat maps of what the gate retains, over easy and over difficult test images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from dropmax import _check
from dropmax.data import DataSet
from dropmax.report.figures import axes_of, save
from dropmax.report.instances import instances, judge
from dropmax.report.png import from_png
from dropmax.training import Run

NAMED_CLASSES = 20
"""Up to so many classes have their names along an axis."""


def draw_gate(
    run: Run, data: DataSet, out: str | Path, *, baseline: Run | None = None
) -> list[Path]:
    """Draw rho over the test images that a baseline finds easiest and those it gets most wrong.

    Targets are circled, the baseline's wrong answers crossed, as on the paper's poster.

    Args:
        run: A run whose head has a gate.
        data: The data set it was trained on.
        out: The directory for `gate.png` and `gate.svg`.
        baseline: Whose answers say what is easy and what difficult, a softmax run; `run` if None.

    Returns:
        The files.

    Raises:
        ValueError: If the head has no gate, or a run does not fit the images.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_data
        >>> from dropmax.report import draw_gate
        >>> from dropmax.training import RunConfig, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = train(config, out + "/run", progress=False)
        ...     [file.name for file in draw_gate(run, load_data("digits"), out)]
        ['gate.png', 'gate.svg']
    """
    return save({"gate": gate_figure(instances(judge(run, data, baseline)))}, out)


def draw_posterior(
    run: Run, data: DataSet, out: str | Path, *, baseline: Run | None = None
) -> list[Path]:
    """Draw prior, variational and exact posterior over the test images a baseline gets most wrong.

    The variational posterior is what training draws masks from; the exact one is
    `dropmax.predictive.mask_posterior` given that the target is retained.

    Args:
        run: A run of DropMax, but one trained on the marginal likelihood.
        data: The data set it was trained on.
        out: The directory for `posterior.png` and `posterior.svg`.
        baseline: Whose answers say what is difficult, a softmax run; `run` if None.

    Returns:
        The files.

    Raises:
        ValueError: If the head has no posterior, a run does not fit the images, or nothing is
            wrong.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_data
        >>> from dropmax.report import draw_posterior
        >>> from dropmax.training import RunConfig, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = train(config, out + "/run", progress=False)
        ...     [file.name for file in draw_posterior(run, load_data("digits"), out)]
        ['posterior.png', 'posterior.svg']
    """
    found = instances(judge(run, data, baseline))
    if not found["difficult"]:
        got = _check.Verbatim("a run that gets every test image right")
        _check.fail("data", "hold wrong answers", got, "draw another run")
    if found["difficult"][0]["q"] is None:
        got = _check.Verbatim(repr(run.config.head))
        _check.fail("run", "have a posterior", got, "draw it of a variational DropMax")
    return save({"posterior": posterior_figure(found)}, out)


def gate_figure(found: Mapping[str, Any]) -> Any:
    """rho over easy and over difficult images, from what `instances` returns."""
    figure, axes = axes_of(4, width=2.2, height=4.0, ratios=(0.5, 4.0, 0.5, 4.0))
    shown: Any = None
    for pair, name in enumerate(("easy", "difficult")):
        strip, ax = axes[2 * pair : 2 * pair + 2]
        if rows := found[name]:
            pictures(strip, rows)
            shown = _heat_map(ax, rows, "rho", found["class_names"])
        strip.axis("off")
        ax.set_title(f"{name} test instances", fontsize=9)
    figure.colorbar(shown, ax=axes[-1], label="retain probability", fraction=0.05)
    return figure


def posterior_figure(found: Mapping[str, Any]) -> Any:
    """Prior and posteriors over the difficult images, from what `instances` returns."""
    panels = {"rho": "prior", "q": "posterior of training", "exact": "exact posterior"}
    figure, axes = axes_of(4, width=2.6, height=4.0, ratios=(0.5, 4.0, 4.0, 4.0))
    rows = found["difficult"]
    pictures(axes[0], rows)
    axes[0].axis("off")
    for ax, (name, title) in zip(axes[1:], panels.items(), strict=True):
        shown = _heat_map(ax, rows, name, found["class_names"])
        ax.set_title(title, fontsize=9)
    figure.colorbar(shown, ax=axes[-1], label="probability of being retained", fraction=0.05)
    return figure


def pictures(ax: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """The images below one another, apart where there are several; rows of numbers have none."""
    if rows[0]["png"] is None:
        return
    gap = min(len(rows) - 1, 1)
    apart = [F.pad(from_png(row["png"]), (0, 0, gap, gap), value=255) for row in rows]
    tall = torch.cat(apart, dim=1).permute(1, 2, 0)
    ax.imshow(tall.expand(-1, -1, 3).numpy(), aspect="auto", interpolation="nearest")


def name_classes(axis: Any, class_names: Sequence[str]) -> None:
    """Put the names of the classes along an axis of a figure, where they are not too many."""
    if len(class_names) <= NAMED_CLASSES:
        upright = axis.axis_name == "y" or max(map(len, class_names)) <= 2
        axis.set_ticks(range(len(class_names)), class_names, rotation=0 if upright else 90)


def _heat_map(
    ax: Any, rows: Sequence[Mapping[str, Any]], name: str, class_names: Sequence[str]
) -> Any:
    values = [row[name] for row in rows]
    shown = ax.imshow(values, aspect="auto", cmap="viridis", vmin=0.0, vmax=1.0)
    for height, row in enumerate(rows):
        ax.plot(row["target"], height, "o", mec="white", mfc="none", ms=8, mew=1.5)
        if row["baseline"] != row["target"]:
            ax.plot(row["baseline"], height, "x", color="#ff4b4b", ms=6, mew=2)
    ax.set_yticks([])
    ax.set_xlabel("class (o target, x wrong answer)", fontsize=8)
    name_classes(ax.xaxis, class_names)
    return shown

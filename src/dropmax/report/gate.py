"""Heat maps of what the gate retains, over easy and over difficult test images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax.data import DataSet
from dropmax.report.figures import axes_of, save
from dropmax.report.instances import INSTANCES, instances, judge
from dropmax.report.png import from_png
from dropmax.training import Run

NAMED_CLASSES = 20
"""Up to so many classes have their names along an axis."""

CELL = 1.4
"""The height of a cell of a heat map by its width: images are as high."""


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
    figure, axes = axes_of(2, width=4.5, height=5.4)
    shown: Any = None
    for ax, name in zip(axes, ("easy", "difficult"), strict=True):
        ax.set_title(f"{name} test instances", fontsize=10)
        if rows := found[name]:
            shown = _heat_map(ax, rows, "rho", found["class_names"])
            _name_rows(ax, rows, found["class_names"])
        else:
            ax.axis("off")
    _name_colors(shown, "retain probability")
    return figure


def posterior_figure(found: Mapping[str, Any]) -> Any:
    """Prior and posteriors over the difficult images, from what `instances` returns."""
    panels = {"rho": "prior", "q": "posterior of training", "exact": "exact posterior"}
    figure, axes = axes_of(3, width=3.5, height=4.9)
    rows = found["difficult"]
    for ax, (name, title) in zip(axes, panels.items(), strict=True):
        shown = _heat_map(ax, rows, name, found["class_names"])
        ax.set_title(title, fontsize=10)
    _name_rows(axes[0], rows, found["class_names"])
    _name_colors(shown, "probability of being retained")
    return figure


def pictures(ax: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """The images below one another in their proportions; rows of numbers have none."""
    if rows[0]["png"] is None:
        return
    images = [from_png(row["png"]).permute(1, 2, 0) for row in rows]
    width = images[0].shape[1] / images[0].shape[0]
    for n, image in enumerate(images):
        place = (0.03 * width, 0.97 * width, n + 0.47, n - 0.47)
        ax.imshow(image.expand(-1, -1, 3).numpy(), extent=place)
    ax.set(xlim=(0.0, width), ylim=(len(rows) - 0.5, -0.5), aspect="equal")


def name_classes(axis: Any, class_names: Sequence[str]) -> None:
    """Put the names of the classes along an axis of a figure, where they are not too many."""
    if len(class_names) > NAMED_CLASSES:
        return
    axis.set_ticks(range(len(class_names)), class_names)
    if axis.axis_name == "x" and max(map(len, class_names)) > 2:
        for label in axis.get_ticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor", fontsize=9)


def _name_rows(ax: Any, rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> None:
    """The target, the wrong answer and the image of each row of a heat map, on its left."""
    if rows[0]["png"] is not None:
        _, height, width = from_png(rows[0]["png"]).shape
        share = width / height / len(rows) * ax.get_box_aspect()
        ax = ax.inset_axes((-share, 0.0, share, 1.0))
        pictures(ax, rows)
        ax.spines[:].set_visible(False)
        ax.set_xticks([])
    names = [
        class_names[row["target"]]
        + (f"\n\u00d7 {class_names[row['baseline']]}" if row["baseline"] != row["target"] else "")
        for row in rows
    ]
    ax.set_yticks(range(len(rows)), names, fontsize=9)
    ax.tick_params(axis="y", length=0)


def _name_colors(shown: Any, label: str) -> None:
    """A color bar on the right of a heat map, as high as it."""
    bar = shown.axes.inset_axes((1.04, 0.0, 0.04, 1.0))
    shown.axes.figure.colorbar(shown, cax=bar).set_label(label, fontsize=9)
    bar.tick_params(labelsize=8)


def _heat_map(
    ax: Any, rows: Sequence[Mapping[str, Any]], name: str, class_names: Sequence[str]
) -> Any:
    """A row an image and a column a class; cells are alike for up to `INSTANCES` classes."""
    values = [row[name] for row in rows]
    shown = ax.imshow(values, aspect="auto", cmap="viridis", vmin=0.0, vmax=1.0)
    ax.set_box_aspect(CELL * len(rows) / min(len(class_names), INSTANCES))
    for height, row in enumerate(rows):
        ax.plot(row["target"], height, "o", mec="white", mfc="none", ms=8, mew=1.5)
        if row["baseline"] != row["target"]:
            ax.plot(row["baseline"], height, "x", color="#ff4b4b", ms=6, mew=2)
    ax.set_yticks([])
    ax.set_xlabel("class (\u25cb target, \u00d7 wrong answer)", fontsize=9)
    name_classes(ax.xaxis, class_names)
    return shown

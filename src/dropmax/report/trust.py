"""How far probabilities can be trusted: calibration, accuracy by coverage, sizes of sets."""

import bisect
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from dropmax.analysis.conformal import class_scores, scores_of_target, sets_at
from dropmax.metrics import reliability
from dropmax.report.figures import COLORS, axes_of
from dropmax.report.rows import TEST, VALIDATION, Rows

LEVELS = (0.8, 0.85, 0.9, 0.95, 0.99)
"""The levels of the sets that are counted."""
SHOWN = 1e6
"""A threshold is rounded down to a part of this, so that it answers no fewer rows."""
SHARES = tuple(range(100, 0, -1))
"""Of the rows that are answered, in percent."""


class Answered(NamedTuple):
    """What is answered where the probability has to be at least a threshold.

    Attributes:
        share: Of the rows, in percent.
        threshold: The least probability among them.
        accuracy: Of these answers, in percent.
    """

    share: float
    threshold: float
    accuracy: float


class SetSize(NamedTuple):
    """Conformal sets of a level.

    Attributes:
        level: In percent.
        size: The mean number of classes in a set.
        held: How many sets hold the label, in percent.
    """

    level: float
    size: float
    held: float


def answered(rows: Rows) -> list[Answered]:
    """What is answered by the share of the rows, the surest first.

    Rows that are as sure as the last of them are answered, too, so that it may be more.
    """
    order = rows.probability.argsort(descending=True, stable=True)
    surest, right = rows.probability[order].tolist(), (~rows.wrong)[order].long().cumsum(0)
    found = []
    for share in SHARES:
        wanted = max(round(len(rows) * share / 100.0), 1)
        threshold = math.floor(surest[wanted - 1] * SHOWN) / SHOWN
        count = bisect.bisect_right(surest, -threshold, key=lambda probability: -probability)
        accuracy = 100.0 * int(right[count - 1]) / count
        found.append(Answered(100.0 * count / len(rows), threshold, accuracy))
    return found


def set_sizes(rows: Rows) -> list[SetSize]:
    """The sizes of sets that are fitted on validation rows and counted on test rows.

    If not both are there, every second row fits them. A level that needs more rows is left out.
    """
    places: dict[str, list[int]] = {VALIDATION: [], TEST: []}
    for n, split in enumerate(rows.splits):
        places.setdefault(split, []).append(n)
    if not places[VALIDATION] or not places[TEST]:
        places = {VALIDATION: [*range(1, len(rows), 2)], TEST: [*range(0, len(rows), 2)]}
    fit, counted = rows.part(places[VALIDATION]), rows.part(places[TEST])
    found, generator = [], torch.Generator().manual_seed(0)
    of_target = scores_of_target(fit.log_probs, fit.target, generator=generator)
    scores = class_scores(counted.log_probs, generator=generator)
    for level in LEVELS:
        if len(fit) < 1.0 / (1.0 - level):
            continue
        sets = scores <= sets_at(level, of_target).threshold
        held = sets.gather(1, counted.target[:, None]).double().mean()
        size = sets.sum(1).double().mean()
        found.append(SetSize(100.0 * level, float(size), 100.0 * float(held)))
    return found


def reliability_figure(rows: Rows) -> Any:
    """Accuracy against confidence, before and after a temperature where one was fitted."""
    figure, (ax,) = axes_of(1, width=3.4, height=3.2)
    ax.plot([0, 100], [0, 100], color="#999999", lw=1, ls="--")
    drawn = [(rows.log_probs, COLORS[1], "o", "as it predicts")]
    if rows.before is not None:
        drawn.insert(0, (rows.before, "#999999", "x", "before the temperature"))
    for log_probs, color, marker, label in drawn:
        bins = reliability(log_probs, rows.target)
        filled = [k for k, count in enumerate(bins.instances) if count]
        sizes = [6 + 120 * bins.instances[k] / len(rows) for k in filled]
        confidence, accuracy = (
            [100.0 * of[k] for k in filled] for of in (bins.confidence, bins.accuracy)
        )
        ece = bins.calibration_error
        ax.plot(confidence, accuracy, color=color, lw=1)
        ax.scatter(
            confidence,
            accuracy,
            sizes,
            color=color,
            marker=marker,
            clip_on=False,
            zorder=3,
            label=f"{label}, ECE {ece:.1f} %",
        )
    ax.set(xlim=(0, 103), ylim=(0, 103))
    ax.set_xlabel("probability of the answer, %", fontsize=9)
    ax.set_ylabel("answers that are right, %", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def coverage_figure(found: Sequence[Answered], noun: str) -> Any:
    """Accuracy against the share of rows that is answered, which the axis calls by that noun."""
    figure, (ax,) = axes_of(1, width=3.4, height=3.2)
    ax.plot([one.share for one in found], [one.accuracy for one in found], color=COLORS[1], lw=1.5)
    ax.set(xlim=(0, 103))
    ax.set_xlabel(f"{noun} that are answered, the surest first, %", fontsize=9)
    ax.set_ylabel("answers that are right, %", fontsize=9)
    ax.grid(alpha=0.3)
    return figure


def sizes_figure(found: Sequence[SetSize]) -> Any:
    """The mean size of sets against their level."""
    figure, (ax,) = axes_of(1, width=3.4, height=3.2)
    ax.plot([one.level for one in found], [one.size for one in found], "o-", color=COLORS[1])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("sets that hold the label, at least, %", fontsize=9)
    ax.set_ylabel("classes in a set, on average", fontsize=9)
    ax.grid(alpha=0.3)
    return figure

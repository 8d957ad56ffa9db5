"""What one temperature, fitted on validation instances, does to the calibration of trained runs."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dropmax import _check
from dropmax._files import write_whole
from dropmax.calibration import fit_temperature
from dropmax.compare.runs import run_folder
from dropmax.compare.summary import by_head
from dropmax.data import DataSet, LabeledData
from dropmax.metrics import Reliability, evaluate, reliability
from dropmax.report.figures import axes_of, colors_of
from dropmax.report.names import NAMES
from dropmax.training import RunConfig, load_run, splits_and_classifier
from dropmax.training.classifier import method_of, predict
from dropmax.training.run import versions

CALIBRATION = "calibration.jsonl"
WHEN = ("before", "after")


def write_calibration(
    folder: str | Path, configs: Sequence[RunConfig], data: DataSet
) -> list[dict[str, Any]]:
    """Fit a temperature of each run, and write what it does to `calibration.jsonl` beside the runs.

    A line a run: its "config", the "scale" that multiplies its log-probabilities, whether that was
    "kept", and "before" and "after" it for "validation" and "test" the metrics, and the
    "reliability" of the test split. Test instances decide nothing.

    Args:
        folder: What `compare` or a part of a study left: `results.jsonl`, and the runs.
        configs: The settings of the runs, which validate on some instances.
        data: The data set they were trained on.

    Returns:
        The lines.

    Raises:
        ValueError: If a run is missing or has no validation instances; nothing is written then.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_data
        >>> from dropmax.compare import Comparison, compare
        >>> from studies import write_calibration
        >>> from dropmax.training import RunConfig
        >>> base = RunConfig(
        ...     "digits", "softmax", train_per_class=5, validation_per_class=5, epochs=1
        ... )
        >>> comparison = Comparison(base, heads=("softmax",), seeds=(0,))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     _ = compare(comparison, out, progress=False)
        ...     (line,) = write_calibration(out, comparison.configs(), load_data("digits"))
        >>> sum(line["after"]["reliability"]["instances"])
        359
    """
    lines = [_calibrated(Path(folder), config, data) for config in configs]
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    write_whole(Path(folder, CALIBRATION), text)
    return lines


def _calibrated(folder: Path, config: RunConfig, data: DataSet) -> dict[str, Any]:
    if config.validation_per_class == 0:
        must, remedy = "be at least 1", "hold some instances out"
        _check.fail("validation_per_class", must, 0, remedy)
    splits, _ = splits_and_classifier(config, data)
    classifier = load_run(run_folder(folder, config)).classifier()
    method = method_of(classifier, config)

    def log_probs_of(split: LabeledData) -> Tensor:
        return predict(classifier, split.inputs, method=method).log_probs.double()

    validation, test = log_probs_of(splits.validation), log_probs_of(splits.test)
    generator = torch.Generator().manual_seed(config.seed)
    fitted = fit_temperature(validation, splits.validation.target, generator=generator)

    def described(validation: Tensor, test: Tensor) -> dict[str, Any]:
        return {
            "validation": evaluate(validation, splits.validation.target)._asdict(),
            "test": evaluate(test, splits.test.target)._asdict(),
            "reliability": reliability(test, splits.test.target)._asdict(),
        }

    return {
        "config": config.to_dict(),
        "scale": fitted.scale,
        "kept": fitted.kept,
        "before": described(validation, test),
        "after": described(fitted.log_probs(validation), fitted.log_probs(test)),
        "digest": data.digest,
        "versions": versions(),
    }


def calibration_figure(lines: Sequence[Mapping[str, Any]]) -> Any:
    """Accuracy against confidence before and after the temperature, a panel a head.

    The bins of all seeds are together; titles have means over seeds.
    """
    heads = by_head(lines)
    colors = colors_of(head for head, _ in heads)
    figure, axes = axes_of(len(heads), width=2.6, height=3.2)
    for ax, (head, runs) in zip(axes, heads, strict=True):
        ax.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--")
        for when, color, face in zip(WHEN, ("#999999", colors[head]), ("white", None), strict=True):
            counts, confidence, accuracy = _pooled([run[when]["reliability"] for run in runs])
            ax.plot(confidence, accuracy, color=color, lw=1.5)
            ax.scatter(
                confidence,
                accuracy,
                8 + 240 * counts / counts.sum(),
                edgecolor=color,
                facecolor=face or color,
                clip_on=False,
                zorder=3,
                label=when,
            )
        ece, nll = (
            [statistics.mean(run[when]["test"][metric] for run in runs) for when in WHEN]
            for metric in ("ece", "nll")
        )
        ax.set_title(
            f"{NAMES.get(head, head)}\nECE {ece[0]:.1f} → {ece[1]:.1f} %"
            f"\nNLL {nll[0]:.2f} → {nll[1]:.2f} nats",
            fontsize=9,
        )
        ax.set(xlim=(0, 1.03), ylim=(0, 1.03), aspect="equal")
        ax.set_xlabel("confidence", fontsize=9)
    axes[0].set_ylabel("accuracy", fontsize=9)
    axes[0].text(0.97, 0.05, "too sure", fontsize=9, color="#777777", ha="right")
    axes[0].legend(fontsize=9, frameon=False, loc="upper left", handletextpad=0.1)
    return figure


def _pooled(bins: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Instances, confidence and accuracy of the bins of several runs together, the filled ones."""
    counts, confidence, accuracy = (
        np.array([one[name] for one in bins]) for name in Reliability._fields
    )
    total = counts.sum(0)
    filled = total > 0
    means = ((counts * values).sum(0)[filled] / total[filled] for values in (confidence, accuracy))
    return [total[filled], *means]

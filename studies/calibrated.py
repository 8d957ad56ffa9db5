"""What one temperature, fitted on validation instances, does to the calibration of trained runs."""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dropmax import _check
from dropmax.calibration import fit_temperature
from dropmax.compare.lines import append_line, read_lines
from dropmax.compare.runs import check_lines, of_each, run_folder, threads_of
from dropmax.compare.summary import by_head
from dropmax.data import DataSet, LabeledData, Splits
from dropmax.metrics import Reliability, evaluate, reliability
from dropmax.report.figures import axes_of, colors_of
from dropmax.training import Run, RunConfig, draw, held_out, load_run, train
from dropmax.training.classifier import BATCH, method_of, predict
from dropmax.training.fit import with_threads
from dropmax.training.folds import fold_folder
from dropmax.training.rows import of_classes
from dropmax.training.run import METRICS, versions
from dropmax.wrap import find_head
from studies.variants import NAMES

CALIBRATION = "calibration.jsonl"
MEMBERS = 1_000
"""The seeds of an ensemble's members are so far apart."""
WHEN = ("before", "after")


@dataclass(frozen=True)
class Judging:
    """How the predictions of a trained run are made, and what its temperature is fitted on.

    Attributes:
        members: The number of networks whose probabilities are averaged: the run, and others that
            were trained on the same rows from other seeds.
        passes: The number of passes with dropout before the head whose probabilities are averaged;
            one without dropout if 0.
        folds: Into how many folds the training rows are divided. The temperature is fitted on what
            networks that were trained without a fold say of it. On validation rows if 0.

    Raises:
        ValueError: If a number does not fit.
    """

    members: int = 1
    passes: int = 0
    folds: int = 0

    def __post_init__(self) -> None:
        _check.integer("members", self.members, low=1)
        _check.integer("passes", self.passes, low=0)
        _check.integer("folds", self.folds, low=0)
        if self.passes == 1:
            _check.fail("passes", "be 0, or 2 and more", 1, "leave it out")
        if self.folds and (self.folds == 1 or self.members > 1 or self.passes):
            must = "be 0, or 2 and more for one network without passes"
            _check.fail("folds", must, self.folds, "leave it out")

    @property
    def networks(self) -> int:
        """How many networks are trained for a run, it among them."""
        return self.members + self.folds

    def described(self) -> dict[str, int]:
        """What it has beyond one network, one pass and validation rows, as lines hold it."""
        return {name: value for name, value in asdict(self).items() if value > 1}


def write_calibration(
    folder: str | Path,
    configs: Sequence[RunConfig],
    data: DataSet,
    judging: Judging = Judging(),
    *,
    jobs: int = 1,
    threads: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Fit a temperature of each run, and write what it does to `calibration.jsonl` beside the runs.

    A line a run: its "config", how it was judged, the "scale" that multiplies its
    log-probabilities and the number of "rows" it was fitted on; "before" and "after" it the metrics
    of "validation" (the rows it was fitted on) and "test", and the "reliability" of the test split.
    For a head with a gate, "own" holds the two scales that are fitted to its scores, and the test
    metrics under them. All these rows fit the scales, which are kept whatever they do; test rows
    decide nothing. Lines that are there already stay.

    Args:
        folder: What `compare` or a part of a study left: `results.jsonl`, and the runs.
        configs: The settings of the runs, which validate on some instances.
        data: The data set they were trained on.
        judging: How they are judged; members and networks of folds are trained in their folders.
        jobs: The number of runs that are judged at once.
        threads: The number of threads of each; the machine's cores divided by `jobs` if None.
        advance: Called after each run.

    Returns:
        The lines.

    Raises:
        ValueError: If a run is missing or has no rows to fit a temperature; nothing is written
            then.

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
    file = Path(folder, CALIBRATION)
    done = calibrated(configs, file, judging)
    check_lines(done.values(), data)
    missing = [config for config in configs if config not in done]
    for config in missing:
        validates = config.validation_per_class or config.validation_fraction_of(data)
        if not (validates or len(data.validation) or judging.folds):
            must, remedy = "be at least 1", "hold some instances out"
            _check.fail("validation_per_class", must, 0, remedy)
        if judging.passes and not config.dropout:
            must, remedy = "be above 0 where passes are averaged", "train with dropout"
            _check.fail("dropout", must, config.dropout, remedy)
        load_run(run_folder(folder, config))
    threads = threads_of(threads, jobs)
    judge = partial(_calibrated, folder=Path(folder), judging=judging, threads=threads)
    for line in of_each(judge, missing, data, jobs):
        append_line(file, line)
        done[RunConfig.from_dict(line["config"])] = line
        advance()
    return [done[config] for config in configs]


def calibrated(
    configs: Sequence[RunConfig], file: Path, judging: Judging
) -> dict[RunConfig, dict[str, Any]]:
    """The lines of those runs that a file of `write_calibration` has, judged in one way."""
    lines = {
        RunConfig.from_dict(line["config"]): line
        for line in read_lines(file)
        if line.get("judging") == judging.described()
    }
    return {config: lines[config] for config in configs if config in lines}


def _calibrated(
    config: RunConfig, data: DataSet, *, folder: Path, judging: Judging, threads: int
) -> dict[str, Any]:
    spent = _spent_before(run_folder(folder, config), judging)
    started = time.process_time()
    with with_threads(threads):
        data = of_classes(config, data)
        splits = draw(config, data)
        run = load_run(run_folder(folder, config))
        classifiers = [run.classifier(), *_members(run, data, splits, judging.members, threads)]
        test = _log_probs(classifiers, config, splits.test, judging.passes)
        fits = splits.validation
        if judging.folds:
            none = splits.train.rows([])
            known = replace(data, train=splits.train, validation=none, test=none)
            options: Any = {"progress": False, "threads": threads, "curve_points": 1}
            held = held_out(run, known, num_folds=judging.folds, **options)
            fits, validation = held.data, held.log_probs.double()
        else:
            validation = _log_probs(classifiers, config, fits, judging.passes)
        fitted = fit_temperature(validation, fits.target, if_helps=False)

    def described(validation: Tensor, test: Tensor) -> dict[str, Any]:
        return {
            "validation": evaluate(validation, fits.target)._asdict(),
            "test": evaluate(test, splits.test.target)._asdict(),
            "reliability": reliability(test, splits.test.target)._asdict(),
        }

    return {
        "config": config.to_dict(),
        "judging": judging.described(),
        "scale": fitted.scale,
        "rows": len(fits),
        "before": described(validation, test),
        "after": described(fitted.log_probs(validation), fitted.log_probs(test)),
        "own": None if judging != Judging() else _own_scales(classifiers[0], config, splits),
        "digest": data.digest,
        "versions": versions(),
        "cpu_seconds": round(spent + time.process_time() - started, 3),
    }


def _spent_before(folder: Path, judging: Judging) -> float:
    """The CPU time of the networks that are there already to judge a run; older ones have none."""
    members = (member_folder(folder, member) for member in range(1, judging.members))
    folds = (fold_folder(folder, number, judging.folds) for number in range(judging.folds))
    files = (one / METRICS for one in (*members, *folds))
    found = (json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file())
    return sum((float(metrics.get("cpu_seconds", 0.0)) for metrics in found), 0.0)


def member_folder(run: Path, member: int) -> Path:
    """Where a member of an ensemble is, within the folder of the run that is its first."""
    return run / "members" / str(member)


def _members(
    run: Run, data: DataSet, splits: Splits, count: int, threads: int
) -> Iterator[nn.Sequential]:
    """The other members of an ensemble, trained with the settings of a run on the same rows."""
    same = replace(data, train=splits.train, validation=splits.validation)
    for member in range(1, count):
        config = replace(
            run.config,
            seed=run.config.seed + MEMBERS * member,
            train_per_class=None,
            validation_per_class=0,
            validation_fraction=None,
        )
        folder = member_folder(run.path, member)
        options: Any = {"examples": False, "threads": threads, "curve_points": 1}
        other = train(config, folder, data=same, progress=False, **options)
        yield other.classifier()


def _log_probs(
    classifiers: Sequence[nn.Sequential], config: RunConfig, split: LabeledData, passes: int
) -> Tensor:
    """The logarithms of the mean probabilities of classifiers, or of passes with dropout."""
    found = []
    for classifier in classifiers:
        method = method_of(classifier, config)
        if passes:
            found += _with_dropout(classifier, config, split, passes, method)
        else:
            found.append(predict(classifier, split.inputs, method=method).log_probs.double())
    return torch.stack(found).logsumexp(0) - math.log(len(found))


@torch.no_grad()
def _with_dropout(
    classifier: nn.Sequential, config: RunConfig, split: LabeledData, passes: int, method: str
) -> list[Tensor]:
    """Log-probabilities of passes in which dropout before the head is as in training."""
    network, head, inputs = classifier[:-1].eval(), find_head(classifier), split.inputs
    starts = range(0, len(inputs), BATCH)
    features = torch.cat([network(inputs[start : start + BATCH]) for start in starts])
    generator = torch.Generator().manual_seed(config.seed)
    keep = 1.0 - config.dropout
    found = []
    for _ in range(passes):
        kept = torch.empty_like(features).bernoulli_(keep, generator=generator)
        found.append(head.predict(features * kept / keep, method=method).double())
    return found


def _own_scales(classifier: nn.Module, config: RunConfig, splits: Splits) -> dict[str, Any] | None:
    """The scales of scores and gate, fitted on validation instances, and what they come to."""
    if "retain" not in find_head(classifier).branches or method_of(classifier, config) != "plugin":
        return None
    validation, test = (
        predict(classifier, split.inputs).scores.each(Tensor.double)
        for split in (splits.validation, splits.test)
    )
    fitted = fit_temperature(validation, splits.validation.target, if_helps=False)
    return {
        "scales": [fitted.scale, fitted.gate_scale],
        "test": evaluate(fitted.log_probs(test), splits.test.target)._asdict(),
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

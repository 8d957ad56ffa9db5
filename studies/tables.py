"""Tables of what trained gates infer and know, from the lines of the scripts beside this."""

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dropmax.compare.summary import BASELINE, METRICS, by_head, spread_of, summarize
from dropmax.report.tables import interval, markdown, spread
from studies.variants import NAMES

Lines = Sequence[Mapping[str, Any]]
Names = Mapping[str, str]
PUBLISHED = "dropmax:preset=paper"
"""The head of DropMax as published."""


def brief_table(lines: Lines, heads: Sequence[str], names: Names) -> str:
    """Error, its difference to softmax, NLL and calibration error of some heads."""
    found = {one.head: one for one in summarize(lines)}
    columns = [METRICS[name].heading for name in ("error", "nll", "ece")]
    rows = [["head", columns[0], "minus softmax [95 %]", *columns[1:]]]
    for head in heads:
        one = found[head]
        error, nll, ece = (
            spread(one.metrics[name], METRICS[name].digits) for name in ("error", "nll", "ece")
        )
        difference = "baseline" if head == BASELINE else ""
        if "error" in one.differences:
            difference = interval(one.differences["error"], METRICS["error"].digits)
        rows.append([names.get(head, f"`{head}`"), error, difference, nll, ece])
    return markdown(rows)


def predictive_table(lines: Lines, names: Names) -> list[list[str]]:
    """Error, NLL and calibration on the test images, by head and method."""
    rows = [["head", "predicted by", "error %", "NLL, nats", "ECE %"]]
    for head, runs in by_head(lines):
        for method in runs[0]["metrics"]:
            found = [
                f"{_mean(run['metrics'][method][metric] for run in runs):.{digits}f}"
                for metric, digits in (("error", 2), ("nll", 3), ("ece", 2))
            ]
            name, _, samples = method.partition(" ")
            shown = {"plugin": "plug-in", "exact": "exact"}.get(name, f"Monte Carlo, S = {samples}")
            rows.append([names.get(head, f"`{head}`"), shown, *found])
    return rows


def published_table(lines: Lines, names: Names) -> list[list[str]]:
    """`predictive_table` of DropMax as published alone."""
    return [row[1:] for row in predictive_table(dict(by_head(lines))[PUBLISHED], names)]


def bound_table(lines: Lines, names: Names) -> list[list[str]]:
    """Likelihood, bound and gap, by head and split."""
    rows = [["head", "images", "log-likelihood", "bound", "gap", "distance"]]
    for head, runs in by_head(lines):
        for split in ("train", "test"):
            if "gap" in runs[0][split]:
                found = [
                    f"{_mean(run[split][name] for run in runs):.4f}"
                    for name in ("log_likelihood", "elbo", "gap", "distance")
                ]
                rows.append([names.get(head, f"`{head}`"), split, *found])
    return rows


def rivals_table(lines: Lines, names: Names) -> list[list[str]]:
    """How often each posterior retains whom, and what the label adds to whom."""
    groups = ("strongest", "mistaken", "others")
    rows = [
        ["head", "images", "masks", "target", *groups, "correlation of the correction"],
    ]
    masks = (("prior", "prior"), ("q", "of training"), ("exact", "exact"))
    for (head, runs), split, (name, shown) in itertools.product(
        by_head(lines), ("train", "test"), masks
    ):
        found = [run[split] for run in runs]
        if name not in found[0]["rivals_retained"]:
            continue
        target = _mean(one["target_retained"] for one in found) if name == "prior" else 1.0
        means = [target, *(_mean(one["rivals_retained"][name][g] for one in found) for g in groups)]
        aligned = ""
        if name in found[0]["alignment"]:
            aligned = f"{_mean(one['alignment'][name] for one in found):+.2f}"
        name_of_head = names.get(head, f"`{head}`")
        rows.append([name_of_head, split, shown, *map(_probability, means), aligned])
    return rows


INFERENCE: Mapping[str, Callable[[Lines, Names], list[list[str]]]] = {
    "predictive": predictive_table,
    "published": published_table,
    "bound": bound_table,
    "rivals": rivals_table,
}


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None where none is."""
    found = [value for value in values if value is not None]
    return statistics.mean(found) if found else None


def _probability(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def inference_table(lines: Lines, name: str, names: Names) -> str:
    """One of `INFERENCE` in Markdown."""
    return markdown(INFERENCE[name](lines, names))


COLUMNS: Mapping[str, Mapping[str, str]] = {
    "labels": {"auroc": "AUROC %", "fpr95": "FPR at 95 %, %"},
    "scope": {
        "auroc": "AUROC %",
        "fpr95": "FPR at 95 %, %",
        "unsure_auroc": "AUROC of the answer's probability, %",
        "error_area": "error over coverage, %",
    },
    "conformal": {"coverage": "coverage %", "size": "classes in a set"},
}
"""By question the numbers of its lines, and what they are called."""


def uncertainty_table(lines: Lines, question: str, metrics: Sequence[str] = ()) -> str:
    """The mean and deviation over seeds of some numbers or all, by head and source of the score."""
    columns = {name: COLUMNS[question][name] for name in metrics or COLUMNS[question]}
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["head"], line["source"]), []).append(line)
    rows = [["head", "score of", *columns.values(), "seeds"]]
    for (head, source), found in groups.items():
        if not columns.keys() & found[0].keys():
            continue
        cells = [
            spread(spread_of([line[name] for line in found]), 2) if name in found[0] else ""
            for name in columns
        ]
        rows.append([NAMES.get(head, f"`{head}`"), source, *cells, str(len(found))])
    return markdown(rows)

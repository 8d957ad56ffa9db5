"""Put the tables of committed result lines into the README and the documentation.

    python experiments/tables.py

A table stands between `<!-- compare: FOLDER -->` or `<!-- inference: FOLDER TABLE -->` and
`<!-- end -->`.
"""

import itertools
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmax._files import write_whole
from dropmax.experiments import RESULTS, read_lines
from dropmax.report import table
from dropmax.report.summary import by_head

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"(?P<start><!-- (?P<kind>compare|inference): (?P<folder>\S+)( (?P<table>\w+))? -->\n)"
    r".*?(?P<end><!-- end -->)",
    re.DOTALL,
)
Lines = Sequence[Mapping[str, Any]]


def predictive_table(lines: Lines) -> list[list[str]]:
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
            rows.append([f"`{head}`", shown, *found])
    return rows


def bound_table(lines: Lines) -> list[list[str]]:
    """Likelihood, bound and gap, by head and split."""
    rows = [["head", "images", "log-likelihood", "bound", "gap", "distance"]]
    for head, runs in by_head(lines):
        for split in ("train", "test"):
            if "gap" in runs[0][split]:
                found = [
                    f"{_mean(run[split][name] for run in runs):.4f}"
                    for name in ("log_likelihood", "elbo", "gap", "distance")
                ]
                rows.append([f"`{head}`", split, *found])
    return rows


def rivals_table(lines: Lines) -> list[list[str]]:
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
        rows.append([f"`{head}`", split, shown, *map(_probability, means), aligned])
    return rows


INFERENCE: Mapping[str, Callable[[Lines], list[list[str]]]] = {
    "predictive": predictive_table,
    "bound": bound_table,
    "rivals": rivals_table,
}


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None where none is."""
    found = [value for value in values if value is not None]
    return statistics.mean(found) if found else None


def _probability(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _markdown(rows: list[list[str]]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _made(found: re.Match[str]) -> str:
    folder = ROOT / found["folder"]
    if found["kind"] == "compare":
        made = table(read_lines(folder / RESULTS))
    else:
        made = _markdown(INFERENCE[found["table"]](read_lines(folder / "inference.jsonl")))
    return f"{found['start']}\n{made}\n{found['end']}"


def with_tables(page: str) -> str:
    """The page with its tables made anew from the lines."""
    return BLOCK.sub(_made, page)


def main() -> None:
    """Rewrite every page that has such a table."""
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        page = file.read_text()
        if (made := with_tables(page)) != page:
            write_whole(file, made)
            print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()

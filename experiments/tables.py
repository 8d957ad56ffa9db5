"""Put the tables of committed result lines into the README and the documentation.

    python experiments/tables.py

A table stands between `<!-- compare: FOLDER -->` or `<!-- inference: FOLDER TABLE -->` and
`<!-- end -->`.
"""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmax.experiments import RESULTS, read_lines
from dropmax.report import table
from dropmax.report.summary import by_head
from dropmax.training.run import write_whole

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
    """How often each posterior retains whom on test images, and what the label adds to whom."""
    groups = ("strongest", "mistaken", "others")
    rows = [
        ["head", "masks", "target", *groups, "correlation of the correction"],
    ]
    for head, runs in by_head(lines):
        for name, shown in (("prior", "prior"), ("q", "of training"), ("exact", "exact")):
            if name not in runs[0]["test"]["rivals_retained"]:
                continue
            target = _mean(run["test"]["target_retained"] for run in runs)
            retained = [
                f"{_mean(run['test']['rivals_retained'][name][group] for run in runs):.3f}"
                for group in groups
            ]
            aligned = ""
            if runs[0]["test"]["alignment"].get(name) is not None:
                aligned = f"{_mean(run['test']['alignment'][name] for run in runs):+.2f}"
            kept = f"{target:.3f}" if name == "prior" else "1"
            rows.append([f"`{head}`", shown, kept, *retained, aligned])
    return rows


INFERENCE: Mapping[str, Callable[[Lines], list[list[str]]]] = {
    "predictive": predictive_table,
    "bound": bound_table,
    "rivals": rivals_table,
}


def _mean(values: Any) -> float:
    return statistics.mean(values)


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

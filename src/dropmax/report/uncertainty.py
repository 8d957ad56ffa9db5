"""Tables of what scores and gates know, from the lines that experiments/uncertainty.py writes."""

from collections.abc import Mapping, Sequence
from typing import Any

from dropmax.report.summary import spread_of
from dropmax.report.tables import markdown, spread

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


def uncertainty_table(lines: Sequence[Mapping[str, Any]], question: str) -> str:
    """The mean and deviation over seeds of each number, by head and source of the score."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["head"], line["source"]), []).append(line)
    rows = [["head", "score of", *COLUMNS[question].values(), "seeds"]]
    for (head, source), found in groups.items():
        cells = [
            spread(spread_of([line[name] for line in found]), 2) if name in found[0] else ""
            for name in COLUMNS[question]
        ]
        rows.append([f"`{head}`", source, *cells, str(len(found))])
    return markdown(rows)

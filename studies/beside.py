"""The numbers of the paper's poster beside ours."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax.compare import RESULTS, read_lines
from dropmax.compare.summary import BASELINE, METRICS, Summary, summarize
from dropmax.report.figures import COLORS, axes_of
from dropmax.report.tables import interval, spread

POSTER = "poster.json"
DROPMAX = "dropmax:preset=paper"

Rows = list[list[str]]


def read_poster(studies: Path) -> Mapping[str, Mapping[str, Any]]:
    """By data set its `title`, our `part` or None, and `rows`: `method`, `head`, metrics."""
    poster: Mapping[str, Mapping[str, Any]] = json.loads(
        (studies / POSTER).read_text(encoding="utf-8")
    )
    return poster


def _ours(studies: Path, part: str | None) -> Mapping[str, Summary]:
    """Our summaries by head; none where nothing was run."""
    lines = read_lines(studies / "results" / part / RESULTS) if part else []
    return {one.head: one for one in summarize(lines)} if lines else {}


def beside_table(studies: Path, *cells: str) -> Rows:
    """A column for each `DATA:METRIC`, the poster's number above ours."""
    poster = read_poster(studies)
    rows: Rows = [["method"]]
    for n, cell in enumerate(cells):
        name, _, metric = cell.partition(":")
        _check.choice("a data set of the poster", name, poster)
        data, column = poster[name], METRICS[metric]
        rows[0].append(f"{data['title']}, {column.heading}")
        found = _ours(studies, data["part"])
        for k, row in enumerate(data["rows"], start=1):
            if n == 0:
                rows.append([row["method"]])
            ours = "not run"
            if row["head"] in found:
                ours = f"**{spread(found[row['head']].metrics[metric], column.digits)}**"
            rows[k].append(f"{row[metric]:.2f}<br>{ours}")
    return rows


def poster_table(studies: Path, part: str, name: str, metric: str) -> Rows:
    """A column of the poster beside a part, with intervals and the ratios to softmax."""
    poster = read_poster(studies)
    _check.choice("a data set of the poster", name, poster)
    found, theirs = _ours(studies, part), poster[name]["rows"]
    rows: Rows = [["method", "paper, %", "ours, %", "seeds", "minus softmax [95 %]"]]
    rows[0] += ["paper / softmax", "ours / softmax"]
    for row in theirs:
        ours = found[row["head"]]
        difference = ours.differences.get(metric)
        rows.append(
            [
                row["method"],
                f"{row[metric]:.2f}",
                spread(ours.metrics[metric], METRICS[metric].digits),
                str(ours.seeds),
                interval(difference, METRICS[metric].digits) if difference else "",
                f"{row[metric] / theirs[0][metric]:.3f}",
                f"{difference.ratio if difference else 1.0:.3f}",
            ]
        )
    return rows


def beside_figure(folder: Path) -> Any:
    """DropMax's error over softmax's, the paper's and ours, a row a data set.

    Args:
        folder: Of a study's lines; those of all studies lie beside it.
    """
    studies = folder.parent.parent
    poster = read_poster(studies)
    figure, (ax,) = axes_of(1, width=7.0, height=1.0 + 0.4 * len(poster))
    ax.axvline(1.0, color=COLORS[0], lw=1, ls="--")
    for n, data in enumerate(poster.values()):
        errors = {row["head"]: row["error"] for row in data["rows"]}
        paper = errors[DROPMAX] / errors[BASELINE]
        ax.plot(paper, n, "o", mfc="none", color=COLORS[2], ms=8, label="the paper")
        if found := _ours(studies, data["part"]):
            ours = found[DROPMAX].differences["error"].ratio
            ax.plot(ours, n, "o", color=COLORS[2], ms=8, label="ours, DropMax as published")
    ax.set_yticks(range(len(poster)), [data["title"] for data in poster.values()])
    ax.set(ylim=(len(poster) - 0.5, -0.5))
    ax.grid(axis="x", alpha=0.3)
    ax.set_xlabel(
        "\u2190 fewer errors      DropMax's errors over softmax's      more \u2192", fontsize=9
    )
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles, fontsize=8, frameon=False, ncols=2, loc="outside lower center"
    )
    return figure

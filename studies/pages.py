"""Tables, numbers and figures of committed lines in Markdown pages, made anew by a command.

What is made stands between `<!-- KIND: WORDS -->` and `<!-- end -->`; `BLOCKS` lists the kinds. A
figure is drawn where a page shows `figures/STUDY/PART/NAME.svg` or `.png`, or one of all parts of a
study, `figures/STUDY/NAME.svg`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax._files import write_whole
from dropmax.compare import RESULTS, read_lines
from dropmax.compare.summary import METRICS, by_head, paired, spread_of, summarize
from dropmax.report.figures import FIGURES, save
from dropmax.report.tables import interval, markdown, spread, table
from dropmax.training import RunConfig
from studies import benchmarks
from studies.beside import beside_figure, beside_table, poster_table
from studies.calibrated import CALIBRATION, WHEN, calibration_figure
from studies.classes import by_classes_figure
from studies.fair import (
    baselines_table,
    equal_table,
    judged_lines,
    settings_table,
    verdicts_table,
    when_figure,
)
from studies.gates import GATES
from studies.known import known_figure
from studies.labels import labels_figure
from studies.poster import GATE_FIGURES, gates_figure
from studies.rates import chosen_lines, lines_of, rates_table
from studies.study import load_study
from studies.tables import COLUMNS, INFERENCE, brief_table, inference_table, uncertainty_table
from studies.variants import NAMES
from studies.verdict import verdict_figure

SPLITS = ("train", "validation", "test", *WHEN)
"""Whose metrics are shown: those of a split, or of test rows before or after the temperature."""
STUDY_FIGURES: Mapping[str, Callable[[Path], Any]] = {
    "beside": beside_figure,
    "by_classes": by_classes_figure,
    "verdict": verdict_figure,
    "when": when_figure,
    "labels": labels_figure,
    "known": known_figure,
}
"""The figures of all parts of a study, made from the folder of its lines."""
FIGURE = re.compile(r"\]\((?P<file>figures/(?P<part>[^)]+)/(?P<name>\w+)\.(?P<suffix>png|svg))\)")


def update_pages(root: str | Path) -> list[Path]:
    """Make the tables, numbers and figures of a project's pages anew.

    Args:
        root: The project: README.md, what stands beside it and docs/ are the pages, studies/ holds
            the studies, and studies/results/ the lines.

    Returns:
        The files that changed.

    Raises:
        ValueError: If a page asks for what there are no lines of.
    """
    studies = Path(root, "studies")
    changed = []
    for page in page_files(root):
        text = page.read_text(encoding="utf-8")
        if (made := with_blocks(text, studies)) != text:
            write_whole(page, made)
            changed.append(page)
        for found in FIGURE.finditer(text):
            figure = {found["name"]: _figure(studies, found["part"], found["name"])}
            changed += save(figure, (page.parent / found["file"]).parent, [found["suffix"]])
    return changed


def _figure(studies: Path, part: str, name: str) -> Any:
    """A figure of a part's lines, or of those of its gates, or of a study's parts."""
    folder = studies / "results" / part
    if name in STUDY_FIGURES:
        return STUDY_FIGURES[name](folder)
    if name == "calibration":
        return calibration_figure(read_lines(folder / CALIBRATION))
    known = [*FIGURES, *GATE_FIGURES, *STUDY_FIGURES, "calibration"]
    _check.choice("a figure", name, known)
    if name in FIGURES:
        return FIGURES[name](read_lines(folder / RESULTS), _names(studies, part))
    return gates_figure(read_lines(folder / GATES), name)


@cache
def _names(studies: Path, part: str) -> Mapping[str, str]:
    """What a study calls its heads; what any does where no file describes it."""
    file = studies / f"{part.partition('/')[0]}.yaml"
    return load_study(file).names if file.is_file() else NAMES


def page_files(root: str | Path) -> list[Path]:
    """The pages of a project: the README and what stands beside it, then docs/."""
    return [*sorted(Path(root).glob("*.md")), *sorted(Path(root, "docs").rglob("*.md"))]


def with_blocks(page: str, studies: Path) -> str:
    """The text of a page with its tables and numbers made anew."""

    def made(found: re.Match[str]) -> str:
        content = BLOCKS[found["kind"]](studies, *found["words"].split())
        return f"{found['start']}{content}{found['end']}"

    return BLOCK.sub(made, page)


def _lines(studies: Path, part: str, split: str = "test") -> list[dict[str, Any]]:
    """The lines of a part, the metrics of a split in the place of the test images'."""
    _check.choice("a split", split, SPLITS)
    folder = studies / "results" / part
    lines = judged_lines(folder, split) if split in WHEN else read_lines(folder / RESULTS)
    if not lines:
        must = "have lines"
        _check.fail(part, must, _check.Verbatim("none"), "run the study")
    return lines if split in WHEN else [{**line, "test": line[split]} for line in lines]


def compare_block(studies: Path, part: str, split: str = "test") -> str:
    """`compare: STUDY/PART [SPLIT]`: the table of a comparison."""
    return f"\n\n{table(_lines(studies, part, split), _names(studies, part))}\n"


def brief_block(studies: Path, part: str, *words: str) -> str:
    """`brief: STUDY/PART HEAD ... [SPLIT]`: what matters of some heads."""
    lines, heads = _lines_and_heads(studies, part, words)
    return f"\n\n{brief_table(lines, heads, _names(studies, part))}\n"


def chosen_block(studies: Path, study: str, data: str, *heads: str) -> str:
    """`chosen: STUDY DATA HEAD ...`: what matters of heads at the learning rates of their own."""
    lines = chosen_lines(lines_of(studies / "results" / study, data))
    return f"\n\n{brief_table(lines, heads, _names(studies, study))}\n"


def rates_block(studies: Path, study: str, data: str) -> str:
    """`rates: STUDY DATA`: how these learning rates were chosen."""
    lines = lines_of(studies / "results" / study, data)
    return f"\n\n{rates_table(lines, _names(studies, study))}\n"


def names_block(studies: Path, study: str) -> str:
    """`names: STUDY`: how the heads of a study are asked for."""
    described = load_study(studies / f"{study}.yaml")
    heads = dict.fromkeys(config.head for part in described.parts for config in part.configs)
    rows = [[described.names[head], f"`{head}`"] for head in heads if head in described.names]
    return f"\n\n{markdown([['name', 'what you type'], *rows])}\n"


def inference_block(studies: Path, part: str, name: str) -> str:
    """`inference: STUDY/PART TABLE`: what the gates of a comparison infer."""
    _check.choice("a table", name, INFERENCE)
    lines = read_lines(studies / "results" / part / "inference.jsonl")
    return f"\n\n{inference_table(lines, name, _names(studies, part))}\n"


def uncertainty_block(studies: Path, question: str, *metrics: str) -> str:
    """`uncertainty: QUESTION [METRIC ...]`: what scores and gates know, by head and source."""
    _check.choice("a question", question, COLUMNS)
    lines = read_lines(studies / "results" / "uncertainty" / f"{question}.jsonl")
    return f"\n\n{uncertainty_table(lines, question, metrics)}\n"


def cross_block(studies: Path, study: str, metric: str, *words: str) -> str:
    """`cross: STUDY METRIC [PART ...] [SPLIT]`: a metric by head and part, less softmax's."""
    folder = studies / "results" / study
    parts = [word for word in words if word not in SPLITS]
    split = [word for word in words if word in SPLITS]
    names = parts or [part.name for part in load_study(studies / f"{study}.yaml").parts]
    there = [name for name in names if (folder / name).is_dir()]
    found = {name: _lines(studies, f"{study}/{name}", *split) for name in there}
    summaries = {name: {s.head: s for s in summarize(lines)} for name, lines in found.items()}
    heads = list(dict.fromkeys(head for heads in summaries.values() for head in heads))
    rows = [["head", *found]]
    for head in heads:
        cells = []
        for heads_of_part in summaries.values():
            summary = heads_of_part.get(head)
            if summary is None:
                cells.append("")
                continue
            cell = spread(summary.metrics[metric], METRICS[metric].digits)
            if metric in summary.differences:
                cell += f" ({interval(summary.differences[metric], METRICS[metric].digits)})"
            cells.append(cell)
        rows.append([_names(studies, study).get(head, f"`{head}`"), *cells])
    return f"\n\n{markdown(rows)}\n"


def poster_block(studies: Path, part: str, data: str, metric: str = "error") -> str:
    """`poster: STUDY/PART DATA [METRIC]`: the paper's figures beside ours, and the ratios."""
    return f"\n\n{markdown(poster_table(studies, part, data, metric))}\n"


def beside_block(studies: Path, *cells: str) -> str:
    """`beside: DATA:METRIC ...`: the poster's table and ours, cell by cell."""
    return f"\n\n{markdown(beside_table(studies, *cells))}\n"


def ranks_block(studies: Path, part: str) -> str:
    """`ranks: STUDY/PART`: how a model's scores of rivals rank with softmax's confusions."""
    lines = [
        one for one in read_lines(studies / "results" / part / GATES) if one["kind"] == "ranks"
    ]
    scores = {"retain": "rho", "plugin": "DropMax's plug-in", "baseline": "softmax's probabilities"}
    rows = [["rank correlation of", "all images", "images softmax gets wrong"]]
    for name, shown in scores.items():
        found = [
            spread(spread_of([line[group][name] for line in lines]), 3)
            for group in ("all", "wrong")
        ]
        rows.append([shown, *found])
    return f"\n\n{markdown(rows)}\n"


def benchmark_block(studies: Path, name: str) -> str:
    """`benchmark: BENCHMARK/NAME`: a table of benchmarks/results/BENCHMARK.jsonl."""
    _check.choice("a table of benchmarks", name, benchmarks.TABLES)
    lines = read_lines(studies.parent / "benchmarks/results" / f"{name.partition('/')[0]}.jsonl")
    return f"\n\n{markdown(benchmarks.TABLES[name](lines))}\n"


def verdicts_block(studies: Path, study: str, head: str) -> str:
    """`verdicts: STUDY HEAD`: in how many settings a head is better, the same or worse."""
    return f"\n\n{markdown(verdicts_table(studies / 'results' / study, head))}\n"


def settings_block(studies: Path, study: str, head: str) -> str:
    """`settings: STUDY HEAD`: a head less the baselines in each setting."""
    return f"\n\n{markdown(settings_table(studies / 'results' / study, head))}\n"


def baselines_block(studies: Path, study: str) -> str:
    """`baselines: STUDY`: every baseline in the core settings."""
    return f"\n\n{markdown(baselines_table(studies / 'results' / study))}\n"


def equal_block(studies: Path, study: str) -> str:
    """`equal: STUDY`: at equal numbers of labels."""
    return f"\n\n{markdown(equal_table(studies / 'results' / study))}\n"


def cost_block(studies: Path, study: str) -> str:
    """`cost: STUDY`: runs and core-hours of a study, each once, with what judged them."""
    parts = load_study(studies / f"{study}.yaml").parts
    folders = [studies / "results" / study / part.name for part in parts]
    lines = {
        RunConfig.from_dict(line["config"]): line
        for folder in folders
        for line in read_lines(folder / RESULTS)
    }.values()
    judged = [line for folder in folders for line in read_lines(folder / CALIBRATION)]
    seconds = [line.get("cpu_seconds", line["seconds"] * line["threads"]) for line in lines]
    seconds += [line.get("cpu_seconds", 0.0) for line in judged]
    return f"{len(lines)} runs, {sum(seconds) / 3600.0:.1f} core-hours"


def value_block(studies: Path, part: str, quantity: str, metric: str, *words: str) -> str:
    """`value: STUDY/PART QUANTITY METRIC HEAD [BASELINE] [SPLIT]`: one of `QUANTITIES`."""
    _check.choice("a quantity", quantity, QUANTITIES)
    lines, heads = _lines_and_heads(studies, part, words)
    return QUANTITIES[quantity](lines, metric, *heads)


def _lines_and_heads(
    studies: Path, part: str, words: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of a part for `HEAD ... [SPLIT]`, and the heads, which it has."""
    heads = [word for word in words if word not in SPLITS]
    lines = _lines(studies, part, *(word for word in words if word in SPLITS))
    known = [head for head, _ in by_head(lines)]
    for head in heads:
        _check.choice(f"a head of {part}", head, known)
    return lines, heads


def _mean(lines: Sequence[Mapping[str, Any]], metric: str, head: str) -> str:
    found = {s.head: s for s in summarize(lines)}[head].metrics[metric]
    return f"{found.mean:.{METRICS[metric].digits}f}"


def _ratio(lines: Sequence[Mapping[str, Any]], metric: str, head: str, baseline: str) -> str:
    return f"{paired(lines, metric, head, baseline).ratio:.3f}"


def _difference(lines: Sequence[Mapping[str, Any]], metric: str, head: str, baseline: str) -> str:
    return interval(paired(lines, metric, head, baseline), METRICS[metric].digits)


def _high(lines: Sequence[Mapping[str, Any]], metric: str, head: str, baseline: str) -> str:
    return f"{paired(lines, metric, head, baseline).high:+.{METRICS[metric].digits}f}"


QUANTITIES: Mapping[str, Callable[..., str]] = {
    "mean": _mean,
    "ratio": _ratio,
    "difference": _difference,
    "high": _high,
}
BLOCKS: Mapping[str, Callable[..., str]] = {
    "compare": compare_block,
    "brief": brief_block,
    "chosen": chosen_block,
    "rates": rates_block,
    "names": names_block,
    "inference": inference_block,
    "uncertainty": uncertainty_block,
    "cross": cross_block,
    "poster": poster_block,
    "beside": beside_block,
    "ranks": ranks_block,
    "benchmark": benchmark_block,
    "verdicts": verdicts_block,
    "settings": settings_block,
    "baselines": baselines_block,
    "equal": equal_block,
    "cost": cost_block,
    "value": value_block,
}

BLOCK = re.compile(
    rf"(?P<start><!-- (?P<kind>{'|'.join(BLOCKS)}): (?P<words>[^>]+?) -->)"
    r"(?P<made>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)

"""The study of fair baselines: when DropMax wins and when it loses, before and after a temperature.

A verdict is of differences paired by seed: better or worse where the 95 % interval of Student's t
leaves 0 out, else not told apart.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from types import MappingProxyType
from typing import Any, NamedTuple

from dropmax import _check
from dropmax.compare import RESULTS, read_lines
from dropmax.compare.summary import METRICS, Difference, by_head, paired
from dropmax.report.figures import COLORS, axes_of, colors_of
from dropmax.report.tables import interval
from dropmax.training import RunConfig
from studies.calibrated import CALIBRATION, WHEN
from studies.variants import NAMES
from studies.verdict import AGAINST, draw_difference

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "mnist": "digits, 100 images a class",
        "mnist_cnn": "digits, another network",
        "background": "digits over random pixels",
        "rotated": "rotated digits over textures",
        "digits": "small digits, 20 a class",
        "breast-cancer": "a table of 2 classes, 20 rows a class",
        "cifar10": "10 kinds of photos, 100 a class",
        "cifar10-400": "10 kinds of photos, 400 a class",
        "cifar100": "100 kinds of photos, 80 a class",
        "banking77-5": "77 intents, 5 texts a class",
        "banking77-10": "77 intents, 10 texts a class",
        "banking77-all": "77 intents, all texts",
        "hwu64-10": "64 intents, 10 texts a class",
        "hwu64-tuned": "64 intents, their network trained, too",
    }
)
"""The parts whose test rows are reported, and what the figure calls them."""

FEWEST_SEEDS = 3
"""Of fewer no interval says anything."""
HEADS = ("dropmax", "dropmax:preset=paper")


class Measure(NamedTuple):
    """What is compared: a metric before the temperature or after it."""

    metric: str
    when: str
    title: str
    most: float


MEASURES = (
    Measure("error", "before", "errors in 100", 7.0),
    Measure("nll", "before", "NLL as it comes, nats", 0.4),
    Measure("nll", "after", "NLL after a temperature, nats", 0.3),
)
SHOWN = (MEASURES[0], MEASURES[2])
"""Those of the figure, which has room for so much more or less."""


def judged_lines(folder: Path, when: str) -> list[dict[str, Any]]:
    """The lines of a part as its predictions were judged, "before" the temperature or "after" it.

    They are those of its runs, with the test metrics of `calibration.jsonl`: of an ensemble or of
    many passes where the part is one of these.

    Args:
        folder: Of the part.
        when: One of `WHEN`.

    Raises:
        ValueError: If there is no such time, a line has no run, or two are of one run.
    """
    _check.choice("when", when, WHEN)
    runs = {RunConfig.from_dict(line["config"]): line for line in read_lines(folder / RESULTS)}
    found: dict[RunConfig, dict[str, Any]] = {}
    for line in read_lines(folder / CALIBRATION):
        config = RunConfig.from_dict(line["config"])
        where, got = str(folder / CALIBRATION), f"{config.head} with seed {config.seed}"
        if config not in runs:
            _check.fail(where, "be of runs with a line", _check.Verbatim(got), "run the study")
        if config in found:
            twice = _check.Verbatim(f"{got} twice")
            _check.fail(where, "have a line a run", twice, "keep one way of judging")
        found[config] = {**runs[config], "test": line[when]["test"]}
    return [*found.values()]


def over_shared_seeds(
    lines: Sequence[Mapping[str, Any]], heads: Collection[str]
) -> list[Mapping[str, Any]]:
    """The lines of these heads over the seeds that all of them have."""
    seeds_of = {head: set[int]() for head in heads}
    for line in lines:
        if line["config"]["head"] in seeds_of:
            seeds_of[line["config"]["head"]].add(line["config"]["seed"])
    seeds = set.intersection(*seeds_of.values()) if seeds_of else set[int]()
    return [
        line
        for line in lines
        if line["config"]["head"] in seeds_of and line["config"]["seed"] in seeds
    ]


def differences(folder: Path, measure: Measure, head: str, baseline: str) -> dict[str, Difference]:
    """The paired difference of a head to a baseline, by part, of those with an interval.

    It's over the seeds that the head has together with all the baselines.
    """
    found = {}
    for part in SETTINGS:
        lines = over_shared_seeds(judged_lines(folder / part, measure.when), {head, *AGAINST})
        if len({line["config"]["seed"] for line in lines}) >= FEWEST_SEEDS:
            found[part] = paired(lines, measure.metric, head, baseline)
    return found


def verdict_of(found: Difference) -> str:
    """Whether a head is "better", "worse" or "not told apart"."""
    if found.high < 0.0:
        return "better"
    return "worse" if found.low > 0.0 else "not told apart"


def verdicts_table(folder: Path, head: str) -> list[list[str]]:
    """In how many settings a head is better, not told apart or worse, and in which it is worse."""
    kinds = ("better", "not told apart", "worse")
    rows = [[f"{NAMES[head]} against", "in", *kinds, "worse in"]]
    for baseline in AGAINST:
        for measure in MEASURES:
            found = differences(folder, measure, head, baseline)
            verdicts = {part: verdict_of(one) for part, one in found.items()}
            counts = [str(list(verdicts.values()).count(kind)) for kind in kinds]
            worse = "; ".join(
                SETTINGS[part] for part, verdict in verdicts.items() if verdict == "worse"
            )
            rows.append([NAMES[baseline], measure.title, *counts, worse])
    return rows


def when_figure(folder: Path) -> Any:
    """Error, and NLL after the temperature, of DropMax less those of the baselines.

    A row a setting, with 95 % intervals; two panels beside each other, which a phone can show.

    Args:
        folder: The results of the study.
    """
    pairs = [(measure, baseline) for measure in SHOWN for baseline in AGAINST]
    found = {
        (pair, head): differences(folder, pair[0], head, pair[1])
        for pair in pairs
        for head in HEADS
    }
    parts = [part for part in SETTINGS if any(part in by_part for by_part in found.values())]
    colors = colors_of(HEADS)
    columns = len(AGAINST)
    figure, axes = axes_of(columns, len(SHOWN), width=3.4, height=1.0 + 0.36 * len(parts))
    for ax, (measure, baseline) in zip(axes, pairs, strict=True):
        ax.axvline(0.0, color=COLORS[0], lw=1, ls="--")
        for k, head in enumerate(HEADS):
            by_part = found[(measure, baseline), head]
            for n, part in enumerate(parts):
                if part in by_part:
                    height = n + 0.15 * (2 * k - 1)
                    draw_difference(ax, by_part[part], height, colors[head], measure.most)
        ax.set_yticks(range(len(parts)), [SETTINGS[part] for part in parts])
        ax.tick_params(labelleft=ax in axes[::columns])
        ax.set(xlim=(-measure.most, measure.most), ylim=(len(parts) - 0.5, -0.5))
        ax.grid(axis="x", alpha=0.3)
        ax.set_title(f"minus {NAMES[baseline]}", fontsize=9)
        ax.set_xlabel(f"\u2190 better\n{measure.title}", fontsize=9)
    points = [axes[0].plot([], [], "o", color=colors[head], ms=5)[0] for head in HEADS]
    names = [NAMES[head] for head in HEADS]
    figure.legend(points, names, fontsize=8, frameon=False, ncols=2, loc="outside lower center")
    return figure


def settings_table(folder: Path, head: str) -> list[list[str]]:
    """What a head comes to in each setting beside the baselines, with what is told apart."""
    rows = [["setting", "seeds", "error %, minus softmax", "minus label smoothing"]]
    rows[0] += ["NLL after a temperature, minus softmax", "minus label smoothing"]
    columns = [
        (differences(folder, measure, head, baseline), METRICS[measure.metric].digits)
        for measure in SHOWN
        for baseline in AGAINST
    ]
    for part, name in SETTINGS.items():
        if all(part in by_part for by_part, _ in columns):
            cells = [_cell(by_part[part], digits) for by_part, digits in columns]
            rows.append([name, str(columns[0][0][part].seeds), *cells])
    return rows


def _cell(found: Difference, digits: int) -> str:
    """A difference with its interval, bold where it is told apart from 0."""
    shown = interval(found, digits)
    return shown if verdict_of(found) == "not told apart" else f"**{shown}**"


CORE: Mapping[str, str] = MappingProxyType(
    {
        "mnist": "mnist",
        "rotated": "rotated",
        "cifar10": "cifar10",
        "banking77-10": "banking77-10-held",
    }
)
"""The core settings, and the part of each in which other baselines are beside the heads."""

OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "members": "softmax, mean of 4 networks",
        "dropout": "softmax, mean of 30 passes with dropout",
        "mixup": "softmax with mixup",
    }
)
"""What else is done with softmax, by the end of a part's name, and how tables call it."""


def baselines_table(folder: Path, seeds: Sequence[int] = (0, 1)) -> list[list[str]]:
    """Error, and NLL after the temperature, of every baseline in the core settings.

    Each cell is a mean over the same seeds.
    """
    found: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {}
    for core, part in CORE.items():
        for head, lines in by_head(judged_lines(folder / part, "after")):
            found.setdefault(NAMES.get(head, head), {})[core] = lines
        for end, name in OTHERS.items():
            found.setdefault(name, {})[core] = judged_lines(folder / f"{core}-{end}", "after")
    rows = [["head", *(f"{SETTINGS[core]}: error %, NLL" for core in CORE)]]
    for name, by_core in found.items():
        cells = [_means(by_core.get(core, ()), seeds) for core in CORE]
        if any(cells):
            rows.append([name, *cells])
    return rows


def _means(lines: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """The mean error and NLL over seeds; nothing where one is missing."""
    by_seed = {line["config"]["seed"]: line["test"] for line in lines}
    if not by_seed.keys() >= {*seeds}:
        return ""
    tests = [by_seed[seed] for seed in seeds]
    return f"{mean(test['error'] for test in tests):.2f}, {mean(test['nll'] for test in tests):.3f}"


def equal_table(folder: Path) -> list[list[str]]:
    """At equal numbers of labels: baselines pay for a temperature, DropMax trains on all without.

    The baselines pay with labels of their own; for texts, where networks of five folds fit their
    temperature, also with five more networks and no label.
    """
    rows = [["setting", "head", "error %", "NLL, nats", "DropMax minus it: error %", "NLL, nats"]]
    for core in CORE:
        by_folds = core == "banking77-10"
        whole = folder / (core if by_folds else f"{core}-whole")
        alone = [line for line in read_lines(whole / RESULTS) if line["config"]["head"] == HEADS[0]]
        paying = {" and held-out labels": judged_lines(folder / f"{core}-equal", "after")}
        if by_folds:
            paying[" and five folds"] = judged_lines(whole, "after")
        for way, lines in paying.items():
            rows += _equal_rows(SETTINGS[core], way, lines, alone)
    return rows


def _equal_rows(
    setting: str, way: str, paying: Sequence[Mapping[str, Any]], alone: Sequence[Mapping[str, Any]]
) -> list[list[str]]:
    """The baselines that pay for a temperature in one way, then DropMax over the same seeds."""
    rows = []
    baselines = [line for line in paying if line["config"]["head"] in AGAINST]
    together = over_shared_seeds([*baselines, *alone], {*AGAINST, HEADS[0]})
    if len({line["config"]["seed"] for line in together}) < FEWEST_SEEDS:
        return []
    digits = {metric: METRICS[metric].digits for metric in ("error", "nll")}
    for head, lines in sorted(by_head(together), key=lambda item: item[0] == HEADS[0]):
        means = [
            f"{mean(line['test'][metric] for line in lines):.{count}f}"
            for metric, count in digits.items()
        ]
        less, named = ["", ""], NAMES[head]
        if head != HEADS[0]:
            named += f", a temperature{way}"
            less = [
                _cell(paired(together, metric, HEADS[0], head), count)
                for metric, count in digits.items()
            ]
        rows.append([setting, named, *means, *less])
    return rows

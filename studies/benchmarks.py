"""The tables of the benchmarks, made of the lines in benchmarks/results."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dropmax import HEADS
from dropmax.compare.summary import BASELINE, METRICS, paired
from dropmax.report.tables import interval
from studies.variants import NAMES

Lines = Sequence[Mapping[str, Any]]
Rows = list[Sequence[str]]

WIDE, NARROW = 512, 64
"""The widths of the features in `many_classes.jsonl`, of ordinary networks and of next to none."""
LINEAR_FROM = 16_384
"""Time and memory are fitted by a power of the number of classes from here on."""


def step_table(setting: str) -> Callable[[Lines], Rows]:
    """What a step costs with each head."""

    def rows(lines: Lines) -> Rows:
        return [
            ("head", "milliseconds", "ratio to softmax"),
            *(
                (f"`{line['head']}`", str(line["milliseconds"]), str(line["ratio"]))
                for line in lines
                if line["setting"] == setting and line["head"] in HEADS
            ),
        ]

    return rows


SMALLER: Mapping[str, str] = MappingProxyType(
    {
        "softmax": "softmax",
        "dropmax": "DropMax",
        "dropmax:preset=paper,masks=mean": "mean masks",
        "dropmax:preset=paper,masks=straight_through": "straight-through masks",
        "dropmax:preset=paper,posterior=prior": "q = p",
        "dropmax_label": "the label as posterior",
        "dropmax_tied": "... and gates tied to scores",
    }
)
"""The machines whose steps differ, by the names of `which-part.yaml`."""


def parts_table(lines: Lines) -> Rows:
    """What a step of DropMax costs without one of its parts, as ratios to softmax."""
    settings = ("head_512_1000", "lenet_step")
    ratios = {(line["setting"], line.get("head")): f"{line['ratio']:.2f}" for line in lines}
    rows = (
        (name, *(ratios.get((setting, head), "") for setting in settings))
        for head, name in SMALLER.items()
    )
    return [("head", "alone, ratio to softmax", "in a LeNet, ratio to softmax"), *rows]


def beside_linear_table(lines: Lines) -> Rows:
    """What the heads of softmax and DropMax cost beside torch's linear map and cross-entropy."""
    found = [line for line in lines if line["setting"] == "beside_linear"]
    of_shape: dict[tuple[int, ...], dict[str, str]] = {}
    for line in found:
        shape = (line["instances"], line["features"], line["classes"])
        of_shape.setdefault(shape, {})[line["method"]] = f"{line['ratio']:.2f}"
    _, *methods = dict.fromkeys(line["method"] for line in found)
    return [
        ("instances", "features", "classes", *(method.replace("nn.", "") for method in methods)),
        *(
            (*map(str, shape), *(ratios.get(method, "") for method in methods))
            for shape, ratios in of_shape.items()
        ),
    ]


def topk_table(lines: Lines) -> Rows:
    """What the most probable classes cost beside a whole row of torch's linear map."""
    fields = ("instances", "method", "milliseconds", "ratio", "megabytes")
    return [fields, *(tuple(str(line[field]) for field in fields) for line in lines)]


def ways_table(lines: Lines) -> Rows:
    """Classes over two processes beside half of them in one."""
    header = ("head", "classes", "milliseconds", "ratio", "weights, MB", "peak above, MB")
    fields = ("head", "way", "milliseconds", "ratio", "parameters", "megabytes")
    measured = [line for line in lines if line["way"] != "modelled"]
    return [header, *(tuple(str(line.get(field, "")) for field in fields) for line in measured)]


def modelled_table(lines: Lines) -> Rows:
    """What a step would cost with more processes."""
    header = (
        "head",
        "processes",
        "milliseconds",
        "of them exchange",
        "all-reduces",
        "by the measured",
    )
    fields = ("head", "processes", "milliseconds", "exchange", "all-reduces", "by measured")
    modelled = [line for line in lines if line["way"] == "modelled"]
    rows = ([line[field] for field in fields] for line in modelled)
    return [header, *(tuple("" if x is None else str(x) for x in row) for row in rows)]


def predictive_table(lines: Lines) -> Rows:
    """What the exact predictive costs beside samples."""
    fields = ("method", "milliseconds", "ratio", "megabytes")
    return [
        ("classes", "method", "milliseconds", "ratio to plain Monte Carlo", "peak, MB"),
        *(
            (f"{line['classes']:,}", *(str(line[field]) for field in fields))
            for line in lines
            if line["kind"] == "cost"
        ),
    ]


def predictive_ratios_table(lines: Lines) -> Rows:
    """The times of `predictive_table` by that of samples, a row for each number of classes."""
    costs = [line for line in lines if line["kind"] == "cost"]
    methods = ("exact", "exact with gradient", "plug-in")
    ratios = {(line["classes"], line["method"]): str(line["ratio"]) for line in costs}
    return [
        ("classes", *methods),
        *(
            (f"{number:,}", *(ratios.get((number, method), "-") for method in methods))
            for number in dict.fromkeys(line["classes"] for line in costs)
        ),
    ]


def estimators_table(lines: Lines) -> Rows:
    """The classifier for scikit-learn beside those of scikit-learn."""
    return [
        ("data", "classifier", "error %", "NLL, nats", "ECE %", "seconds", "time / MLP's"),
        *(
            (
                line["data"],
                f"`{line['classifier']}`",
                f"{line['error']:.2f}",
                f"{line['nll']:.3f}",
                f"{line['ece']:.2f}",
                f"{line['seconds']:.3f}",
                f"{line['ratio']:.2f}",
            )
            for line in lines
        ),
    ]


def few_texts_table(lines: Lines) -> Rows:
    """Few texts of each class: classifiers and their differences to the first, paired by draw."""
    header = (
        "data",
        "texts a class",
        "classifier",
        "error %",
        "difference",
        "NLL, nats",
        "seconds",
    )
    rows: Rows = [header]
    cells = dict.fromkeys((line["data"], line["per_class"]) for line in lines)
    for data, per_class in cells:
        of_cell = [one for one in lines if (one["data"], one["per_class"]) == (data, per_class)]
        names = list(dict.fromkeys(line["config"]["head"] for line in of_cell))
        for name in names:
            mine = [line for line in of_cell if line["config"]["head"] == name]
            difference = ""
            if name != names[0]:
                found = paired(of_cell, "error", name, names[0])
                difference = f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
            rows.append(
                (
                    data,
                    str(per_class),
                    f"`{name}`",
                    f"{statistics.mean(line['test']['error'] for line in mine):.2f}",
                    difference,
                    f"{statistics.mean(line['test']['nll'] for line in mine):.3f}",
                    f"{statistics.median(line['seconds'] for line in mine):.1f}",
                )
            )
    return rows


def candidates_table(metric: str) -> Callable[[Lines], Rows]:
    """The candidates for the default with few texts: a metric in each cell, and over all of them.

    The last column has the difference of the mean over cells, paired by draw, to that of the best
    candidate.
    """

    def rows(lines: Lines) -> Rows:
        names = list(dict.fromkeys(line["config"]["head"] for line in lines))
        cells = list(dict.fromkeys((line["data"], line["per_class"]) for line in lines))
        whole = _mean_over_cells(lines, metric)
        mean = {
            name: statistics.mean(
                line["test"][metric] for line in whole if line["config"]["head"] == name
            )
            for name in names
        }
        best = min((name for name in names if name != BASELINE), key=lambda name: mean[name])
        digits = METRICS[metric].digits
        table: Rows = [
            ("head", *(f"{data}, {number}" for data, number in cells), "mean", "to the best")
        ]
        for name in names:
            of_cells = (
                statistics.mean(
                    line["validation"][metric]
                    for line in lines
                    if line["config"]["head"] == name and (line["data"], line["per_class"]) == cell
                )
                for cell in cells
            )
            difference = ""
            if name != best:
                difference = interval(paired(whole, metric, name, best), digits)
            values = (f"{value:.{digits}f}" for value in (*of_cells, mean[name]))
            table.append((name, *values, difference))
        return table

    return rows


def _mean_over_cells(lines: Lines, metric: str) -> list[dict[str, Any]]:
    """A line of each head and draw: the mean of a metric over data sets and numbers of texts."""
    values: dict[tuple[str, int], list[float]] = {}
    for line in lines:
        key = line["config"]["head"], line["config"]["seed"]
        values.setdefault(key, []).append(line["validation"][metric])
    return [
        {"config": {"head": head, "seed": seed}, "test": {metric: statistics.mean(of)}}
        for (head, seed), of in values.items()
    ]


def report_table(lines: Lines) -> Rows:
    """The size of reports, and how long they take."""
    return [
        ("data", "rows", "classes", "megabytes", "seconds to write", "ratio", "seconds to open"),
        *(
            (
                *(line["data"], f"{line['rows']:,}", f"{line['classes']:,}"),
                *(f"{line['bytes'] / 1e6:.2f}", f"{line['seconds']:.1f}", f"{line['ratio']:.2f}"),
                "" if line["seconds_to_open"] is None else f"{line['seconds_to_open']:.1f}",
            )
            for line in lines
        ),
    ]


def suspects_table(lines: Lines) -> Rows:
    """The share of flipped labels that a ranking finds, the mean over seeds, by head."""
    heads = list(dict.fromkeys(line["config"]["head"] for line in lines))
    rows: Rows = [("ranking", *(NAMES.get(head, f"`{head}`") for head in heads))]
    for ranking in dict.fromkeys(line["ranking"] for line in lines):
        shares = [
            statistics.mean(
                line["right"]
                for line in lines
                if (line["config"]["head"], line["ranking"]) == (head, ranking)
            )
            for head in heads
        ]
        rows.append((ranking, *(f"{share:.1f}" for share in shares)))
    return rows


DEFAULT = "no option"
"""What `benchmarks/defaults.py` calls the command without options."""


def defaults_table(lines: Lines) -> Rows:
    """The command without options beside the best of other settings by their validation rows."""
    header = (
        "data",
        "head",
        "error % without options",
        "seconds",
        "the best of the others",
        "error %",
        "seconds",
        "difference [95 %]",
    )
    rows: Rows = [header]
    for case, head in dict.fromkeys((line["case"], line["config"]["head"]) for line in lines):
        of_case = [one for one in lines if (one["case"], one["config"]["head"]) == (case, head)]
        by_setting: dict[str, list[Mapping[str, Any]]] = {}
        for one in of_case:
            named = {**one["config"], "head": one["setting"]}
            by_setting.setdefault(one["setting"], []).append({**one, "config": named})
        others = by_setting.keys() - {DEFAULT}
        best = min(
            sorted(others), key=lambda setting: _mean_error(by_setting[setting], "validation")
        )
        both = [*by_setting[DEFAULT], *by_setting[best]]
        found = paired(both, "error", DEFAULT, best)
        error, seconds = zip(
            *(_error_and_seconds(by_setting[setting]) for setting in (DEFAULT, best)), strict=True
        )
        rows.append(
            (
                case,
                f"`{head}`",
                error[0],
                seconds[0],
                best,
                error[1],
                seconds[1],
                f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})",
            )
        )
    return rows


def _mean_error(lines: Lines, split: str) -> float:
    return float(statistics.mean(line[split]["error"] for line in lines))


def _error_and_seconds(lines: Lines) -> tuple[str, str]:
    seconds = statistics.median(line["seconds"] for line in lines)
    return f"{_mean_error(lines, 'test'):.2f}", f"{seconds:.1f}"


def largest_table(lines: Lines) -> Rows:
    """Time and memory of the methods with wide features and the most classes."""
    costs = _costs(lines, WIDE)
    most = max(line["classes"] for line in costs)

    def memory(line: Mapping[str, Any]) -> str:
        return "" if line["megabytes"] is None else f"{line['megabytes']:,.0f}"

    return [
        ("method", "milliseconds", "ratio", "peak, MB"),
        *(
            (line["method"], f"{line['milliseconds']:,.0f}", f"{line['ratio']:.2f}", memory(line))
            for line in costs
            if line["classes"] == most
        ),
    ]


def overview_table(lines: Lines) -> Rows:
    """`largest_table` of the methods that one chooses from, by the calls that run them."""
    shown = {
        "linear + cross_entropy": "softmax",
        "plain": "DropMax, `head.loss`",
        "fused": "DropMax, `head.fused_loss`",
        "fused, rank 32": "the same with `gate_rank=32`",
    }
    header, *rows = largest_table(lines)
    return [header, *((shown[method], *cells) for method, *cells in rows if method in shown)]


def ratios_table(width: int) -> Callable[[Lines], Rows]:
    """The time of each method by the baseline's, against the number of classes."""

    def rows(lines: Lines) -> Rows:
        costs = _costs(lines, width)
        ratios = {(line["method"], line["classes"]): f"{line['ratio']:.2f}" for line in costs}
        classes = sorted({line["classes"] for line in costs})
        return [
            ("method", *(f"{number:,}" for number in classes)),
            *(
                (method, *(ratios.get((method, number), "-") for number in classes))
                for method in dict.fromkeys(line["method"] for line in costs)
            ),
        ]

    return rows


def powers_table(lines: Lines) -> Rows:
    """The powers of the number of classes that time and memory follow, by least squares."""

    def power(method: str, quantity: str) -> str:
        found = [
            (math.log(line["classes"]), math.log(line[quantity]))
            for line in _costs(lines, NARROW)
            if line["method"] == method and line["classes"] >= LINEAR_FROM
        ]
        return f"{statistics.linear_regression(*zip(*found, strict=True)).slope:.2f}"

    return [
        ("method", "time", "memory"),
        *(
            (method, power(method, "milliseconds"), power(method, "megabytes"))
            for method in ("linear + cross_entropy", "fused", "fused, rank 32")
        ),
    ]


def training_table(lines: Lines) -> Rows:
    """The loss of a hundred steps with the most classes."""
    return [
        ("classes", "seconds a step", "loss at step 1", "10", "50", "100"),
        *(
            (
                f"{line['classes']:,}",
                str(line["seconds"]),
                *(f"{line['loss'][n]:.2f}" for n in (0, 9, 49, -1)),
            )
            for line in lines
            if line["kind"] == "training"
        ),
    ]


def _costs(lines: Lines, width: int) -> Lines:
    return [line for line in lines if line["kind"] == "cost" and line["width"] == width]


TABLES: Mapping[str, Callable[[Lines], Rows]] = MappingProxyType(
    {
        "step/lenet_step": step_table("lenet_step"),
        "step/head_512_1000": step_table("head_512_1000"),
        "step/parts": parts_table,
        "step/beside_linear": beside_linear_table,
        "topk/all": topk_table,
        "parallel/ways": ways_table,
        "parallel/modelled": modelled_table,
        "predictive/cost": predictive_table,
        "predictive/ratios": predictive_ratios_table,
        "estimators/all": estimators_table,
        "few_texts/all": few_texts_table,
        "few_texts_choice/error": candidates_table("error"),
        "few_texts_choice/nll": candidates_table("nll"),
        "defaults/all": defaults_table,
        "report/all": report_table,
        "suspects/all": suspects_table,
        "many_classes/overview": overview_table,
        "many_classes/largest": largest_table,
        "many_classes/wide": ratios_table(WIDE),
        "many_classes/narrow": ratios_table(NARROW),
        "many_classes/powers": powers_table,
        "many_classes/training": training_table,
    }
)
"""The tables by BENCHMARK/NAME."""

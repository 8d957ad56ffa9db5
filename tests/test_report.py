"""Tables and figures of a comparison, against numbers worked out by hand."""

import json
import math
import re

import pytest
import torch
from raised import raises
from tolerances import assert_close

from dropmax.compare import RESULTS, append_line, summarize, summary
from dropmax.data import load_data
from dropmax.report import draw, draw_posterior, table, tables
from dropmax.report.figures import colors_of
from dropmax.training import RunConfig, train
from studies import with_blocks
from studies.classes import REGIMES, by_classes_figure
from studies.tables import uncertainty_table

BINS = {"instances": (2, 2), "confidence": (0.3, 0.9), "accuracy": (0.5, 1.0)}


def line(head, seed, error, *, seconds=2.0, jobs=1):
    return {
        "config": {"head": head, "seed": seed},
        "test": {"error": error, "nll": 0.2, "ece": 1.0, "brier": 0.1},
        "reliability": BINS,
        "curve": {"epoch": [1, 2], "train_nll": [2.0, 1.0], "test_nll": [2.1, 1.2]},
        "seconds": seconds,
        "jobs": jobs,
    }


LINES = [
    line(head, seed, error)
    for head, errors in {"softmax": (5.0, 6.0, 7.0), "dropmax": (3.0, 5.0, 7.0)}.items()
    for seed, error in enumerate(errors)
]


def assert_number(actual, expected):
    assert_close(torch.tensor(actual, dtype=torch.float64), expected, "metric")


def test_means_deviations_and_paired_differences():
    softmax, dropmax = summarize(LINES)
    assert (softmax.head, dropmax.head) == ("softmax", "dropmax")
    assert softmax.differences == {}
    assert_number(softmax.metrics["error"], (6.0, 1.0))
    assert_number(dropmax.metrics["error"], (5.0, 2.0))
    difference = dropmax.differences["error"]
    half = 4.302652729911275 / math.sqrt(3.0)  # Student's t at 0.975 with 2 degrees of freedom
    assert_number(difference[:3], (-1.0, -1.0 - half, -1.0 + half))
    assert difference[3:5] == (2, 3)
    assert_number(difference[5], 5.0 / 6.0)


def test_softmax_stands_first_and_the_others_as_they_come():
    other = line("attention", 0, 4.0)
    heads = [summary.head for summary in summarize([LINES[3], other, LINES[0]])]
    assert heads == ["softmax", "dropmax", "attention"]


def test_differences_are_paired_by_seed_and_not_by_place():
    shuffled = [LINES[2], LINES[5], LINES[0], LINES[4], LINES[3], LINES[1]]
    assert summarize(shuffled)[1].differences == summarize(LINES)[1].differences
    only_one = summarize([LINES[0], LINES[3], LINES[4]])[1].differences["error"]
    assert (only_one.mean, only_one.seeds) == (-2.0, 1)
    assert_number((only_one.ratio,), (3.0 / 5.0,))
    assert math.isnan(only_one.low)
    two = summarize([line for line in LINES if line["config"]["seed"] < 2])[1].differences["error"]
    assert (two.mean, two.seeds) == (-1.5, 2)
    assert math.isnan(two.low)
    assert summarize(LINES[3:])[0].differences == {}


def test_seconds_are_shown_only_where_every_run_had_the_machine_to_itself():
    assert "| seconds |" in table(LINES)
    assert "2.0 ± 0.0" in table(LINES)
    assert "seconds" not in table([*LINES, line("softmax", 3, 5.0, jobs=2)])


def test_the_table_shows_what_the_summary_says():
    rows = table(LINES).splitlines()
    assert rows[3].startswith("| DropMax | 3 | 5.00 ± 2.00 | -1.00 [-3.48, +1.48] | 2 of 3 |")
    assert len({row.count("|") for row in rows}) == 1


def test_figures_are_written_whole_and_again_the_same(tmp_path):
    files = draw(LINES, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files}
    assert len(files) == 6
    text = (tmp_path / "reliability.svg").read_text()
    assert len(re.findall(r"<!-- ECE 1.00 % -->", text)) == 2
    before = {file: file.read_bytes() for file in files if file.suffix == ".png"}
    draw(LINES, tmp_path)
    assert {file: file.read_bytes() for file in before} == before


def test_a_head_has_the_same_color_in_every_figure():
    alone, among = (
        colors_of(["dropmax"]),
        colors_of(["attention", "softmax", "sparsemax", "dropmax"]),
    )
    assert alone["dropmax"] == among["dropmax"]
    assert among["sparsemax"] == colors_of(["sparsemax"])["sparsemax"]
    assert len(set(among.values())) == 4


def test_the_poster_stands_beside_ratios_of_the_same_seeds(tmp_path):
    """A head of two seeds is compared with softmax at these two."""
    folder = tmp_path / "results" / "study" / "part"
    folder.mkdir(parents=True)
    for one in (*LINES, line("sparsemax", 2, 3.5)):
        append_line(folder / RESULTS, one)
    errors = {"softmax": 8.0, "dropmax": 6.0, "sparsemax": 4.0}
    rows = [{"method": head, "head": head, "error": error} for head, error in errors.items()]
    ran = {"title": "Ran", "part": "study/part", "rows": rows}
    poster = {"ran": ran, "other": {**ran, "title": "Other", "part": None}}
    (tmp_path / "poster.json").write_text(json.dumps(poster))
    made = with_blocks("<!-- poster: study/part ran --><!-- end -->", tmp_path).splitlines()
    assert made[4] == "| softmax | 8.00 | 6.00 ± 1.00 | 3 |  | 1.000 | 1.000 |"
    assert made[5].endswith("| 3 | -1.00 [-3.48, +1.48] | 0.750 | 0.833 |")
    assert made[6] == "| sparsemax | 4.00 | 3.50 | 1 | -3.50 | 0.500 | 0.500 |"
    made = with_blocks("<!-- beside: ran:error other:error --><!-- end -->", tmp_path).splitlines()
    assert made[2] == "| method | Ran, error % | Other, error % |"
    assert made[4] == "| softmax | 8.00<br>**6.00 ± 1.00** | 8.00<br>not run |"
    assert made[6] == "| sparsemax | 4.00<br>**3.50** | 4.00<br>not run |"


def test_what_the_number_of_classes_does_is_drawn_of_parts_by_regime(tmp_path):
    parts = {"plain-5": (6.0, 4.0), "plain-20": (8.0, 9.5), "choice": (1.0, 9.0)}
    for part, errors in parts.items():
        (tmp_path / part).mkdir()
        for head, error in zip(("softmax", "dropmax"), errors, strict=True):
            append_line(tmp_path / part / RESULTS, line(head, 0, error))
    for head, error in (("softmax", 8.0), ("dropmax", 8.5)):
        append_line(tmp_path / "plain-20" / RESULTS, line(head, 1, error))
    (ax,) = by_classes_figure(tmp_path).axes
    zero, dropmax, seeds = ax.get_lines()
    assert ax.get_title() == REGIMES["plain"]
    assert list(dropmax.get_xdata()) == [5, 20]
    assert list(dropmax.get_ydata()) == [-2.0, 1.0]
    assert list(zip(*seeds.get_data(), strict=True)) == [(5, -2.0), (20, 1.5), (20, 0.5)]
    assert list(zero.get_ydata()) == [0.0, 0.0]
    with raises(ValueError, "dropmax: folder"):
        by_classes_figure(tmp_path / "choice")


@pytest.mark.usefixtures("untyped")
def test_the_posterior_is_drawn_of_heads_that_have_one(tmp_path):
    digits = load_data("digits")
    for head, has_posterior in (
        ("dropmax", True),
        ("dropmax_computed", True),
        ("dropmax_marginal", False),
        ("softmax", False),
    ):
        config = RunConfig("digits", head, train_per_class=5, epochs=1)
        run = train(config, tmp_path / head, data=digits, progress=False)
        if has_posterior:
            files = draw_posterior(run, digits, tmp_path / "figures")
            assert [file.name for file in files] == ["posterior.png", "posterior.svg"]
        else:
            with raises(ValueError, "draw_posterior: run"):
                draw_posterior(run, digits, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_no_lines_are_refused(tmp_path):
    with raises(ValueError, "table: lines"):
        table([])
    with raises(ValueError, "draw: lines"):
        draw([], tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_what_scores_know_is_a_row_a_head_and_source():
    lines = [
        {"head": "dropmax", "source": "gate", "seed": seed, "coverage": value, "size": 2.0}
        for seed, value in enumerate((90.0, 92.0))
    ]
    rows = uncertainty_table(lines, "conformal").splitlines()
    assert rows[0] == "| head | score of | coverage % | classes in a set | seeds |"
    assert rows[2] == "| DropMax | gate | 91.00 ± 1.41 | 2.00 ± 0.00 | 2 |"


def test_a_metric_that_old_lines_lack_is_blank(monkeypatch):
    """A new metric is one field of what is measured and one entry of `METRICS`."""
    columns = {**summary.METRICS, "top5": summary.Column("top-5 error %", 1)}
    monkeypatch.setattr(summary, "METRICS", columns)
    monkeypatch.setattr(tables, "METRICS", columns)
    old = [line("softmax", seed, 4.0) for seed in (0, 1)]
    new = [line("dropmax", seed, 3.0) for seed in (0, 1)]
    for one in new:
        one["test"]["top5"] = 0.5
    header, _, softmax, dropmax = table([*old, *new]).splitlines()
    assert header.split(" | ")[8].strip(" |") == "top-5 error %"
    assert softmax.split("|")[9].strip() == ""
    assert dropmax.split("|")[9].strip() == "0.5 ± 0.0"
    (ours,) = (one for one in summarize([*old, *new]) if one.head == "dropmax")
    assert "top5" not in ours.differences
    assert ours.differences["error"].mean == -1.0

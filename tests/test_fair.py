"""Verdicts of the study of fair baselines: what is told apart, before and after a temperature."""

import json
import shutil

import pytest
from raised import raises

from studies import with_blocks
from studies.fair import (
    SETTINGS,
    baselines_table,
    equal_table,
    settings_table,
    verdicts_table,
    when_figure,
)
from studies.labels import labels_figure

SMOOTHED = "softmax:label_smoothing=0.1"


def metrics(error, nll):
    return {"error": error, "nll": nll, "ece": 1.0, "brier": 0.1}


def write(folder, errors, nlls, after=None):
    """Lines of heads whose errors and NLLs by seed are given, and NLLs after the temperature."""
    folder.mkdir(parents=True)
    runs, judged = [], []
    for head, values in errors.items():
        for seed, error in enumerate(values):
            config = {"data": "digits", "head": head, "seed": seed}
            nll = nlls[head][seed]
            runs.append({"config": config, "test": metrics(99.0, 9.0), "seconds": 36.0})
            runs[-1] |= {"jobs": 2, "threads": 1}
            cooled = nll if after is None else after[head][seed]
            judged.append(
                {
                    "config": config,
                    "before": {"test": metrics(error, nll)},
                    "after": {"test": metrics(error, cooled)},
                    "cpu_seconds": 36.0,
                }
            )
    for name, lines in (("results", runs), ("calibration", judged)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)


@pytest.fixture
def studies(tmp_path):
    """Two settings: DropMax better than softmax in one and worse in the other, sure of it."""
    fair = tmp_path / "studies" / "results" / "fair"
    nlls = {"softmax": [1.0, 1.1, 0.9], SMOOTHED: [2.0, 2.0, 2.0], "dropmax": [0.5, 0.61, 0.39]}
    cooled = {"softmax": [0.5, 0.6, 0.4], SMOOTHED: [0.4, 0.7, 0.5], "dropmax": [0.5, 0.61, 0.39]}
    errors = {"softmax": [5.0, 5.2, 4.8], SMOOTHED: [4.0, 4.5, 3.0], "dropmax": [4.0, 4.1, 3.9]}
    write(fair / "mnist", errors, nlls, cooled)
    errors = {**errors, "dropmax": [7.0, 7.1, 6.9]}
    write(fair / "cifar100", errors, nlls, cooled)
    return tmp_path / "studies"


def test_verdicts_count_what_the_intervals_leave_out(studies):
    header, *rows = verdicts_table(studies / "results" / "fair", "dropmax")
    assert header[2:] == ["better", "not told apart", "worse", "worse in"]
    counts = {(row[0], row[1]): row[2:] for row in rows}
    assert counts["softmax", "errors in 100"] == ["1", "0", "1", SETTINGS["cifar100"]]
    assert counts["softmax", "NLL as it comes, nats"] == ["2", "0", "0", ""]
    assert counts["softmax", "NLL after a temperature, nats"] == ["0", "2", "0", ""]
    assert counts["label smoothing", "errors in 100"] == ["0", "1", "1", SETTINGS["cifar100"]]
    assert counts["label smoothing", "NLL as it comes, nats"] == ["2", "0", "0", ""]


def test_the_table_has_a_row_a_setting_and_what_is_told_apart_in_bold(studies):
    _, *rows = settings_table(studies / "results" / "fair", "dropmax")
    assert [row[0] for row in rows] == [SETTINGS["mnist"], SETTINGS["cifar100"]]
    assert rows[0][1] == "3"
    assert rows[0][2].startswith("**-1.00 [")
    assert rows[1][2].startswith("**+2.00 [")
    assert rows[0][4] == "+0.000 [-0.025, +0.025]"


def drawn(ax):
    """Where the points of a panel are, and the ends of the bars on which they lie."""
    points = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
    bars = {
        line.get_ydata()[0]: tuple(line.get_xdata())
        for line in ax.lines
        if line.get_marker() == "None" and line.get_linestyle() == "-"
    }
    where = [float(point.get_xdata()[0]) for point in points]
    return where, [bars[point.get_ydata()[0]] for point in points]


def test_the_figure_draws_the_mean_and_the_interval_of_each(studies):
    figure = when_figure(studies / "results" / "fair")
    errors, _, nlls, _ = figure.axes
    shown = [label.get_text() for label in errors.get_yticklabels()]
    assert shown == [SETTINGS["mnist"], SETTINGS["cifar100"]]
    means, bars = drawn(errors)
    assert means == pytest.approx([-1.0, 2.0])
    half = 4.302653 * 0.1 / 3**0.5  # Student's t of two degrees of freedom
    assert bars == [pytest.approx((mean - half, mean + half)) for mean in means]
    means, bars = drawn(nlls)
    assert means == pytest.approx([0.0, 0.0], abs=1e-12)
    assert bars == [pytest.approx((-0.024841, 0.024841), abs=1e-5)] * 2


def test_pages_show_test_rows_before_and_after_the_temperature(studies):
    (studies / "fair.yaml").write_text(
        "title: Fair?\nparts: {mnist: {data: digits, minutes: 1,"
        " report: [{heads: [softmax], seeds: 3}]}}"
    )
    page = "".join(
        f"<!-- value: fair/mnist mean nll dropmax {when} --><!-- end -->\n"
        for when in ("before", "after", "test")
    )
    made = with_blocks(f"{page}<!-- cost: fair --><!-- end -->", studies)
    assert "dropmax before -->0.500<" in made
    assert "dropmax after -->0.500<" in made
    assert "dropmax test -->9.000<" in made
    assert "9 runs, 0.2 core-hours" in made
    made = with_blocks("<!-- verdicts: fair dropmax --><!-- end -->", studies)
    assert f"| softmax | errors in 100 | 1 | 0 | 1 | {SETTINGS['cifar100']} |" in made


def test_lines_without_their_run_are_refused(studies):
    folder = studies / "results" / "fair" / "mnist"
    (folder / "results.jsonl").unlink()
    page = "<!-- compare: fair/mnist after --><!-- end -->"
    with raises(ValueError, f"with_blocks: {folder / 'calibration.jsonl'}"):
        with_blocks(page, studies)
    with raises(ValueError, "with_blocks: a split"):
        with_blocks(page.replace("after", "later"), studies)


def test_a_run_that_is_judged_in_two_ways_is_refused(studies):
    file = studies / "results" / "fair" / "mnist" / "calibration.jsonl"
    line = json.loads(file.read_text().splitlines()[0])
    with file.open("a") as lines:
        lines.write(json.dumps({**line, "judging": {"members": 2}}) + "\n")
    with raises(ValueError, f"with_blocks: {file}"):
        with_blocks("<!-- compare: fair/mnist after --><!-- end -->", studies)


def test_all_columns_are_over_the_seeds_that_all_heads_have(studies):
    fair = studies / "results" / "fair"
    errors = {"softmax": [5.0, 5.2, 4.8, 99.0], SMOOTHED: [4.0, 4.5, 3.0]}
    errors["dropmax"] = [4.0, 4.1, 3.9, 1.0]
    write(fair / "rotated", errors, errors)
    found = {row[0]: row[1:] for row in settings_table(fair, "dropmax")[1:]}
    assert found[SETTINGS["rotated"]][:2] == found[SETTINGS["mnist"]][:2]
    assert found[SETTINGS["rotated"]][0] == "3"


def test_two_seeds_are_no_verdict(studies):
    fair = studies / "results" / "fair"
    two = {"softmax": [9.0, 9.0], SMOOTHED: [9.0, 9.0], "dropmax": [1.0, 1.0]}
    write(fair / "rotated", two, two)
    _, *rows = verdicts_table(fair, "dropmax")
    assert all(sum(map(int, row[2:5])) == 2 for row in rows), "of the two settings of three seeds"


def test_baselines_are_compared_over_the_same_seeds(studies):
    fair = studies / "results" / "fair"
    five = {"sigsoftmax": [4.0, 6.0, 99.0], "one_vs_rest": [3.0, 5.0, 99.0]}
    write(fair / "rotated", five, {head: [1.0, 2.0, 9.0] for head in five})
    write(fair / "mnist-members", {"softmax": [1.0, 2.0]}, {"softmax": [0.1, 0.3]})
    header, *rows = baselines_table(fair)
    assert [cell.partition(":")[0] for cell in header[1:3]] == [
        SETTINGS["mnist"],
        SETTINGS["rotated"],
    ]
    found = {row[0]: row[1:3] for row in rows}
    assert found["softmax"] == ["5.10, 0.550", ""]
    assert found["sigsoftmax"] == ["", "5.00, 1.500"]
    assert baselines_table(fair, seeds=(0, 1, 3))[1:] == [], "seed 3 is missing, seed 2 isn't asked"
    assert found["softmax, mean of 4 networks"] == ["1.50, 0.200", ""]
    assert "softmax with mixup" not in found


def test_at_equal_labels_dropmax_has_no_temperature_and_its_baselines_have(studies):
    fair = studies / "results" / "fair"
    errors = {"softmax": [5.0, 5.1, 4.9], SMOOTHED: [4.0, 4.0, 4.0]}
    nlls = {head: [2.0, 2.0, 2.0] for head in errors}
    cooled = {"softmax": [0.5, 0.5, 0.5], SMOOTHED: [0.1, 0.1, 0.1]}
    write(fair / "mnist-equal", errors, nlls, cooled)
    write(fair / "mnist-whole", {"dropmax": [9.0] * 3}, {"dropmax": [9.0] * 3})
    lines = [
        {"config": {"data": "digits", "head": "dropmax", "seed": seed}, "test": metrics(4.0, 0.3)}
        for seed in range(5)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (fair / "mnist-whole" / "results.jsonl").write_text(text)
    write(fair / "rotated-equal", errors | {"softmax": [5.0, 5.1]}, nlls, cooled)
    shutil.copytree(fair / "mnist-whole", fair / "rotated-whole")
    _, *rows = equal_table(fair)
    assert len(rows) == 3, "with two seeds in common there is no interval"
    assert rows[0][1:4] == ["softmax, a temperature and held-out labels", "5.00", "0.500"]
    assert rows[0][4].startswith("**-1.00 [")
    assert rows[0][5] == "**-0.200 [-0.200, -0.200]**"
    smoothed = "label smoothing, a temperature and held-out labels"
    assert rows[1][1:4] == [smoothed, "4.00", "0.100"]
    assert rows[1][5] == "**+0.200 [+0.200, +0.200]**"
    assert rows[2][1:] == ["DropMax", "4.00", "0.300", "", ""]


def test_a_line_a_head_goes_through_its_means_by_labels(tmp_path):
    for count, error in ((5, 60.0), (20, 40.0)):
        errors = {"softmax": [error, error + 2.0], "dropmax": [error - 5.0, error - 7.0]}
        write(tmp_path / str(count), errors, {"softmax": [2.0, 1.0], "dropmax": [1.0, 1.0]})
    errors, nlls = labels_figure(tmp_path).axes
    (softmax, *_), (dropmax, *_) = errors.containers
    assert softmax.get_xydata().tolist() == [[5.0, 61.0], [20.0, 41.0]]
    assert dropmax.get_xydata().tolist() == [[5.0, 54.0], [20.0, 34.0]]
    assert nlls.containers[0][0].get_xydata().tolist() == [[5.0, 1.5], [20.0, 1.5]]
    assert errors.get_xscale() == "log"
    write(
        tmp_path / "80",
        {"softmax": [30.0, 99.0], "dropmax": [20.0]},
        {"softmax": [1.0, 9.0], "dropmax": [1.0]},
    )
    errors, _ = labels_figure(tmp_path).axes
    assert errors.containers[0][0].get_xydata().tolist()[-1] == [80.0, 30.0], "the seed of both"

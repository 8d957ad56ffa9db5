"""What a temperature does to the calibration of runs: the lines, the figure, and the study."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from raised import raises
from tolerances import assert_close

from dropmax.compare import Comparison, compare, read_lines, run_folder
from dropmax.data import load_data
from dropmax.metrics import CALIBRATION_BINS, evaluate
from dropmax.training import RunConfig, load_run
from dropmax.training.classifier import predict
from studies import CALIBRATION, load_study, run_study, update_pages, write_calibration
from studies.calibrated import calibration_figure

pytestmark = pytest.mark.xdist_group("calibrated")  # one test process trains the runs, once

HEADS = ("softmax", "softmax:label_smoothing=0.1", "dropmax")
BASE = RunConfig(
    "digits",
    "softmax",
    protocol="paper",
    train_per_class=10,
    validation_per_class=30,
    epochs=20,
    calibrate=False,
)
COMPARISON = Comparison(BASE, HEADS, seeds=(0, 1))
COMMITTED = Path(__file__).parents[1] / "studies" / "results" / "animals" / "few"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of a comparison, its result lines, and its lines of calibration."""
    folder = tmp_path_factory.mktemp("compared")
    torch.set_num_threads(1)
    lines = compare(COMPARISON, folder, progress=False, threads=1)
    return folder, lines, write_calibration(folder, COMPARISON.configs(), load_data("digits"))


def test_a_line_a_run_says_before_what_the_result_line_says(ran):
    folder, results, lines = ran
    assert read_lines(folder / CALIBRATION) == json.loads(json.dumps(lines))
    assert [line["config"] for line in lines] == [line["config"] for line in results]
    for line, result in zip(lines, results, strict=True):
        for split in ("validation", "test"):
            assert line["before"][split] == pytest.approx(result[split])
        assert line["versions"]["torch"] == torch.__version__


def check(lines, rows):
    """What holds of every line: all test rows are in bins, and the temperature does no harm."""
    for line in lines:
        before, after = line["before"], line["after"]
        for one in (before, after):
            assert sum(one["reliability"]["instances"]) == rows
        assert after["validation"]["nll"] <= before["validation"]["nll"]
        assert after["test"]["error"] == before["test"]["error"]
        assert (line["scale"] == 1.0) == (not line["kept"])


def test_bins_hold_all_test_rows_and_a_temperature_never_harms_the_rows_it_is_fitted_on(ran):
    check(ran[2], rows=len(load_data("digits").test))
    assert any(line["kept"] for line in ran[2])


def test_the_committed_lines_are_of_all_runs_and_rows():
    results = {
        RunConfig.from_dict(line["config"]): line
        for line in read_lines(COMMITTED / "results.jsonl")
    }
    lines = {
        RunConfig.from_dict(line["config"]): line for line in read_lines(COMMITTED / CALIBRATION)
    }
    assert lines.keys() == results.keys()
    check(lines.values(), rows=5_000)
    for config, line in lines.items():
        assert line["before"]["test"] == pytest.approx(results[config]["test"])


def test_after_is_the_softmax_of_the_scaled_log_probabilities(ran):
    folder, _, lines = ran
    digits = load_data("digits")
    for line in lines:
        run = load_run(run_folder(folder, RunConfig.from_dict(line["config"])))
        log_probs = predict(run.classifier(), digits.test.inputs).log_probs.double()
        scaled = (line["scale"] * log_probs).log_softmax(-1)
        expected = evaluate(scaled, digits.test.target)
        assert_close(torch.tensor(line["after"]["test"]["nll"]), expected.nll, "value")
        assert line["after"]["test"]["ece"] == pytest.approx(expected.ece)


def test_test_rows_decide_nothing(ran, tmp_path):
    folder, _, lines = ran
    (tmp_path / "runs").symlink_to(folder / "runs")
    digits = load_data("digits")
    others = replace(digits, test=replace(digits.test, target=9 - digits.test.target))
    again = write_calibration(tmp_path, COMPARISON.configs(), others)
    assert [line["scale"] for line in again] == [line["scale"] for line in lines]
    assert [line["before"]["test"] for line in again] != [line["before"]["test"] for line in lines]


def test_the_figure_has_a_panel_a_head_with_the_bins_of_all_seeds(ran):
    lines = ran[2]
    panels = calibration_figure(lines).axes
    assert len(panels) == len(HEADS)
    for ax, head in zip(panels, HEADS, strict=True):
        runs = [line for line in lines if line["config"]["head"] == head]
        for points, when in zip(ax.collections, ("before", "after"), strict=True):
            ece = sum(run[when]["test"]["ece"] for run in runs) / len(runs)
            assert f"{ece:.1f}" in ax.get_title()
            sums = [[0, 0.0, 0.0] for _ in range(CALIBRATION_BINS)]
            for run in runs:
                for total, *one in zip(sums, *run[when]["reliability"].values(), strict=True):
                    instances, confidence, accuracy = one
                    total[0] += instances
                    total[1] += instances * confidence
                    total[2] += instances * accuracy
            expected = [[sure / n, right / n] for n, sure, right in sums if n]
            found = points.get_offsets().tolist()
            assert found == [pytest.approx(point) for point in expected]
        assert ax.get_xlim() == ax.get_ylim()


def test_a_study_writes_the_lines_and_a_page_shows_the_figure(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / "digits.yaml").write_text(
        "title: Is it calibrated?\n"
        "parts: {few: {data: digits, train_per_class: 5, validation_per_class: 5, epochs: 1,"
        " minutes: 0.1, calibrated: true, runs: [{heads: [softmax, sparsemax], seeds: 1}]}}\n"
    )
    study = load_study(studies / "digits.yaml")
    run_study(study, studies / "results", threads=1, progress=False)
    assert len(read_lines(studies / "results/digits/few" / CALIBRATION)) == 2
    (tmp_path / "README.md").write_text("![Calibration](figures/digits/few/calibration.png)\n")
    (figure,) = update_pages(tmp_path)
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_runs_without_validation_rows_are_refused_and_nothing_is_written(tmp_path):
    config = replace(BASE, validation_per_class=0)
    with raises(ValueError, "write_calibration: validation_per_class"):
        write_calibration(tmp_path, [config], load_data("digits"))
    assert not list(tmp_path.iterdir())

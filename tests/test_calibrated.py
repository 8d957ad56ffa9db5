"""What a temperature does to the calibration of runs: the lines, the figure, and the study."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from raised import raises
from tolerances import assert_close

from dropmax.calibration import PRIOR_COUNT
from dropmax.compare import Comparison, compare, read_lines, run_folder
from dropmax.data import load_data
from dropmax.data.splits import folds
from dropmax.metrics import CALIBRATION_BINS, evaluate
from dropmax.training import RunConfig, draw, load_run
from dropmax.training.classifier import predict
from studies import (
    CALIBRATION,
    Judging,
    load_study,
    run_study,
    update_pages,
    write_calibration,
)
from studies.calibrated import _log_probs, calibrated, calibration_figure, member_folder

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


AVERAGED = {
    "members": (Judging(members=3), BASE),
    "passes": (Judging(passes=200), replace(BASE, dropout=0.5, epochs=200)),
    "folds": (Judging(folds=4), replace(BASE, validation_per_class=0, validation_fraction=0.0)),
}
"""Other ways of judging, with settings of the run."""


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
    """What holds of every line: all test rows are in bins, and the rows that fit gain."""
    for line in lines:
        before, after = line["before"], line["after"]
        for one in (before, after):
            assert sum(one["reliability"]["instances"]) == rows
        assert after["validation"]["nll"] <= before["validation"]["nll"]
        assert after["test"]["error"] == before["test"]["error"]


def test_bins_hold_all_test_rows_and_a_temperature_never_harms_the_rows_it_is_fitted_on(ran):
    check(ran[2], rows=len(load_data("digits").test))
    assert any(line["scale"] != 1.0 for line in ran[2])


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
    own = [[line["own"]["scales"] for line in one if line["own"]] for one in (again, lines)]
    assert len(own[0]) == 2
    assert own[0] == own[1]
    assert [line["before"]["test"] for line in again] != [line["before"]["test"] for line in lines]


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """By way of judging the folder of a run of softmax, its settings and its line."""
    torch.set_num_threads(1)
    found = {}
    for name, (judging, config) in AVERAGED.items():
        folder = tmp_path_factory.mktemp(name)
        compare(Comparison(config, ("softmax",), seeds=(0,)), folder, progress=False, threads=1)
        (line,) = write_calibration(folder, [config], load_data("digits"), judging, threads=1)
        found[name] = folder, config, line
    return found


def check_fitted(line, log_probs, target):
    """The scale is the best for these rows: a little more or less of it is worse."""

    def nll(scale):
        return evaluate((scale * log_probs).log_softmax(-1), target).nll

    def penalized(scale):
        return nll(scale) + PRIOR_COUNT / len(target) * (scale - 1.0) ** 2 / 2.0

    scale = line["scale"]
    assert line["before"]["validation"]["nll"] == pytest.approx(nll(1.0))
    assert line["after"]["validation"]["nll"] == pytest.approx(nll(scale))
    assert penalized(scale) < min(penalized(0.99 * scale), penalized(1.01 * scale))


def log_probs_of(path, split):
    return predict(load_run(path).classifier(), split.inputs).log_probs.double()


def test_an_ensemble_is_the_mean_of_networks_trained_on_the_same_rows(averaged):
    folder, config, line = averaged["members"]
    digits = load_data("digits")
    path = run_folder(folder, config)
    paths = [path, path / "members" / "1", path / "members" / "2"]
    each = [log_probs_of(one, digits.test) for one in paths]
    assert not torch.equal(each[0], each[1])
    expected = evaluate((sum(one.exp() for one in each) / 3.0).log(), digits.test.target)
    assert line["before"]["test"]["nll"] == pytest.approx(expected.nll)
    assert line["judging"] == {"members": 3}
    alone = evaluate(each[0], digits.test.target)
    assert line["before"]["test"]["nll"] < alone.nll
    rows = draw(config, digits).validation
    of_rows = (sum(log_probs_of(one, rows).exp() for one in paths) / 3.0).log()
    check_fitted(line, of_rows, rows.target)
    trained = [load_run(one).classifier().get_submodule("pixels").mean for one in paths]
    splits = draw(config, digits)
    for one in paths[1:]:
        run = load_run(one)
        assert run.metrics["train"] == pytest.approx(
            evaluate(log_probs_of(one, splits.train), splits.train.target)._asdict()
        )
    assert torch.equal(trained[0], trained[1])


def test_passes_are_the_mean_over_dropout_before_the_head(averaged):
    folder, config, line = averaged["passes"]
    digits = load_data("digits")
    classifier = load_run(run_folder(folder, config)).classifier()
    with torch.no_grad():
        features = classifier[:-1](digits.test.inputs).double()
        torch.manual_seed(1)
        head = classifier[-1].double()
        probs = sum(
            head(torch.nn.functional.dropout(features, 0.5)).logits.softmax(-1) for _ in range(400)
        )
    expected = evaluate((probs / 400).log(), digits.test.target)
    assert line["before"]["test"]["nll"] == pytest.approx(expected.nll, rel=0.03)
    rows = draw(config, digits).validation
    check_fitted(line, _log_probs([classifier.float()], config, rows, 200), rows.target)
    plain = evaluate(log_probs_of(run_folder(folder, config), digits.test), digits.test.target)
    assert line["before"]["test"]["nll"] != pytest.approx(plain.nll, rel=0.03)


def test_folds_fit_the_temperature_on_what_each_network_did_not_see(averaged):
    folder, config, line = averaged["folds"]
    digits = load_data("digits")
    path = run_folder(folder, config)
    train = draw(config, digits).train
    assert line["rows"] == len(train) == 100
    parted = folds(train, 10, 4, config.seed)
    assert sorted(n for fold in parted for n in fold) == list(range(100))
    nll = 0.0
    for number, fold in enumerate(parted):
        held = train.rows(fold)
        log_probs = log_probs_of(path / "folds" / f"{number}-of-4", held)
        nll -= log_probs[torch.arange(len(held)), held.target].sum().item() / 100
        known = json.loads((path / "folds" / f"{number}-of-4" / "metrics.json").read_text())
        assert "validation" not in known
        others = train.rows([n for n in range(100) if n not in set(fold)])
        seen = evaluate(log_probs_of(path / "folds" / f"{number}-of-4", others), others.target)
        assert known["train"] == pytest.approx(seen._asdict())
        assert known["test"]["nll"] == pytest.approx(evaluate(log_probs, held.target).nll)
    assert line["before"]["validation"]["nll"] == pytest.approx(nll)
    assert line["before"]["test"] == pytest.approx(
        evaluate(log_probs_of(path, digits.test), digits.test.target)._asdict()
    )


def test_a_heads_own_scales_are_in_a_column_of_their_own(ran):
    folder, _, lines = ran
    digits = load_data("digits")
    for line in lines:
        config = RunConfig.from_dict(line["config"])
        if not config.head.startswith("dropmax"):
            assert line["own"] is None
            continue
        classifier = load_run(run_folder(folder, config)).classifier()
        scores = predict(classifier, digits.test.inputs).scores
        b, c = line["own"]["scales"]
        log_rho = torch.nn.functional.logsigmoid(scores.retain_logits.double())
        scaled = (b * scores.logits.double() + c * log_rho).log_softmax(-1)
        expected = evaluate(scaled, digits.test.target)
        assert line["own"]["test"]["nll"] == pytest.approx(expected.nll)


def test_lines_that_are_there_stay_and_what_is_missing_is_made_by_two_processes(ran, tmp_path):
    folder, _, lines = ran
    (tmp_path / "runs").symlink_to(folder / "runs")
    kept = (folder / CALIBRATION).read_bytes().splitlines(keepends=True)[:2]
    (tmp_path / CALIBRATION).write_bytes(b"".join(kept))
    again = write_calibration(
        tmp_path, COMPARISON.configs(), load_data("digits"), jobs=2, threads=1
    )
    assert (tmp_path / CALIBRATION).read_bytes().splitlines(keepends=True)[:2] == kept
    for one, other in zip(again, lines, strict=True):
        assert json.dumps({**one, "cpu_seconds": 0}) == json.dumps({**other, "cpu_seconds": 0})


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
        " minutes: 0.1, calibrated: true, report: [{heads: [softmax, sparsemax], seeds: 1}]}}\n"
    )
    study = load_study(studies / "digits.yaml")
    run_study(study, studies / "results", threads=1, progress=False)
    assert len(read_lines(studies / "results/digits/few" / CALIBRATION)) == 2
    (tmp_path / "README.md").write_text("![Calibration](figures/digits/few/calibration.png)\n")
    (figure,) = update_pages(tmp_path)
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_part_borrows_the_run_that_it_judges_in_another_way(tmp_path):
    few = "data: digits, train_per_class: 5, validation_per_class: 5, epochs: 1, minutes: 0.1"
    runs = "report: [{heads: [softmax], seeds: 1}]"
    (tmp_path / "digits.yaml").write_text(
        f"title: Borrowed?\nparts:\n  one: {{{few}, calibrated: true, {runs}}}\n"
        f"  two: {{{few}, calibrated: {{members: 2}}, {runs}}}\n"
    )
    study = load_study(tmp_path / "digits.yaml")
    one = replace(study, parts=study.parts[:1])
    run_study(one, tmp_path / "results", threads=1, progress=False)
    run_study(study, tmp_path / "results", threads=1, progress=False)
    folders = [tmp_path / "results" / "digits" / name for name in ("one", "two")]
    first, second = (folder / "runs" / "softmax-seed0" / "metrics.json" for folder in folders)
    assert first.read_bytes() == second.read_bytes(), "its seconds are those of one training"
    alone, averaged = (read_lines(folder / CALIBRATION)[0] for folder in folders)
    assert alone["judging"] == {}
    assert averaged["judging"] == {"members": 2}


def test_a_line_counts_only_for_the_way_it_was_judged(ran, tmp_path):
    lines = ran[2]
    configs = COMPARISON.configs()
    old = [{name: one[name] for name in one if name != "judging"} for one in lines[:1]]
    other = [{**lines[1], "judging": {"members": 2}}]
    file = tmp_path / CALIBRATION
    file.write_text("".join(json.dumps(line) + "\n" for line in [*old, *other, *lines[2:]]))
    assert calibrated(configs, file, Judging()).keys() == set(configs[2:])
    assert calibrated(configs, file, Judging(members=2)).keys() == {configs[1]}


def test_cpu_seconds_are_of_the_networks_of_this_way_of_judging(averaged, tmp_path):
    folder, config, line = averaged["members"]
    path = run_folder(folder, config)
    spent = [json.loads((member_folder(path, n) / "metrics.json").read_text()) for n in (1, 2)]
    assert line["cpu_seconds"] >= sum(one["cpu_seconds"] for one in spent)
    shutil.copytree(path, run_folder(tmp_path, config))
    file = member_folder(run_folder(tmp_path, config), 2) / "metrics.json"
    file.write_text(json.dumps({**spent[1], "cpu_seconds": 5_000.0}))
    shutil.copytree(file.parent, file.parents[2] / "folds" / "0-of-9")
    digits = load_data("digits")
    (more,) = write_calibration(tmp_path, [config], digits, Judging(members=3), threads=1)
    assert 5_000.0 < more["cpu_seconds"] < 6_000.0
    (fewer,) = write_calibration(tmp_path, [config], digits, Judging(members=2), threads=1)
    assert fewer["cpu_seconds"] < 1_000.0
    del spent[1]["cpu_seconds"]  # as older runs have it
    file.write_text(json.dumps(spent[1]))
    (tmp_path / CALIBRATION).unlink()
    (older,) = write_calibration(tmp_path, [config], digits, Judging(members=3), threads=1)
    assert older["cpu_seconds"] < 1_000.0


@pytest.mark.parametrize(
    ("judging", "where"),
    [
        ({"passes": 1}, "passes"),
        ({"folds": 1}, "folds"),
        ({"folds": 3, "passes": 2}, "folds"),
        ({"members": 0}, "members"),
    ],
)
def test_ways_of_judging_that_say_nothing_are_refused(judging, where):
    with raises(ValueError, f"Judging: {where}"):
        Judging(**judging)


def test_passes_without_dropout_are_refused(ran):
    folder, *_ = ran
    with raises(ValueError, "write_calibration: dropout"):
        write_calibration(folder, COMPARISON.configs(), load_data("digits"), Judging(passes=3))


def test_runs_without_validation_rows_are_refused_and_nothing_is_written(tmp_path):
    config = replace(BASE, validation_per_class=0, validation_fraction=0.0)
    with raises(ValueError, "write_calibration: validation_per_class"):
        write_calibration(tmp_path, [config], load_data("digits"))
    assert not list(tmp_path.iterdir())

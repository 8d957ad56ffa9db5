"""Comparisons: every run once, continued where they were interrupted."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from raised import raises

from dropmax.compare import Comparison, compare, read_lines, run_folder
from dropmax.compare.runs import restore
from dropmax.data import load_data
from dropmax.report import table
from dropmax.training import RunConfig, load_run

BASE = RunConfig("digits", "softmax", train_per_class=5, epochs=2)
HEADS = ("softmax", "dropmax:aux_prior=base_rate")


SPENT = ("seconds", "cpu_seconds", "jobs")
LOGISTIC = Path(__file__).parent.parent / "studies" / "logistic.py"


def numbers(line):
    """What of a line must not depend on when and beside what it was made."""
    return {name: value for name, value in line.items() if name not in SPENT}


def test_a_line_a_run_with_its_settings_metrics_and_versions(tmp_path):
    lines = compare(Comparison(BASE, HEADS, (0, 1)), tmp_path, progress=False, threads=1)
    assert [(line["config"]["seed"], line["config"]["head"]) for line in lines] == [
        (seed, head) for seed in (0, 1) for head in HEADS
    ]
    assert read_lines(tmp_path / "results.jsonl") == lines
    for line in lines:
        run = load_run(run_folder(tmp_path, RunConfig.from_dict(line["config"])))
        assert line["test"] == run.metrics["test"]
        assert {"dropmax", "torch", "python"} <= line["versions"].keys()
        assert line["curve"]["epoch"] == [1, 2]
        assert (line["threads"], line["jobs"]) == (1, 1)


def test_more_heads_and_seeds_keep_the_lines_that_are_there(tmp_path):
    first = compare(Comparison(BASE, HEADS[:1], (0,)), tmp_path, progress=False)
    more = compare(Comparison(BASE, HEADS, (0, 1)), tmp_path, progress=False)
    assert more[0] == first[0]
    assert len(read_lines(tmp_path / "results.jsonl")) == 4


def test_other_settings_and_other_directories_are_refused(tmp_path):
    comparison = Comparison(BASE, HEADS[:1], (0,))
    compare(comparison, tmp_path / "one", progress=False)
    other = Comparison(RunConfig("digits", "softmax", train_per_class=6, epochs=2), HEADS, (0,))
    with raises(ValueError, "compare: out"):
        compare(other, tmp_path / "one", progress=False)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thesis.tex").write_text("...")
    with raises(ValueError, "compare: out"):
        compare(comparison, tmp_path / "two", progress=False)
    with raises(ValueError, "make_head: name"):
        compare(Comparison(BASE, ("drop-max",), (0,)), tmp_path / "three", progress=False)
    assert not (tmp_path / "three").exists()
    with raises(ValueError, "Comparison: heads"):
        Comparison(BASE, ("softmax", "softmax"), (0,))


def test_lines_of_a_default_that_changed_since_are_not_mixed_with_others(tmp_path):
    compare(Comparison(BASE, ("dropmax",), (0,)), tmp_path, progress=False)
    file = tmp_path / "results.jsonl"
    (line,) = read_lines(file)
    line["options"]["kl_weight"] *= 2.0
    file.write_text(json.dumps(line) + "\n")
    more = Comparison(BASE, ("dropmax", "softmax"), (0,))
    with raises(ValueError, "compare: out") as raised:
        compare(more, tmp_path, progress=False)
    assert "kl_weight 4.0 for 'dropmax', which gets 2.0 now" in str(raised.value)
    assert read_lines(file) == [line]
    del line["options"]["kl_weight"]  # a line of a version that had no such option
    file.write_text(json.dumps(line) + "\n")
    assert len(compare(more, tmp_path, progress=False)) == 2


def test_a_run_of_a_default_that_changed_since_is_not_made_again(tmp_path):
    comparison = Comparison(BASE, ("dropmax",), (0,))
    (line,) = compare(comparison, tmp_path, progress=False)
    (config,) = comparison.configs()
    shutil.rmtree(run_folder(tmp_path, config))
    stale = json.dumps(line | {"options": {"kl_weight": 4.0}})
    (tmp_path / "results.jsonl").write_text(f"{stale}\n")
    with raises(ValueError, "dropmax: out"):
        restore([config], tmp_path, data=partial(load_data, "digits"), jobs=1, threads=1)
    assert not run_folder(tmp_path, config).exists()


def test_a_line_that_was_cut_off_is_made_again(tmp_path):
    comparison = Comparison(BASE, HEADS, (0,))
    lines = compare(comparison, tmp_path, progress=False, threads=1)
    file = tmp_path / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-10])
    again = compare(comparison, tmp_path, progress=False, threads=1)
    assert again == lines
    assert len(read_lines(file)) == 2
    file.write_text("no json\n")
    with raises(ValueError, "read_lines: file"):
        read_lines(file)


COMPARE = """
import sys
from dropmax.compare import Comparison, compare
from dropmax.training import RunConfig
if __name__ == "__main__":
    base = RunConfig("digits", "softmax", train_per_class=10, epochs=30, batch_size=30)
    heads = ("softmax", "dropmax", "attention")
    compare(Comparison(base, heads, (0, 1)), sys.argv[1], jobs=int(sys.argv[2]), threads=1,
            progress=False)
"""


@pytest.mark.slow
def test_a_killed_comparison_of_two_jobs_goes_on_and_gives_the_same_numbers(tmp_path):
    script = tmp_path / "comparison.py"
    script.write_text(COMPARE)
    command = [sys.executable, str(script)]
    subprocess.run([*command, tmp_path / "whole", "1"], check=True)
    killed = subprocess.Popen([*command, tmp_path / "killed", "2"])
    results = tmp_path / "killed" / "results.jsonl"
    deadline = time.monotonic() + 120
    while not (results.exists() and results.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert 1 <= len(results.read_text().splitlines()) < 6
    subprocess.run([*command, tmp_path / "killed", "2"], check=True)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    settings = [json.dumps(line["config"], sort_keys=True) for line in lines]
    assert len(settings) == len(set(settings)) == 6
    whole = {
        json.dumps(n["config"]): numbers(n)
        for n in read_lines(tmp_path / "whole" / "results.jsonl")
    }
    assert {json.dumps(line["config"]): numbers(line) for line in lines} == whole


SLEEP = """
import time
from dataclasses import replace
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from dropmax.compare.runs import _begin_worker
if __name__ == "__main__":
    begin = {"initializer": _begin_worker, "initargs": (None, {})}
    with ProcessPoolExecutor(1, get_context("spawn"), **begin) as pool:
        pool.submit(print, "begun", flush=True).result()
        pool.submit(time.sleep, 600).result()
"""


@pytest.mark.slow
def test_workers_end_with_a_comparison_that_was_killed(tmp_path):
    (tmp_path / "sleep.py").write_text(SLEEP)
    killed = subprocess.Popen([sys.executable, tmp_path / "sleep.py"], stdout=subprocess.PIPE)
    assert killed.stdout.readline().strip() == b"begun"
    killed.kill()
    killed.communicate(timeout=60)  # what it prints to is closed once its worker has ended, too


def test_runs_that_stop_early_are_drawn_over_the_epochs_they_share(tmp_path):
    from dropmax.report import draw

    base = replace(
        BASE, epochs=30, lr=0.02, schedule="constant", patience=1, validation_per_class=5
    )
    lines = compare(Comparison(base, HEADS[:1], (0, 1, 2)), tmp_path, progress=False)
    assert len({len(line["curve"]["epoch"]) for line in lines}) > 1, "or the test says nothing"
    assert (tmp_path / "learning_curves.png") in draw(lines, tmp_path)


def test_logistic_regression_has_lines_like_ours_each_made_once(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("logistic", LOGISTIC)
    logistic = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(logistic)
    monkeypatch.setattr(logistic, "GRID", (0.01, 0.1))
    out = tmp_path / "results" / "logistic.jsonl"

    def fit(*seeds):
        arguments = ["--data", "digits", "--train-per-class", "5", "--out", str(out), "--seeds"]
        monkeypatch.setattr(sys, "argv", ["logistic.py", *arguments, *seeds])
        logistic.main()
        return read_lines(out)

    (first,) = fit("0")
    assert RunConfig.from_dict(first["config"]).head == "logistic_regression"
    base = replace(BASE, protocol="modern", calibrate=False)
    (ours,) = compare(Comparison(base, HEADS[:1], (0,)), tmp_path / "ours", progress=False)
    more = {"validation", "curve", "epochs", "steps", "cpu_seconds"}
    assert ours.keys() - first.keys() == more
    assert ours["digest"] != first["digest"], "which halves the rows"
    assert ours["test"].keys() == first["test"].keys()
    assert first["test"]["error"] < 20.0
    assert first["options"]["C"] in (0.01, 0.1)
    assert "logistic_regression" in table([first])
    again = fit("0", "1")
    assert again[0] == first
    assert [line["config"]["seed"] for line in again] == [0, 1]

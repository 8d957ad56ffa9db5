"""What a run is of: the rows that train, validate and test, their digest, and examples of them."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dropmax.cli import main
from dropmax.compare import RESULTS, read_lines
from dropmax.data import load_data
from dropmax.training import describe_predictions, labeled_for, load_run
from dropmax.training.module import RunModule


def table(folder, seed=0):
    """A CSV file of two classes apart."""
    folder.mkdir(exist_ok=True)
    numbers = np.random.default_rng(seed).normal(size=40).round(3)
    file = folder / "zoo.csv"
    file.write_text("\n".join(["x,label", *(f"{x},{'ab'[x > 0]}" for x in numbers.tolist())]))
    return str(file)


def test_a_run_is_exported_without_its_data_unless_it_keeps_no_examples(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file = table(tmp_path)
    options = ["--data", file, "--head", "softmax", "--epochs", "2", "--quiet"]
    for name, more in (("a", []), ("b", ["--no-examples"])):
        assert main(["train", *options, *more, "--out", str(tmp_path / name)]) == 0
    assert len(load_run(tmp_path / "a").examples()) == 8
    assert load_run(tmp_path / "b").examples() is None
    assert main(["export", str(tmp_path / "b"), str(tmp_path / "b.onnx")]) == 0
    capsys.readouterr()
    (tmp_path / "zoo.csv").unlink()
    assert main(["export", str(tmp_path / "a"), str(tmp_path / "a.onnx")]) == 0
    assert "on 8 rows" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "b"), str(tmp_path / "c.onnx")]) == 2
    assert "source must be" in capsys.readouterr().err
    assert not (tmp_path / "c.onnx").exists()


def test_data_that_changed_are_those_of_no_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = table(tmp_path)
    options = ["--data", file, "--epochs", "2", "--quiet", "--out"]
    train = ["train", *options, str(tmp_path / "run"), "--head", "softmax"]
    compare = ["compare", *options, str(tmp_path / "out"), "--heads", "softmax", "--seeds"]
    assert main(train) == 0
    assert main([*compare, "1"]) == 0
    table(tmp_path, seed=1)
    capsys.readouterr()
    for command, argument in (
        (train, "--out"),
        (["evaluate", str(tmp_path / "run")], "run"),
        (["export", str(tmp_path / "run"), "a.onnx", "--data-root", "."], "run"),
        ([*compare, "1"], "--out"),
        ([*compare, "2"], "--out"),
    ):
        assert main(command) == 2
        *_, said = capsys.readouterr().err.splitlines()
        assert f": {argument} must be of the same data set" in said
    table(tmp_path)
    for command in (train, ["evaluate", str(tmp_path / "run")], [*compare, "2"]):
        assert main(command) == 0
    lines = read_lines(tmp_path / "out" / RESULTS)
    digests = {line["digest"] for line in lines} | {load_run(tmp_path / "run").digest}
    assert (len(lines), len(digests)) == (2, 1)


def test_a_run_that_was_interrupted_does_not_go_on_with_other_rows(tmp_path, capsys, monkeypatch):
    file = table(tmp_path)
    command = ["train", "--data", file, "--head", "softmax", "--epochs", "2", "--quiet"]
    command += ["--out", str(tmp_path / "run")]
    with monkeypatch.context() as patched:
        patched.setattr("dropmax.training.fit._finish", lambda *_: sys.exit(3))
        with pytest.raises(SystemExit):
            main(command)
    table(tmp_path, seed=1)
    assert main(command) == 2
    assert "train: --out must be of the same data set" in capsys.readouterr().err
    table(tmp_path)
    assert main(command) == 0


def test_runs_and_lines_without_a_digest_are_read_and_said_to_be_unchecked(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file = table(tmp_path)
    options = ["--data", file, "--epochs", "2", "--quiet", "--out", str(tmp_path / "out")]
    command = ["compare", *options, "--heads", "softmax", "--seeds"]
    assert main([*command, "1"]) == 0
    results = tmp_path / "out" / RESULTS
    (line,) = read_lines(results)
    results.write_text(json.dumps({k: v for k, v in line.items() if k != "digest"}) + "\n")
    (config,) = (tmp_path / "out").rglob("run.json")
    described = json.loads(config.read_text())
    config.write_text(json.dumps({k: v for k, v in described.items() if k != "digest"}))
    capsys.readouterr()
    for again in ([*command, "1"], [*command, "2"], ["evaluate", str(config.parent)]):
        assert main(again) == 0
        assert "without a digest" in capsys.readouterr().err


def test_what_trains_validates_and_tests_is_said_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = table(tmp_path)
    options = ["--data", file, "--head", "softmax", "--epochs", "1", "--out"]
    counted = re.compile(r"([\d,]+) (train|validate|test) \(")

    def said(name, *more):
        assert main(["train", *options, str(tmp_path / name), *more]) == 0
        printed = capsys.readouterr().err
        return printed, {what: int(count) for count, what in counted.findall(printed)}

    drawn = load_data(file).draw(validation_fraction=0.15)
    _, counts = said("a")
    assert counts == dict(zip(("train", "validate", "test"), map(len, drawn), strict=True))
    assert sum(counts.values()) == 40
    _, counts = said("b", "--split", "half")
    assert counts["test"] in (20, 21)
    assert "validate" not in counts
    printed, counts = said("c", "--test-fraction", "0")
    assert "judges" in printed
    assert "test" not in counts | load_run(tmp_path / "c").metrics
    assert main(["evaluate", str(tmp_path / "c")]) == 2
    printed, counts = said("d", "--test", table(tmp_path / "other", seed=2))
    assert counts["test"] == 40
    assert main(["evaluate", str(tmp_path / "d")]) == 0


def images(folder, seed=0, count=12):
    """Dark and bright pictures in folders."""
    noise = np.random.default_rng(seed)
    for name, low in (("bright", 150), ("dark", 0)):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            pixels = noise.integers(low, low + 100, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{n}.png")
    return str(folder)


@pytest.mark.parametrize("kind", ["table", "images"])
def test_a_run_is_judged_on_any_labeled_data(kind, tmp_path, capsys):
    make = {"table": table, "images": images}[kind]
    data = make(tmp_path / "data")
    options = ["--head", "softmax", "--epochs", "30", "--protocol", "modern", "--quiet"]
    assert main(["train", "--data", data, *options, "--out", str(tmp_path / "run")]) == 0
    other = make(tmp_path / "other", seed=3)
    shutil.rmtree(tmp_path / "data")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--data", other]) == 0
    error = float(capsys.readouterr().out.split()[1])
    run = load_run(tmp_path / "run")
    rows = labeled_for(run, other)
    assert len(rows) == {"table": 40, "images": 24}[kind]
    names = [run.class_names[k] for k in rows.target.tolist()]
    if kind == "images":
        assert names == ["bright"] * 12 + ["dark"] * 12
        files = [str(file) for file in sorted(Path(other).rglob("*.png"))]
    else:
        files = [other]
    found = [line["top"][0]["class"] for line in describe_predictions(run, files)]
    if kind == "images":
        names = [Path(file).parent.name for file in files]
    wrong = sum(one != name for one, name in zip(found, names, strict=True))
    assert error == pytest.approx(100 * wrong / len(names), abs=1e-3)
    assert error < 20.0


def test_rows_of_classes_that_a_run_does_not_know_are_left_out(tmp_path, capsys):
    options = ["--head", "softmax", "--epochs", "1", "--quiet", "--out", str(tmp_path / "run")]
    assert main(["train", "--data", table(tmp_path), *options]) == 0
    other = tmp_path / "new.csv"
    other.write_text("x,label\n1,b\n-1,a\n2,c\n")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(other)]) == 0
    assert "1 of 3 rows" in capsys.readouterr().err
    other.write_text("x,label\n1,d\n-1,c\n")
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(other)]) == 2
    other.write_text("y,label\n1,a\n-1,b\n")
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(other)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert all("\n" not in line for line in printed.err.splitlines())


def test_pictures_of_one_class_can_be_judged_though_none_can_be_trained_on(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = images(tmp_path / "data")
    options = ["--head", "softmax", "--epochs", "1", "--quiet", "--out"]
    one = tmp_path / "one"
    shutil.copytree(Path(data, "dark"), one / "dark")
    assert main(["train", "--data", str(one), *options, str(tmp_path / "a")]) == 2
    assert "two classes" in capsys.readouterr().err
    run = tmp_path / "b"
    assert main(["train", "--data", data, "--test", str(one), *options, str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    of_run = capsys.readouterr().out
    assert main(["evaluate", str(run), "--data", str(one)]) == 0
    assert capsys.readouterr().out == of_run


def test_test_rows_without_labels_judge_nothing(tmp_path, capsys):
    new = tmp_path / "new.csv"
    new.write_text("x\n1\n2\n")
    options = ["--head", "softmax", "--epochs", "1", "--quiet", "--out", str(tmp_path / "run")]
    assert main(["train", "--data", table(tmp_path), "--test", str(new), *options]) == 2
    assert "train: --test must" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_interrupted_command_says_so_and_the_same_one_resumes_it(tmp_path, capsys, monkeypatch):
    data = table(tmp_path)
    command = ["train", "--data", data, "--head", "softmax", "--epochs", "4", "--quiet", "--out"]
    whole = [*command, str(tmp_path / "whole")]
    cut = [*command, str(tmp_path / "cut")]
    assert main(whole) == 0
    keep = RunModule.on_train_epoch_end

    def interrupted(self):
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        keep(self)

    with monkeypatch.context() as patched:
        patched.setattr(RunModule, "on_train_epoch_end", interrupted)
        capsys.readouterr()
        assert main(cut) == 130
        assert "the same command resumes it" in capsys.readouterr().err
    assert main(cut) == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_export_does_not_overwrite_what_is_no_model(tmp_path, capsys):
    data = table(tmp_path)
    run = str(tmp_path / "run")
    options = ["--head", "softmax", "--epochs", "1", "--quiet", "--out", run]
    assert main(["train", "--data", data, *options]) == 0
    before = Path(data).read_bytes()
    assert main(["export", run, data]) == 2
    assert "file must be new or end in .onnx" in capsys.readouterr().err
    assert Path(data).read_bytes() == before

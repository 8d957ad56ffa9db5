"""How a person steers training: steps, early stopping, the second fit and the temperature."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from raised import raises
from safetensors.torch import load_file
from torch import nn

from dropmax.cli import main
from dropmax.compare import Comparison, compare
from dropmax.data import load_data
from dropmax.data.pictures import Pictures
from dropmax.training import RunConfig, describe_predictions, load_run, train
from dropmax.training.classifier import predict
from dropmax.training.optimization import make_optimizer, make_schedule
from dropmax.training.rows import draw, splits_and_classifier

DIGITS = load_data("digits")
UNSPENT = {"seconds": 0, "cpu_seconds": 0}
SMALL = RunConfig(
    "digits",
    "softmax",
    protocol="paper",
    train_per_class=8,
    epochs=6,
    batch_size=20,
    backbone="mlp",
)
FITS = replace(SMALL, epochs=60, lr=0.02, schedule="constant", patience=2, validation_per_class=8)
"""Overfits within a few epochs."""


def rates(config, steps):
    """The learning rates of the groups at each step."""
    classifier = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = make_optimizer(classifier, config)
    schedule = make_schedule(optimizer, config, steps)
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return np.array(found)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [None, 0.0, 0.25])
def test_the_rate_rises_to_its_highest_and_goes_on_as_its_name_says(name, warmup):
    config = replace(SMALL, lr=0.5, schedule=name, warmup=warmup)
    warm = int(20 * (warmup or 0.0))
    shape = {
        "constant": lambda _: 1.0,
        "linear": lambda x: 1.0 - x,
        "cosine": lambda x: math.cos(x * math.pi / 2.0) ** 2,
    }[name]
    expected = [0.5 * (t + 1) / (warm + 1) for t in range(warm)]
    expected += [0.5 * shape((t - warm) / (20 - warm)) for t in range(warm, 20)]
    assert rates(config, 20)[:, 0] == pytest.approx(expected, rel=1e-12)


def test_thirds_are_those_of_the_epochs_and_one_cycle_rises_first():
    found = rates(replace(SMALL, epochs=6), 24)[:, 0]
    assert found == pytest.approx([1e-3] * 8 + [1e-4] * 8 + [1e-5] * 8)
    cycle = replace(SMALL, protocol="modern")
    assert rates(cycle, 20)[:, 0].argmax() == 5
    assert rates(replace(cycle, warmup=0.5), 20)[:, 0].argmax() == 9
    assert rates(cycle, 20).max() == pytest.approx(3e-3)


def test_the_network_before_the_head_may_have_a_rate_of_its_own(tmp_path):
    config = replace(SMALL, lr=1e-2, backbone_lr=1e-9, schedule="cosine")
    assert rates(config, 4)[0].tolist() == [1e-9, 1e-2]
    _, untrained = splits_and_classifier(config, DIGITS)
    trained = train(config, tmp_path, data=DIGITS, progress=False).classifier()
    moved = {
        name: (trained.get_parameter(name) - weight).abs().max().item()
        for name, weight in untrained.named_parameters()
    }
    assert max(change for name, change in moved.items() if "backbone" in name) < 1e-6
    assert min(change for name, change in moved.items() if "head" in name) > 1e-2


def test_weight_decay_spares_the_gate_in_both_parts():
    config = replace(SMALL, head="dropmax", weight_decay=0.3, backbone_lr=1e-4)
    _, classifier = splits_and_classifier(config, DIGITS)
    decays = {
        id(parameter): (group["weight_decay"], group["lr"])
        for group in make_optimizer(classifier, config).param_groups
        for parameter in group["params"]
    }
    assert len(decays) == len(list(classifier.parameters()))
    for name, parameter in classifier.named_parameters():
        gate = "retain" in name or "correction" in name
        expected = 0.0 if gate else 0.3, 1e-4 if "backbone" in name else 1e-3
        assert decays[id(parameter)] == expected, name


def test_gradients_are_clipped_to_the_norm(tmp_path, monkeypatch):
    norms = []
    keep = torch.optim.Adam.step

    def step(self, closure=None):
        def closed():
            loss = closure()
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(torch.cat([g.flatten() for g in grads]).norm().item())
            return loss

        return keep(self, closed)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    train(replace(SMALL, epochs=1, clip=0.01), tmp_path / "a", data=DIGITS, progress=False)
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    norms.clear()
    train(replace(SMALL, epochs=1), tmp_path / "b", data=DIGITS, progress=False)
    assert min(norms) > 0.1


def test_patience_ends_the_run_and_keeps_the_weights_of_the_best_epoch(tmp_path):
    config = replace(FITS, calibrate=False)
    run = train(config, tmp_path / "run", data=DIGITS, progress=False)
    nlls = [row["validation_nll"] for row in run.history]
    best = int(np.argmin(nlls))
    assert 0 < best < len(nlls) - 1 < 59, "or the test says nothing"
    assert len(nlls) == best + 1 + config.patience
    assert run.metrics["epochs"] == best + 1
    assert run.metrics["steps"] == 4 * (best + 1)
    assert run.metrics["validation"]["nll"] == nlls[best]
    splits = draw(config, DIGITS)
    log_probs = predict(run.classifier(), splits.validation.inputs).log_probs.double()
    nll = -log_probs[torch.arange(len(log_probs)), splits.validation.target].mean()
    assert nll.item() == pytest.approx(nlls[best], rel=1e-6)
    (run.path / "best.ckpt").write_bytes(b"left by a kill after the metrics")
    train(config, run.path, data=DIGITS, progress=False)
    assert sorted(file.name for file in run.path.iterdir()) == [
        "conformal.safetensors",
        "epochs.jsonl",
        "examples.safetensors",
        "metrics.json",
        "model.safetensors",
        "run.json",
    ]


def test_a_refit_takes_all_rows_for_as_many_steps(tmp_path):
    config = replace(FITS, refit=True)
    run = train(config, tmp_path / "run", data=DIGITS, progress=False)
    chosen = load_run(tmp_path / "run" / "selection")
    alone = train(replace(FITS, refit=False), tmp_path / "alone", data=DIGITS, progress=False)
    assert chosen.metrics | UNSPENT == alone.metrics | {
        "seconds": 0,
        "cpu_seconds": 0,
    }
    asked, epochs = chosen.metrics["steps"], run.metrics["epochs"]
    assert asked - epochs < run.metrics["steps"] <= asked
    assert epochs == -(-asked // 8)
    assert run.scaling == chosen.scaling
    assert run.metrics["validation"] == chosen.metrics["validation"]
    first, second = draw(FITS, DIGITS), splits_and_classifier(config, DIGITS, joined=True)[0]
    assert sorted(second.train.keys) == sorted(first.train.keys + first.validation.keys)
    assert len(second.validation) == 0
    answers = predict(run.classifier(), second.train.inputs, scaling=run.scaling).log_probs
    wrong = 100.0 * (answers.argmax(-1) != second.train.target).double().mean().item()
    assert run.metrics["train"]["error"] == pytest.approx(wrong)


def test_pictures_of_two_splits_are_joined_as_tensors_are():
    random = np.random.default_rng(0)
    wide = [torch.from_numpy(random.integers(0, 255, (1, 4, 6), np.uint8)) for _ in range(7)]
    pictures = Pictures(lambda numbers: [wide[n] for n in numbers], range(7), (1, 4, 4), 4)
    data = load_data("digits").train
    one = replace(data.rows(range(5)), inputs=pictures.rows([4, 2, 0, 1, 3]))
    square = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    for other in (pictures.rows([6, 5]), square, pictures.changed(lambda x: 255 - x).rows([5, 6])):
        both = one.joined(replace(data.rows(range(5, 7)), inputs=other))
        expected = torch.cat([one.inputs[:], other[:]])
        assert torch.equal(both.inputs[:], expected)
        order = torch.tensor([6, 0, 5, 3])
        assert torch.equal(both.inputs[order], expected[order])
        assert both.target.tolist() == data.target[:7].tolist()
        assert torch.equal(both.rows([6, 1]).inputs[:], expected[[6, 1]])


@pytest.mark.parametrize("setting", [{"patience": 3}, {"refit": True}])
def test_without_validation_rows_nothing_can_be_chosen(setting, tmp_path):
    config = replace(SMALL, split="half", **setting)
    with raises(ValueError, f"train: {next(iter(setting))}"):
        train(config, tmp_path / "out", data=DIGITS, progress=False)
    with raises(ValueError, f"compare: {next(iter(setting))}"):
        compare(Comparison(config, ("softmax",), (0,)), tmp_path / "out", data=DIGITS)
    assert not (tmp_path / "out").exists()


WRONG = {
    "lr": 0.0,
    "backbone_lr": -1.0,
    "weight_decay": -1.0,
    "warmup": 1.0,
    "clip": 0.0,
    "patience": 0,
    "schedule": "cosin",
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings(name):
    with raises(ValueError, f"RunConfig: {name}"):
        replace(SMALL, **{name: WRONG[name]})
    with raises(ValueError, "RunConfig: warmup"):
        replace(SMALL, warmup=0.1)


def test_a_temperature_is_kept_where_it_helps_and_everything_predicts_with_it(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = str(overlapping(tmp_path / "data.csv"))
    config = RunConfig(
        data, "softmax", epochs=40, batch_size=20, schedule="constant", validation_fraction=0.6
    )
    run = train(config, tmp_path / "run", progress=False)
    plain = train(replace(config, calibrate=False), tmp_path / "plain", progress=False)
    assert plain.scaling is None
    assert run.scaling.scale < 1.0
    assert run.metrics["test"]["nll"] < plain.metrics["test"]["nll"]
    assert run.metrics["test"]["error"] == plain.metrics["test"]["error"]
    weights = [load_file(one.path / "model.safetensors") for one in (run, plain)]
    assert all(torch.equal(weights[1][name], weight) for name, weight in weights[0].items())
    assert load_run(run.path) == run

    frame = tmp_path / "new.csv"
    frame.write_text("a,b\n0.1,0.2\n-1,2\n")
    (line, _), (before, _) = (list(describe_predictions(one, [frame])) for one in (run, plain))
    logit = [math.log(p) - math.log(1.0 - p) for p in (top(line), top(before))]
    assert logit[0] == pytest.approx(run.scaling.scale * logit[1], rel=1e-3)
    assert main(["evaluate", str(run.path)]) == 0
    assert f"nll      {run.metrics['test']['nll']:8.3f} nats" in capsys.readouterr().out
    assert main(["export", str(run.path), str(tmp_path / "a.onnx")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    inputs = run.examples()
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    expected = predict(run.classifier(), inputs, scaling=run.scaling).log_probs
    assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_another_method_than_the_one_it_was_fitted_for_has_no_temperature(tmp_path):
    config = replace(FITS, head="dropmax", patience=None)
    run = train(config, tmp_path / "run", data=DIGITS, progress=False)
    fitted = replace(run, scaling=load_run_with(tmp_path / "run", 0.5).scaling)
    assert fitted.method_and_scaling(run.classifier()) == ("plugin", fitted.scaling)
    assert fitted.method_and_scaling(run.classifier(), "plugin") == ("plugin", fitted.scaling)
    assert fitted.method_and_scaling(run.classifier(), "exact") == ("exact", None)


@pytest.mark.parametrize("scale", [0.0, -1.0, "two", math.inf, None])
def test_a_temperature_that_is_none_is_a_broken_run(scale, tmp_path):
    train(SMALL, tmp_path / "run", data=DIGITS, progress=False)
    with raises(ValueError, "load_run: path"):
        load_run_with(tmp_path / "run", scale)


def load_run_with(folder, scale):
    """The run of a folder, with a temperature written into it."""
    metrics = json.loads((folder / "metrics.json").read_text())
    parts = {"gate_scale": None, "nll_before": 1.0, "nll_after": 0.5, "kept": True}
    metrics["temperature"] = {"scale": scale, **parts}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return load_run(folder)


def overlapping(file):
    """Two classes of which no classifier is sure."""
    random = np.random.default_rng(0)
    target = np.arange(600) % 2
    rows = random.normal(size=(600, 2)).round(4) + 0.5 * target[:, None]
    lines = [f"{a:.4f},{b:.4f},{'xy'[k]}" for (a, b), k in zip(rows, target, strict=True)]
    file.write_text("\n".join(["a,b,label", *lines]))
    return file


def top(line):
    return line["top"][0]["probability"]


def test_runs_and_lines_of_before_have_no_temperature():
    old = {"data": "digits", "head": "softmax", "seed": 3}
    assert RunConfig.from_dict(old) == RunConfig(**old, split="half", calibrate=False)
    assert RunConfig.from_dict(SMALL.to_dict()) == SMALL
    assert RunConfig.from_dict(FITS.to_dict()) == FITS


def test_the_options_of_the_command_are_the_settings(tmp_path):
    settings = {
        "lr": 0.002,
        "backbone_lr": 0.001,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.2,
        "clip": 2.0,
        "patience": 4,
    }
    options = [text for k, v in settings.items() for text in (f"--{k.replace('_', '-')}", str(v))]
    options += ["--refit", "--no-calibrate", "--threads", "1", "--precision", "32-true"]
    options += ["--accelerator", "cpu", "--devices", "1", "--strategy", "auto"]
    few = ["--data", "digits", "--train-per-class", "5", "--epochs", "2", "--quiet"]
    expected = {**settings, "refit": True, "calibrate": False}
    out = str(tmp_path / "run")
    assert main(["train", *few, "--head", "softmax", *options, "--out", out]) == 0
    config = load_run(out).config
    assert {name: getattr(config, name) for name in expected} == expected
    out = str(tmp_path / "compared")
    heads = ["--heads", "softmax", "--seeds", "1"]
    assert main(["compare", *few, *heads, *options, "--out", out]) == 0
    config = load_run(tmp_path / "compared" / "runs" / "softmax-seed0").config
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_has_the_threads_asked_for_and_leaves_those_of_the_caller(threads, tmp_path):
    before = torch.get_num_threads()
    run = train(SMALL, tmp_path / "run", data=DIGITS, progress=False, threads=threads)
    assert run.metrics["threads"] == threads
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("epochs", "lr", "said"), [(3, 3e-3, True), (60, 1e-2, False)])
def test_a_run_that_ends_too_early_says_so(epochs, lr, said, tmp_path, capsys):
    config = replace(SMALL, epochs=epochs, lr=lr, schedule="constant", validation_per_class=20)
    run = train(config, tmp_path, data=DIGITS)
    nlls = [row["curve"]["validation"]["nll"] for row in run.history if "curve" in row]
    assert (nlls[-1] < 0.97 * min(nlls[:-1])) is said
    assert ("still falls" in capsys.readouterr().err) is said


def test_the_command_says_no_word_of_lightning(tmp_path):
    """In a process of its own, where nobody has imported it before."""
    command = [sys.executable, "-c", "from dropmax.cli import run; run()", "train", "--data"]
    command += ["digits", "--epochs", "1", "--train-per-class", "5", "--no-calibrate"]
    ended = subprocess.run(
        [*command, "--out", tmp_path / "run"], check=True, capture_output=True, text=True
    )
    said = [line for line in ended.stderr.splitlines() if "seed 0" not in line]
    assert [line.partition(":")[0] for line in said] == ["digits", "50 pictures, from scratch"]


TRAIN = """
import sys
from dropmax.training import RunConfig, train
config = RunConfig("digits", "dropmax", train_per_class=60, epochs=40, batch_size=20, lr=0.01,
                   patience=8, refit=True)
train(config, sys.argv[1], progress=False, threads=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["selection", "."])
def test_a_killed_process_goes_on_with_the_best_epoch_so_far(phase, tmp_path):
    """Also with the second fit: bit for bit."""
    subprocess.run([sys.executable, "-c", TRAIN, tmp_path / "whole"], check=True)
    killed = subprocess.Popen([sys.executable, "-c", TRAIN, tmp_path / "killed"])
    while not (tmp_path / "killed" / phase / "resume.ckpt").exists():
        assert killed.poll() is None
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / phase / "metrics.json").exists()
    subprocess.run([sys.executable, "-c", TRAIN, tmp_path / "killed"], check=True)
    whole, again = (load_run(tmp_path / name) for name in ("whole", "killed"))
    assert whole.metrics | UNSPENT == again.metrics | {
        "seconds": 0,
        "cpu_seconds": 0,
    }
    assert whole.history == again.history
    weights = [load_file(run.path / "model.safetensors") for run in (whole, again)]
    assert all(torch.equal(weights[1][name], weight) for name, weight in weights[0].items())


def test_photos_are_refitted(tmp_path):
    """Of files that keep a split for validation, and longer than wide."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 4), ("test", 2)):
        for n in range(count):
            for k, name in enumerate(("dark", "light")):
                pixels = random.integers(0, 100, (20, 30, 3)) + 150 * k
                file = tmp_path / "photos" / split / name / f"{n}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(file)
    config = RunConfig(
        str(tmp_path / "photos"), "softmax", size=16, protocol="modern", epochs=20, patience=20
    )
    run = train(replace(config, refit=True), tmp_path / "run", progress=False)
    assert run.metrics["test"]["error"] == 0.0
    assert run.metrics["train"]["error"] == 0.0

"""Runs: what they leave, that they go on bit for bit, and what stops them."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from raised import raises
from safetensors.torch import load_file
from tolerances import assert_close
from torch import nn
from variants import VARIANTS

from dropmax import HEADS, find_head
from dropmax.data import load_data
from dropmax.heads import DropMaxHead
from dropmax.training import PROTOCOLS, RunConfig, TrainingError, draw, load_run, module, train
from dropmax.training.classifier import (
    Pixels,
    class_weights,
    flipped_and_cropped,
    make_classifier,
    mixed,
    predict,
)

DIGITS = load_data("digits")
UNSPENT = {"seconds": 0, "cpu_seconds": 0}
SMALL = {"train_per_class": 10, "epochs": 6, "batch_size": 30}


def run(path, head="dropmax", **options):
    config = RunConfig("digits", head, **(SMALL | options))
    return train(config, path, data=DIGITS, progress=False)


def assert_number(actual, expected):
    assert_close(torch.tensor(actual, dtype=torch.float64), expected, "metric")


def contents(path):
    """Everything a run leaves but what is timed."""
    history = (Path(path) / "epochs.jsonl").read_text()
    metrics = json.loads((Path(path) / "metrics.json").read_text())
    return (
        history,
        metrics | UNSPENT,
        load_file(Path(path) / "model.safetensors"),
    )


def assert_same_run(one, other):
    first, second = contents(one), contents(other)
    assert first[:2] == second[:2]
    assert first[2].keys() == second[2].keys()
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])


@pytest.mark.parametrize("head", [*VARIANTS, "softmax:label_smoothing=0.1"])
def test_every_head_trains_and_its_run_is_complete_in_itself(head, tmp_path):
    made = run(tmp_path / "run", head, validation_per_class=5, epochs=20)
    files = {file.name for file in (tmp_path / "run").iterdir()}
    weights = {f"{name}.safetensors" for name in ("model", "examples", "conformal")}
    assert files == {"run.json", "metrics.json", "epochs.jsonl"} | weights
    loaded = load_run(tmp_path / "run")
    assert loaded == made
    assert loaded.class_names == DIGITS.class_names
    assert [row["epoch"] for row in loaded.history] == list(range(1, 21))
    assert set(loaded.history[-1]["curve"]) == {"train", "validation", "test"}
    assert loaded.metrics["test"]["error"] < 60.0
    log_probs = predict(loaded.classifier(), DIGITS.test.inputs).log_probs
    error = (log_probs.argmax(-1) != DIGITS.test.target).double().mean()
    assert_number(100.0 * error.item(), loaded.metrics["test"]["error"])


@pytest.mark.parametrize("refit", [False, True])
def test_the_learning_curve_has_as_many_points_as_asked_for(refit, tmp_path):
    chosen = {"patience": 50, "refit": True} if refit else {}
    config = RunConfig("digits", "softmax", **SMALL, validation_per_class=5, **chosen)
    for points in (1, 2):
        folder = tmp_path / str(points)
        made = train(config, folder, data=DIGITS, progress=False, curve_points=points)
        for one in [made, load_run(folder / "selection")] if refit else [made]:
            assert sum("curve" in row for row in one.history) == points


def test_terms_are_logged_raw_and_weighted_and_the_gate_beside_them(tmp_path):
    rows = run(tmp_path, "dropmax:kl_weight=0.5,entropy_weight=0.25,aux_weight=0.0").history
    for row in rows:
        raw, weighted = row["raw"], row["weighted"]
        assert_number(weighted["kl"], 0.5 * raw["kl"])
        assert_number(weighted["neg_entropy"], 0.25 * raw["neg_entropy"])
        assert weighted["aux"] == 0.0 < raw["aux"]
        assert_number(weighted["nll"], raw["nll"])
        assert set(row["gate"]) == {
            "target_retain",
            "rival_retain",
            "rivals_retained",
            "saturated",
        }
    assert rows[-1]["weighted"]["total"] < rows[0]["weighted"]["total"]


def test_many_classes_are_trained_by_the_fused_loss_to_the_same_end(tmp_path, monkeypatch):
    """With masks that are not drawn both losses are the same numbers."""
    options = {"head": "dropmax:masks=mean,kl_weight=0.5", "epochs": 3}
    plain = run(tmp_path / "plain", **options)
    monkeypatch.setattr(module, "ENOUGH", 300)
    assert run(tmp_path / "few", "softmax", epochs=1).history[0]["raw"] is not None
    calls = []
    keep = DropMaxHead.fused_loss

    def watched(self, features, target, **options):
        calls.append(len(target))
        return keep(self, features, target, **options)

    monkeypatch.setattr(DropMaxHead, "fused_loss", watched)
    fused = run(tmp_path / "fused", **options)
    assert calls == 3 * [30, 30, 30, 10]
    assert load_run(tmp_path / "fused") == fused
    for one, other in zip(plain.history, fused.history, strict=True):
        assert other["raw"] is None
        for term, value in one["weighted"].items():
            assert other["weighted"][term] == pytest.approx(value, rel=1e-4, abs=1e-6)
        for name, value in one["gate"].items():
            assert other["gate"][name] == pytest.approx(value, rel=0.05, abs=0.05)
    run(tmp_path / "marginal", "dropmax_marginal", epochs=1)
    assert len(calls) == 12


def test_one_seed_gives_every_head_the_same_backbone_and_another_seed_another():
    made = {
        (head, seed): make_classifier(RunConfig("digits", head, seed=seed), (1, 8, 8), 10)
        for head in HEADS
        for seed in (0, 1)
    }
    for head in HEADS:
        for name, weight in made["softmax", 0].named_parameters():
            if "bias" not in name:
                assert torch.equal(made[head, 0].get_parameter(name), weight), (head, name)
                assert not torch.equal(made[head, 1].get_parameter(name), weight), (head, name)


def test_seeds_decide_the_run_and_the_generator_of_the_caller_does_not(tmp_path):
    run(tmp_path / "one")
    torch.manual_seed(123)
    torch.rand(7)
    run(tmp_path / "two")
    run(tmp_path / "three", seed=1)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert contents(tmp_path / "one")[0] != contents(tmp_path / "three")[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_run_stopped_after_any_epoch_goes_on_bit_for_bit(protocol, tmp_path, monkeypatch):
    from dropmax.training.module import RunModule

    run(tmp_path / "whole", protocol=protocol)
    keep = RunModule.on_train_epoch_end
    for epoch in (0, 3, 5):
        path = tmp_path / f"stopped{epoch}"

        def stop(module, epoch=epoch):
            if module.current_epoch == epoch:
                raise RuntimeError("stopped")
            keep(module)

        monkeypatch.setattr(RunModule, "on_train_epoch_end", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            run(path, protocol=protocol)
        with raises(ValueError, "load_run: path"):
            load_run(path)
        monkeypatch.setattr(RunModule, "on_train_epoch_end", keep)
        run(path, protocol=protocol)
        assert_same_run(tmp_path / "whole", path)
        assert not (path / "resume.ckpt").exists()


TRAIN = """
import sys, torch
torch.set_num_threads(1)
from dropmax.training import RunConfig, train
train(RunConfig("digits", "dropmax", train_per_class=10, epochs=120, batch_size=30), sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_bit_for_bit(tmp_path):
    subprocess.run([sys.executable, "-c", TRAIN, tmp_path / "whole"], check=True)
    killed = subprocess.Popen([sys.executable, "-c", TRAIN, tmp_path / "killed"])
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "resume.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    subprocess.run([sys.executable, "-c", TRAIN, tmp_path / "killed"], check=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_finished_run_is_not_trained_again(tmp_path):
    run(tmp_path)
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    run(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("term", ["nll", "kl", "neg_entropy", "aux"])
def test_a_term_that_is_no_number_stops_the_run_and_is_named(term, tmp_path, monkeypatch):
    from dropmax.heads import DropMaxHead

    keep = DropMaxHead.raw_loss

    def broken(self, scores, target, **options):
        raw = keep(self, scores, target, **options)
        raw = raw._replace(**{term: getattr(raw, term) * float("nan")})
        return raw.of_terms(*raw[1:])

    monkeypatch.setattr(DropMaxHead, "raw_loss", broken)
    with raises(TrainingError, f"train: {term}"):
        run(tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_pixels_are_standardized_by_the_training_images_and_kept_with_the_weights(tmp_path):
    made = run(tmp_path, protocol="modern", epochs=2)
    splits = draw(made.config, DIGITS)
    pixels = made.classifier().get_submodule("pixels")
    assert isinstance(pixels, Pixels)
    shown = pixels(splits.train.inputs).double()
    assert_number(shown.mean().item(), 0.0)
    assert_number(shown.std().item(), 1.0)
    plain = Pixels((1, 8, 8))(splits.train.inputs)
    assert (plain.amin(), plain.amax()) == (0.0, 1.0)


def test_augmented_images_are_windows_of_the_padded_image_or_its_mirror():
    images = torch.randint(1, 256, (64, 3, 6, 5), dtype=torch.uint8)
    shown = flipped_and_cropped(images, padding=2)
    padded = nn.functional.pad(images, (2,) * 4)
    seen = set()
    for image, source in zip(shown, padded, strict=True):
        matches = {
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            for window in [source[:, top : top + 6, left : left + 5]]
            if torch.equal(image, window.flip(-1) if mirrored else window)
        }
        assert len(matches) == 1
        seen |= matches
    assert len(seen) > 25


def test_the_thirds_of_the_papers_protocol(tmp_path, monkeypatch):
    from dropmax.training.module import RunModule

    rates = []
    keep = RunModule.on_train_epoch_start

    def record(module):
        rates.append([group["lr"] for group in module.optimizers().param_groups])
        keep(module)

    monkeypatch.setattr(RunModule, "on_train_epoch_start", record)
    run(tmp_path, epochs=6, protocol="paper")
    expected = [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    for rate, (decayed, spared) in zip(expected, rates, strict=True):
        assert_number(decayed, rate)
        assert_number(spared, rate)


def test_mixed_inputs_are_as_far_from_one_as_their_labels():
    torch.manual_seed(0)
    inputs = torch.arange(6, dtype=torch.uint8)[:, None].expand(6, 2) * 40
    found, labels = mixed(inputs, torch.arange(6), 6, alpha=0.4)
    assert_close(labels.sum(-1), torch.ones(6), "value")
    assert_close(found[:, 0], 40.0 * labels @ torch.arange(6.0), "value")
    assert torch.equal(found[:, 0], found[:, 1])
    shares = labels.diagonal()
    assert len(shares[shares < 1.0].unique()) == 1, "a share for the batch"


def test_the_share_of_mixup_is_drawn_from_its_beta_distribution():
    torch.manual_seed(0)
    pairs = [mixed(torch.zeros(2, 1), torch.tensor([0, 1]), 2, alpha=0.4)[1] for _ in range(2_000)]
    shares = torch.stack([labels[0, 0] for labels in pairs if 0.0 < labels[0, 0] < 1.0])
    assert 0.4 * len(pairs) < len(shares) < 0.6 * len(pairs), "half of the orders change nothing"
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(0.25 / 1.8, abs=0.015)  # of Beta(0.4, 0.4)


def test_a_run_with_mixup_learns_another_network_and_repeats_itself(tmp_path):
    plain, mixes = run(tmp_path / "plain"), run(tmp_path / "mixes", mixup=0.4)
    assert mixes.metrics["train"]["nll"] != plain.metrics["train"]["nll"]
    assert mixes.history[-1]["raw"]["nll"] > plain.history[-1]["raw"]["nll"]
    again = run(tmp_path / "again", mixup=0.4)
    assert again.metrics["test"] == mixes.metrics["test"]


WRONG = {
    "negative mixup": ({"mixup": -0.1}, ValueError, "RunConfig: mixup"),
    "next to no mixup": ({"mixup": 1e-4}, ValueError, "RunConfig: mixup"),
    "no head": ({"head": "drop-max"}, ValueError, "make_head: name"),
    "no option": ({"head": "softmax:smoothing=1"}, ValueError, "make_head: an option of softmax"),
    "no backbone": ({"backbone": "vgg"}, ValueError, "RunConfig: backbone"),
    "too small": ({"backbone": "lenet"}, ValueError, "make_backbone: shape"),
    "no protocol": ({"protocol": "papre"}, ValueError, "RunConfig: protocol"),
    "no epochs": ({"epochs": 0}, ValueError, "RunConfig: epochs"),
    "no batch": ({"batch_size": 0}, ValueError, "RunConfig: batch_size"),
    "negative seed": ({"seed": -1}, ValueError, "RunConfig: seed"),
    "too many": (
        {"train_per_class": 10_000},
        ValueError,
        "DataSet.draw: train_per_class + validation_per_class of digits",
    ),
    "negative validation": (
        {"validation_per_class": -1},
        ValueError,
        "RunConfig: validation_per_class",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.usefixtures("untyped")
def test_wrong_settings_raise_and_leave_nothing(case, tmp_path):
    options, kind, where = WRONG[case]
    with raises(kind, where):
        run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    run(tmp_path / "run")
    with raises(ValueError, "train: out"):
        run(tmp_path / "run", seed=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("...")
    with raises(ValueError, "train: out"):
        run(tmp_path / "other")
    with raises(ValueError, "train: out"):
        run(tmp_path / "other" / "thesis.tex")
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_a_state_that_cannot_be_read_is_named(tmp_path):
    run(tmp_path)
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "resume.ckpt").write_bytes(b"half")
    with raises(ValueError, "train: out"):
        run(tmp_path)


@pytest.mark.parametrize("file", ["run.json", "metrics.json", "epochs.jsonl"])
def test_a_broken_file_of_a_run_is_named(file, tmp_path):
    run(tmp_path)
    (tmp_path / file).write_text("{")
    with raises(ValueError, "load_run: path"):
        load_run(tmp_path)


def test_weights_that_do_not_fit_are_named(tmp_path):
    made = run(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 64)
    with raises(ValueError, "Run.classifier: path"):
        made.classifier()


def test_a_later_format_is_named(tmp_path):
    run(tmp_path)
    described = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(described | {"format": 99}))
    with raises(ValueError, "load_run: format"):
        load_run(tmp_path)


def test_prediction_leaves_the_mode_and_reads_batches_alike():
    classifier = make_classifier(RunConfig("digits", "dropmax"), (1, 8, 8), 10).train()
    images = DIGITS.test.inputs[:50]
    whole = predict(classifier, images)
    parts = predict(classifier, images, batch_size=7)
    assert classifier.training
    assert_close(parts.log_probs, whole.log_probs, "reordered")
    assert find_head(classifier).out_features == 10


def test_a_run_that_was_written_under_older_names_is_read_and_goes_on(tmp_path):
    options = {"head": "dropmax", "method": "exact", "epochs": 1, "protocol": "paper"}
    trained = run(tmp_path, **options)
    file = tmp_path / "run.json"
    described = json.loads(file.read_text())
    settings = described["config"]
    assert (settings.pop("method"), settings["protocol"]) == ("exact", "paper")
    settings |= {"predictive": "exact", "protocol": "official"}
    file.write_text(json.dumps(described))
    again = load_run(tmp_path)
    assert again.config == trained.config
    assert run(tmp_path, **options).metrics == trained.metrics


def rare(count=6):
    """Digits of which all classes but the first have few training rows."""
    data = load_data("digits")
    kept = [n for n, k in enumerate(data.train.target.tolist()) if k == 0 or n % 20 < count]
    return replace(data, train=data.train.rows(kept))


@pytest.mark.parametrize("head", ["softmax", "dropmax"])
def test_balanced_classes_weigh_the_same_whatever_their_rows(head, tmp_path):
    data = rare()
    config = RunConfig("digits", head, epochs=1, class_weight=("balanced",))
    target = draw(config, data).train.target
    weight = class_weights(config, data.class_names, target)
    for k in range(10):
        assert_number(weight.double()[target[target == k]].sum().item(), len(target) / 10)
    named = tuple(f"{k}={value}" for k, value in enumerate(weight.tolist()))
    runs = [
        train(replace(config, class_weight=how), tmp_path / str(n), data=data, progress=False)
        for n, how in enumerate([("balanced",), named, ()])
    ]
    first, second, plain = (one.history[0]["weighted"]["nll"] for one in runs)
    assert first == second != plain
    assert load_run(tmp_path / "0").config == config


def test_a_class_of_weight_0_is_not_learned(tmp_path):
    config = RunConfig("digits", "softmax", epochs=20, class_weight=("3=0", "5=2.5"))
    made = train(config, tmp_path, data=DIGITS, progress=False)
    found = predict(made.classifier(), DIGITS.test.inputs).log_probs.argmax(-1)
    assert 3 not in found.tolist()
    assert (found == DIGITS.test.target).double().mean() > 0.8


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    "given", ["cat=2", "3", "3=x", "3=-1", "3=nan", "balance", "=", "balanced 3=2", "3=2 3=3"]
)
def test_wrong_class_weights(given, tmp_path):
    config = RunConfig("digits", "softmax", epochs=1, class_weight=tuple(given.split()))
    with raises(ValueError, "train: class_weight"):
        train(config, tmp_path / "out", data=DIGITS, progress=False)
    assert not (tmp_path / "out").exists()

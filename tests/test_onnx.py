"""A model as a file: what onnxruntime and compiled code make of it is what torch does."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from raised import raises
from tolerances import TOLERANCES, assert_close
from torch import nn

import dropmax
from dropmax import Predictor, export_onnx
from dropmax.data import load_data
from dropmax.heads import GatedHead
from dropmax.integrations.onnx import export as exporting
from dropmax.integrations.onnx.operators import DECOMPOSITIONS
from dropmax.training.networks import make_backbone, out_features

CASES = [*((name, {}) for name in dropmax.HEADS), ("dropmax", {"method": "exact", "num_nodes": 40})]
IDS = [*dropmax.HEADS, "exact"]
MATRICES = ["Gemm", "MatMul"]


def classifier(name="dropmax"):
    """Features [N, 6] to 5 classes, gates nearly shut or open, layers that training changes."""
    head = dropmax.make_head(name, 8, 5)
    if isinstance(head, GatedHead):
        nn.init.normal_(head.retain_weight, std=20.0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), head)
    model[1].eval()
    return model


def run(file, *inputs):
    """What onnxruntime computes."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    (found,) = session.run(None, feed)
    return torch.from_numpy(found)


def operators(nodes):
    """The operators of nodes, those within control flow included."""
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            for graph in [*attribute.graphs, attribute.g]:
                yield from operators(graph.node)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_file_computes_what_the_head_does_at_any_batch_size(name, options, tmp_path):
    model, features = classifier(name), 3.0 * torch.randn(70, 6)
    training = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    file = tmp_path / "model.onnx"
    differences = export_onnx(model, features[:9], file, **options)

    assert list(tmp_path.iterdir()) == [file]
    assert [module.training for module in model.modules()] == training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    content = file.read_bytes()
    assert b"stack_trace" not in content
    assert str(Path(dropmax.__file__).parent).encode() not in content
    proto = onnx.load_model_from_string(content)
    found = {*operators(proto.graph.node), *operators(n for f in proto.functions for n in f.node)}
    assert "Gemm" in found
    assert not [op for op in found if op.startswith("Random") or op in ("Bernoulli", "Dropout")]
    assert not [x.name for x in proto.graph.initializer if "correction" in x.name]
    (given,), (returned,) = proto.graph.input, proto.graph.output
    shape = [x.dim_param or x.dim_value for x in given.type.tensor_type.shape.dim]
    assert (given.name, returned.name, shape) == ("input", "log_probs", ["batch", 6])

    predictor = Predictor(model, **options).eval()
    for count in (1, 2, 64, 70):
        log_probs, expected = run(file, features[:count]), predictor(features[:count]).detach()
        assert_close(log_probs.exp(), expected.exp(), "onnx")
        if name != "sparsemax":  # whose smallest probabilities are differences of large numbers
            assert_close(log_probs, expected, "compiled")
    worst = (run(file, features[:9]).double().exp() - predictor(features[:9]).double().exp()).abs()
    assert differences[64] == worst.max().item()
    if options:
        exact = Predictor(model.double(), "exact", tolerance=1e-9)(features.double())
        assert_close(run(file, features).exp(), exact.detach().exp(), "exact")


def not_finite(file, inputs):
    """The tensors in a file that hold an infinity or NaN for some inputs."""
    proto = onnx.load(file)
    inside = {name for node in proto.graph.node for name in node.output if name}
    returned = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside - returned)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    found = zip(session.get_outputs(), session.run(None, {"input": inputs.numpy()}), strict=True)
    return {x.name for x, values in found if not np.isfinite(np.asarray(values, float)).all()}


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_nothing_in_a_file_is_infinite_or_nan(name, options, scale, tmp_path, monkeypatch):
    """Gates and classes that are alike, usual, or certain. Sparsemax's answer may be log 0."""
    monkeypatch.setattr(exporting, "_check_nodes", lambda *_: None)
    model, features = classifier(name).eval(), torch.randn(70, 6)
    with torch.no_grad():
        for parameter in model[-1].parameters():
            parameter.mul_(scale)
    export_onnx(model, features[:9], tmp_path / "model.onnx", **options)
    allowed = {"log_probs"} if name == "sparsemax" else set()
    assert not_finite(tmp_path / "model.onnx", features) <= allowed


class Calibration(CalibrationDataReader):
    """Inputs for static quantization."""

    def __init__(self, inputs):
        self.batches = iter(inputs.split(100))

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"input": batch.numpy()}


@pytest.mark.parametrize(
    ("name", "options", "operators"),
    [
        ("softmax", {}, None),
        ("attention", {}, None),
        ("dropmax", {}, None),
        ("dropmax", {}, MATRICES),
        pytest.param("dropmax", {"method": "exact"}, MATRICES, marks=pytest.mark.slow),
    ],
)
def test_static_quantization_keeps_the_answers(name, options, operators, tmp_path):
    """In whole numbers of eight bits: 99 of 100 digits get the same class, about as likely."""
    data = load_data("digits")
    train, test = (part.inputs.float() / 255 for part in (data.train, data.test))
    head = dropmax.make_head(name, 64, 10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), head)
    criterion, optimizer = dropmax.Criterion(model), torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(20):
        for rows in torch.randperm(len(train)).split(100):
            optimizer.zero_grad()
            criterion(model(train[rows]), data.train.target[rows]).backward()
            optimizer.step()
    file, small = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    export_onnx(model, train[:64], file, **options)
    quantize_static(file, small, Calibration(train[:400]), op_types_to_quantize=operators)
    assert small.stat().st_size < file.stat().st_size
    expected, found = run(file, test).exp(), run(small, test).exp()
    assert (expected.argmax(-1) == data.test.target).double().mean() > 0.9
    assert (found.argmax(-1) == expected.argmax(-1)).double().mean() >= 0.99
    assert (found - expected).abs().max() < 0.1
    assert (found - expected).abs().mean() < 0.002


@pytest.mark.parametrize("function", DECOMPOSITIONS, ids=str)
def test_what_onnx_lacks_keeps_its_digits(function):
    size = 10.0 ** torch.linspace(-12.0, 4.0, 2001)
    x = torch.cat([-size, torch.zeros(1), size])
    if function == torch.ops.aten.log1p.default:
        x = x[x > -1.0]
    if function == torch.ops.aten.expm1.default:
        x = x[x < 80.0]
    arguments = (x,)
    if function == torch.ops.aten.logaddexp.default:
        minus_infinity = torch.full((1,), -torch.inf)
        x = torch.cat([x, minus_infinity])
        arguments = (x, torch.cat([x[:-1].flip(0), minus_infinity]))
    expected = function(*(argument.double() for argument in arguments))
    found = DECOMPOSITIONS[function](*arguments).double()
    near = (found == expected) | ((found - expected).abs() <= 1e-6 * expected.abs() + 1e-37)
    assert near.all(), (x[~near], found[~near], expected[~near])


class Tagger(nn.Module):
    """Two inputs, and a class for each word."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.head = dropmax.make_head("sparsemax", 8, 3)

    def forward(self, words, weights):
        return self.head(self.words(words) * weights.unsqueeze(-1))


def test_several_inputs_probabilities_and_class_names(tmp_path):
    inputs = torch.randint(20, (5, 4)), torch.rand(5, 4)
    model, file = Tagger(), tmp_path / "tagger.onnx"
    file.write_text("an older file")
    recipe = {"words": {"kind": "tokens", "mean": [0.5, 1e-9]}, "ünit": None}
    names = ["noun", "verb", "ünique"]
    export_onnx(model, inputs, file, output="probs", class_names=names, recipe=recipe)
    session = onnxruntime.InferenceSession(file)
    assert [x.name for x in session.get_inputs()] == ["words", "weights"]
    assert [x.name for x in session.get_outputs()] == ["probs"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["noun", "verb", "ünique"]
    assert metadata["method"] == "plugin"
    assert json.loads(metadata["recipe"]) == recipe
    more = torch.randint(20, (9, 4)), 5.0 * torch.rand(9, 4)
    probs = run(file, *more)
    assert probs.shape == (9, 4, 3)
    assert (probs == 0.0).any()
    assert_close(probs, Predictor(model)(*more).detach().exp(), "onnx")


class Changed(nn.Module):
    """A head after something that no file can hold."""

    def __init__(self, change, head):
        super().__init__()
        self.change = change
        self.head = dropmax.make_head(head, 6, 5)

    def forward(self, features):
        return self.head(self.change(features))


def first_or_all(features):
    return features if len(features) == 2 else features * 1.0


REFUSED = {
    "dropout that stays": (lambda x: F.dropout(x, 0.5), {}, ValueError, "export_onnx: model"),
    "fixed batch": (first_or_all, {}, ValueError, "export_onnx: model"),
    "dtype of no runtime": (lambda x: x.bfloat16(), {}, ValueError, "export_onnx: model"),
    "another result": (nn.Identity(), {"atol": 1e-12}, ValueError, "export_onnx: probabilities"),
    "not a number": (lambda x: x * torch.nan, {}, ValueError, "export_onnx: probabilities"),
    "a recipe of no JSON": (
        nn.Identity(),
        {"recipe": {"mean": torch.zeros(3)}},
        ValueError,
        "export_onnx: recipe",
    ),
    "a recipe that is no number": (
        nn.Identity(),
        {"recipe": {"mean": float("nan")}},
        ValueError,
        "export_onnx: recipe",
    ),
    "too few nodes": (
        lambda x: 40.0 * x,
        {"method": "exact", "num_nodes": 16},
        ValueError,
        "export_onnx: num_nodes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_file_is_left_where_it_would_be_wrong(name, tmp_path):
    change, options, kind, where = REFUSED[name]
    model = Changed(change, "dropmax" if "method" in options else "softmax")
    if name == "dtype of no runtime":
        model.head.bfloat16()
    file = tmp_path / "model.onnx"
    file.write_text("an older file")
    with raises(kind, where):
        export_onnx(model, torch.randn(3, 6), file, **options)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "an older file"
    assert model.training


def test_what_does_not_fit_into_one_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "MAX_BYTES", 1_000_000)
    model = nn.Sequential(nn.Linear(1000, 250), dropmax.make_head("softmax", 250, 5))
    with raises(ValueError, "export_onnx: model"):
        export_onnx(model, torch.randn(2, 1000), tmp_path / "model.onnx")


@pytest.mark.parametrize("module", ["onnxruntime", "onnxscript"])
def test_a_missing_extra_is_named(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"no module {module}; pip install 'dropmax\[onnx\]'"):
        export_onnx(classifier(), torch.randn(3, 6), tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def digits():
    """A classifier that has learned from 100 digits, and 1,000 others."""
    torch.manual_seed(0)
    images = load_data("digits")
    splits = images.draw(train_per_class=10)
    backbone = make_backbone(None, images.shape)
    model = nn.Sequential(backbone, dropmax.make_head("dropmax", out_features(backbone), 10))
    criterion, pixels = dropmax.Criterion(model), splits.train.inputs / 255
    optimizer = torch.optim.Adam(dropmax.decay_groups(model, weight_decay=1e-4), lr=1e-3)
    for _ in range(150):
        optimizer.zero_grad()
        criterion(model(pixels), splits.train.target).backward()
        optimizer.step()
    others = torch.cat([images.test.inputs, images.train.inputs])[:1000] / 255
    return model, others


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"method": "exact"}, marks=pytest.mark.slow),
    ],
    ids=["plugin", "exact"],
)
def test_probabilities_of_1000_images_are_torchs(options, digits, tmp_path):
    """What the project promises: within 1e-5 at batch 1 and 64."""
    model, images = digits
    assert len(images) == 1000
    differences = export_onnx(model, images, tmp_path / "model.onnx", **options)
    print(options, differences)
    _, promised = TOLERANCES[torch.float32, "onnx"]
    assert set(differences) == {1, 64}
    assert 0.0 < max(differences.values()) <= promised


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="no C++ compiler for torch's AOTInductor",
)
@pytest.mark.parametrize(
    "options", [{}, {"method": "exact", "num_nodes": 48}], ids=["plugin", "exact"]
)
def test_a_predictor_is_compiled_ahead_of_time(options, tmp_path):
    model, features = classifier(), 3.0 * torch.randn(70, 6)
    predictor = Predictor(model, **options).eval()
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.export.export(predictor, (features[:2],), dynamic_shapes=(({0: batch},),))
        file = torch._inductor.aoti_compile_and_package(
            program, package_path=str(tmp_path / "model.pt2")
        )
        compiled = torch._inductor.aoti_load_package(file)
        for count in (1, 2, 64, 70):
            expected = predictor(features[:count])
            assert_close(compiled(features[:count]), expected, "compiled")

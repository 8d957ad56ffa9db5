"""Wrong input meets one clear sentence: function, argument, what it must be, what came, remedy."""

import pickle
import re
import sys

import pytest
import torch
from torch import nn
from variants import dropmax_objective

import dropmax
from dropmax import functional, predictive
from dropmax.errors import DropmaxError
from dropmax.functional import Label, ObjectiveOptions
from dropmax.heads import (
    ASSoftmaxHead,
    ComputedPosteriorHead,
    DropMaxHead,
    DropMaxTiedHead,
    MarginalHead,
    SampledSoftmaxHead,
    SoftmaxHead,
)
from dropmax.metrics import evaluate

pytestmark = pytest.mark.usefixtures("untyped")

LOGITS = torch.zeros(8, 10)
TARGET = torch.zeros(8, dtype=torch.long)
NOISE = torch.full((8, 10), 0.5)
FEATURES = torch.zeros(8, 6)
FORM = re.compile(r"^[A-Za-z_.]+: .+ must .+, got .+; .+[.?]$", re.DOTALL)


def head_loss(target=TARGET, **options):
    scores = dropmax.Scores(LOGITS, LOGITS, LOGITS)
    return dropmax.make_head("dropmax", 6, 10).loss(scores, target, **options)


def objective(logits=LOGITS, retain_logits=LOGITS, correction_logits=LOGITS, target=TARGET, **kw):
    return dropmax_objective(logits, retain_logits, correction_logits, target, **kw)


def head(**options):
    return DropMaxHead(6, 10, **options)


def set_weight(name, value, **options):
    module = head(**options)
    setattr(module, name, value)
    return module.loss(module(torch.zeros(8, 6)), TARGET)


def log_probs(**options):
    module = head()
    return module.log_probs(module(torch.zeros(8, 6)), **options)


def export(model=None, example=FEATURES, path="model.onnx", **options):
    return dropmax.export_onnx(model or head(), example, path, **options)


WRONG = {
    "integer one-hot target": (
        lambda: objective(target=torch.zeros(8, 10, dtype=torch.long)),
        ValueError,
        "dropmax_objective: target",
    ),
    "one-hot target of a posterior": (
        lambda: functional.analytic_correction(LOGITS, LOGITS, torch.zeros(8, 10)),
        ValueError,
        "analytic_correction: target",
    ),
    "float target": (
        lambda: objective(target=torch.zeros(8)),
        ValueError,
        "dropmax_objective: target",
    ),
    "classes first": (
        lambda: objective(target=torch.zeros(10, 8)),
        ValueError,
        "dropmax_objective: target",
    ),
    "negative probabilities": (
        lambda: objective(target=LOGITS - 1),
        ValueError,
        "dropmax_objective: target",
    ),
    "NaN probabilities": (
        lambda: objective(target=LOGITS * torch.nan),
        ValueError,
        "dropmax_objective: target",
    ),
    "weight of a class too many": (
        lambda: objective(weight=torch.ones(11)),
        ValueError,
        "dropmax_objective: weight",
    ),
    "negative class weight": (
        lambda: objective(weight=torch.linspace(-1, 1, 10)),
        ValueError,
        "dropmax_objective: weight",
    ),
    "list of weights": (
        lambda: objective(weight=[1.0] * 10),
        TypeError,
        "dropmax_objective: weight",
    ),
    "smoothing of the loss": (
        lambda: head_loss(label_smoothing=-0.1),
        ValueError,
        "DropMaxHead.loss: label_smoothing",
    ),
    "smoothing of the head": (
        lambda: dropmax.make_head("dropmax", 6, 10, label_smoothing=2),
        ValueError,
        "make_head: label_smoothing",
    ),
    "sample weights of the classes": (
        lambda: head_loss(sample_weight=torch.ones(10)),
        ValueError,
        "DropMaxHead.loss: sample_weight",
    ),
    "infinite sample weight": (
        lambda: head_loss(sample_weight=torch.full((8,), torch.inf)),
        ValueError,
        "DropMaxHead.loss: sample_weight",
    ),
    "class weight in the loss": (
        lambda: head_loss(weight=torch.ones(9)),
        ValueError,
        "DropMaxHead.loss: weight",
    ),
    "ignore_index and probabilities": (
        lambda: head_loss(target=torch.ones(8, 10), ignore_index=3),
        ValueError,
        "DropMaxHead.loss: ignore_index",
    ),
    "target of the loss": (
        lambda: head_loss(target=torch.full((8,), 10)),
        ValueError,
        "DropMaxHead.loss: target",
    ),
    "float indices in the loss": (
        lambda: head_loss(target=torch.zeros(8)),
        ValueError,
        "DropMaxHead.loss: target",
    ),
    "ignore_index": (
        lambda: head_loss(ignore_index="first"),
        TypeError,
        "DropMaxHead.loss: ignore_index",
    ),
    "weight of the criterion": (
        lambda: dropmax.Criterion(dropmax.make_head("dropmax", 6, 10), weight=[1.0] * 10),
        TypeError,
        "Criterion: weight",
    ),
    "ignore_index of the criterion": (
        lambda: dropmax.Criterion(dropmax.make_head("dropmax", 6, 10), ignore_index=None),
        TypeError,
        "Criterion: ignore_index",
    ),
    "device of a converted layer": (
        lambda: dropmax.convert(nn.Sequential(nn.Linear(6, 10)), device="cpu"),
        ValueError,
        "convert: device",
    ),
    "reduction of the criterion": (
        lambda: dropmax.Criterion(dropmax.make_head("dropmax", 6, 10), reduction="avg"),
        ValueError,
        "Criterion: reduction",
    ),
    "smoothing of the criterion": (
        lambda: dropmax.Criterion(dropmax.make_head("dropmax", 6, 10), label_smoothing=True),
        TypeError,
        "Criterion: label_smoothing",
    ),
    "bool target": (
        lambda: objective(target=TARGET.bool()),
        ValueError,
        "dropmax_objective: target",
    ),
    "short target": (lambda: objective(target=TARGET[:7]), ValueError, "dropmax_objective: target"),
    "target on another device": (
        lambda: objective(target=TARGET.to("meta")),
        ValueError,
        "dropmax_objective: target",
    ),
    "target too large": (
        lambda: objective(target=TARGET + 10),
        ValueError,
        "dropmax_objective: target",
    ),
    "negative target": (
        lambda: objective(target=TARGET - 1),
        ValueError,
        "dropmax_objective: target",
    ),
    "list target": (
        lambda: functional.softmax_loss(LOGITS, [0] * 8),
        TypeError,
        "softmax_loss: target",
    ),
    "integer logits": (
        lambda: functional.softmax_loss(LOGITS.long(), TARGET),
        ValueError,
        "softmax_loss: logits",
    ),
    "scalar logits": (
        lambda: functional.sparsemax(torch.tensor(1.0)),
        ValueError,
        "sparsemax: logits",
    ),
    "no classes": (
        lambda: functional.sparsemax(torch.zeros(3, 0)),
        ValueError,
        "sparsemax: logits",
    ),
    "retain shape": (
        lambda: objective(retain_logits=LOGITS[:, :9]),
        ValueError,
        "dropmax_objective: retain_logits",
    ),
    "retain dtype": (
        lambda: objective(retain_logits=LOGITS.double()),
        ValueError,
        "dropmax_objective: retain_logits",
    ),
    "no retain": (lambda: predictive.plugin(LOGITS, None), TypeError, "plugin: retain_logits"),
    "correction shape": (
        lambda: objective(correction_logits=LOGITS[0]),
        ValueError,
        "dropmax_objective: correction_logits",
    ),
    "temperature 0": (
        lambda: objective(temperature=0.0),
        ValueError,
        "ObjectiveOptions: temperature",
    ),
    "temperature nan": (
        lambda: objective(temperature=float("nan")),
        ValueError,
        "ObjectiveOptions: temperature",
    ),
    "temperature text": (
        lambda: objective(temperature="hot"),
        TypeError,
        "ObjectiveOptions: temperature",
    ),
    "floor 1": (lambda: objective(floor=1.0), ValueError, "ObjectiveOptions: floor"),
    "floor negative": (
        lambda: predictive.plugin(LOGITS, LOGITS, floor=-1e-3),
        ValueError,
        "plugin: floor",
    ),
    "aux_prior": (
        lambda: objective(aux_prior="base-rate"),
        ValueError,
        "ObjectiveOptions: aux_prior",
    ),
    "aux_prior of 1": (
        lambda: objective(aux_prior=1.0),
        ValueError,
        "ObjectiveOptions: aux_prior",
    ),
    "aux_prior without correction": (
        lambda: objective(correction_logits=None, aux_prior="base_rate"),
        ValueError,
        "dropmax_objective: aux_prior",
    ),
    "aux_prior of a given posterior": (
        lambda: functional.posterior_objective(
            LOGITS, LOGITS, LOGITS, TARGET, options=ObjectiveOptions(aux_prior=0.2)
        ),
        ValueError,
        "posterior_objective: aux_prior",
    ),
    "a label's weight beside it": (
        lambda: functional.softmax_loss(LOGITS, Label(TARGET), weight=torch.ones(10)),
        ValueError,
        "softmax_loss: weight",
    ),
    "a label's smoothing beside it": (
        lambda: objective(target=Label(TARGET), label_smoothing=0.1),
        ValueError,
        "dropmax_objective: label_smoothing",
    ),
    "num_samples 0": (
        lambda: objective(num_samples=0),
        ValueError,
        "ObjectiveOptions: num_samples",
    ),
    "num_samples float": (
        lambda: objective(num_samples=2.0),
        TypeError,
        "ObjectiveOptions: num_samples",
    ),
    "num_samples bool": (
        lambda: objective(num_samples=True),
        TypeError,
        "ObjectiveOptions: num_samples",
    ),
    "noise shape": (lambda: objective(noise=NOISE[0]), ValueError, "dropmax_objective: noise"),
    "noise without samples": (
        lambda: objective(noise=NOISE, num_samples=2),
        ValueError,
        "dropmax_objective: noise",
    ),
    "half noise": (lambda: objective(noise=NOISE.half()), ValueError, "dropmax_objective: noise"),
    "noise at 0": (lambda: objective(noise=NOISE * 0), ValueError, "dropmax_objective: noise"),
    "noise at 1": (lambda: objective(noise=NOISE * 2), ValueError, "dropmax_objective: noise"),
    "noise nan": (
        lambda: objective(noise=NOISE * float("nan")),
        ValueError,
        "dropmax_objective: noise",
    ),
    "noise and generator": (
        lambda: objective(noise=NOISE, generator=torch.Generator()),
        ValueError,
        "dropmax_objective: generator",
    ),
    "label_smoothing": (
        lambda: functional.softmax_loss(LOGITS, TARGET, label_smoothing=1.5),
        ValueError,
        "softmax_loss: label_smoothing",
    ),
    "sampled_share": (
        lambda: functional.sampled_softmax_loss(LOGITS, TARGET, sampled_share=0.0),
        ValueError,
        "sampled_softmax_loss: sampled_share",
    ),
    "proposal shape": (
        lambda: functional.sampled_softmax_loss(LOGITS, TARGET, log_proposal=LOGITS),
        ValueError,
        "sampled_softmax_loss: log_proposal",
    ),
    "proposal without support": (
        lambda: SampledSoftmaxHead(6, 2, log_proposal=torch.tensor([0.0, 1.0]).log()),
        ValueError,
        "SampledSoftmaxHead: log_proposal",
    ),
    "retain_prob": (
        lambda: functional.class_dropout_loss(LOGITS, TARGET, retain_prob=0),
        ValueError,
        "class_dropout_loss: retain_prob",
    ),
    "delta": (
        lambda: functional.as_softmax_loss(LOGITS, TARGET, delta=0.0),
        ValueError,
        "as_softmax_loss: delta",
    ),
    "delta of a head": (
        lambda: ASSoftmaxHead(6, 10, delta=1.5),
        ValueError,
        "ASSoftmaxHead: delta",
    ),
    "floor of the label's objective": (
        lambda: functional.label_objective(LOGITS, LOGITS, TARGET, floor=1.0),
        ValueError,
        "label_objective: floor",
    ),
    "weight of a smaller machine": (
        lambda: DropMaxTiedHead(6, 10, kl_weight=-1.0),
        ValueError,
        "DropMaxTiedHead: kl_weight",
    ),
    "gate of low rank without a map": (
        lambda: DropMaxTiedHead(6, 10, gate_rank=2),
        ValueError,
        "DropMaxTiedHead: an option",
    ),
    "monte_carlo samples": (
        lambda: predictive.monte_carlo(LOGITS, LOGITS, num_samples=0),
        ValueError,
        "monte_carlo: num_samples",
    ),
    "in_features": (lambda: DropMaxHead(0, 10), ValueError, "DropMaxHead: in_features"),
    "no gate_rank": (
        lambda: DropMaxHead(16, 10, gate_rank=0),
        ValueError,
        "DropMaxHead: gate_rank",
    ),
    "gate_rank above the features": (
        lambda: DropMaxHead(16, 10, gate_rank=17),
        ValueError,
        "DropMaxHead: gate_rank",
    ),
    "num_classes": (lambda: DropMaxHead(6, 2.5), TypeError, "DropMaxHead: num_classes"),
    "bias": (lambda: head(bias="yes"), TypeError, "DropMaxHead: bias"),
    "posterior": (lambda: head(posterior="learnt"), ValueError, "DropMaxHead: posterior"),
    "weight of an absent term": (
        lambda: head(posterior="prior", aux_weight=0.5),
        ValueError,
        "DropMaxHead: aux_weight",
    ),
    "aux_prior of an absent term": (
        lambda: head(posterior="prior", aux_prior="base_rate"),
        ValueError,
        "DropMaxHead: aux_prior",
    ),
    "aux_weight of a posterior in closed form": (
        lambda: ComputedPosteriorHead(6, 10, aux_weight=0.5),
        ValueError,
        "ComputedPosteriorHead: aux_weight",
    ),
    "an option of another head": (
        lambda: MarginalHead(6, 10, temperature=0.5),
        ValueError,
        "MarginalHead: an option",
    ),
    "a weight of the marginal likelihood": (
        lambda: MarginalHead(6, 10, entropy_weight=-0.5),
        ValueError,
        "MarginalHead: entropy_weight",
    ),
    "preset": (lambda: head(preset="papers"), ValueError, "DropMaxHead: preset"),
    "masks": (lambda: head(masks="hard"), ValueError, "DropMaxHead: masks"),
    "temperature of mean masks": (
        lambda: head(masks="mean", temperature=0.5),
        ValueError,
        "DropMaxHead: temperature",
    ),
    "plugin_share 1": (
        lambda: head(plugin_share=1.0),
        ValueError,
        "DropMaxHead: plugin_share",
    ),
    "plugin_focus below 0": (
        lambda: head(plugin_focus=-1.0),
        ValueError,
        "DropMaxHead: plugin_focus",
    ),
    "straight-through masks of a smoothed label": (
        lambda: objective(masks="straight_through", label_smoothing=0.1),
        ValueError,
        "dropmax_objective: masks",
    ),
    "nodes that nothing reads": (
        lambda: ComputedPosteriorHead(6, 10, posterior="analytic", num_nodes=50),
        ValueError,
        "ComputedPosteriorHead: num_nodes",
    ),
    "zero nodes": (
        lambda: ComputedPosteriorHead(6, 10, num_nodes=0),
        ValueError,
        "ComputedPosteriorHead: num_nodes",
    ),
    "nodes of the plug-in": (
        lambda: head().log_probs(head()(torch.zeros(8, 6)), num_nodes=50),
        ValueError,
        "DropMaxHead.log_probs: num_nodes",
    ),
    "samples of the exact predictive": (
        lambda: head().log_probs(head()(torch.zeros(8, 6)), method="exact", num_samples=3),
        ValueError,
        "DropMaxHead.log_probs: num_samples",
    ),
    "tolerance": (
        lambda: predictive.exact(LOGITS, LOGITS, tolerance=0.0),
        ValueError,
        "exact: tolerance",
    ),
    "logits far apart": (
        lambda: predictive.exact(1e5 * torch.arange(10.0), LOGITS[0]),
        ValueError,
        "exact: logits",
    ),
    "posterior of another shape": (
        lambda: functional.posterior_objective(LOGITS, LOGITS, LOGITS[:1], TARGET),
        ValueError,
        "posterior_objective: posterior_logits",
    ),
    "target of the mask posterior": (
        lambda: predictive.mask_posterior(LOGITS, LOGITS, TARGET + 100),
        ValueError,
        "mask_posterior: target",
    ),
    "gap without a gate": (
        lambda: dropmax.analysis.variational_gap(dropmax.Scores(LOGITS), TARGET),
        ValueError,
        "variational_gap: scores.retain_logits",
    ),
    "negative weight": (lambda: head(kl_weight=-1.0), ValueError, "DropMaxHead: kl_weight"),
    "scheduled weight": (
        lambda: set_weight("entropy_weight", float("nan")),
        ValueError,
        "ObjectiveOptions: entropy_weight",
    ),
    "scheduled weight of an absent term": (
        lambda: set_weight("aux_weight", 1.0, posterior="prior"),
        ValueError,
        "dropmax: aux_weight",
    ),
    "scheduled temperature": (
        lambda: set_weight("temperature", -1.0),
        ValueError,
        "ObjectiveOptions: temperature",
    ),
    "retain_bias_init without bias": (
        lambda: head(bias=False, retain_bias_init=2.0),
        ValueError,
        "DropMaxHead: retain_bias_init",
    ),
    "features width": (
        lambda: head()(torch.zeros(8, 5)),
        ValueError,
        "DropMaxHead.forward: features",
    ),
    "features dtype": (
        lambda: head()(torch.zeros(8, 6).double()),
        ValueError,
        "DropMaxHead.forward: features",
    ),
    "scores are a tensor": (
        lambda: head().loss(LOGITS, TARGET),
        TypeError,
        "DropMaxHead.loss: scores",
    ),
    "scores without gate": (
        lambda: head().loss(dropmax.Scores(LOGITS), TARGET),
        ValueError,
        "DropMaxHead.loss: scores.retain_logits",
    ),
    "scores of another head": (
        lambda: head().log_probs(DropMaxHead(6, 9)(torch.zeros(8, 6))),
        ValueError,
        "DropMaxHead.log_probs: scores",
    ),
    "reduction": (
        lambda: head().loss(head()(torch.zeros(8, 6)), TARGET, reduction="avg"),
        ValueError,
        "DropMaxHead.loss: reduction",
    ),
    "method": (lambda: log_probs(method="montecarlo"), ValueError, "DropMaxHead.log_probs: method"),
    "monte_carlo without samples": (
        lambda: log_probs(method="monte_carlo"),
        ValueError,
        "DropMaxHead.log_probs: num_samples",
    ),
    "plugin with samples": (
        lambda: log_probs(num_samples=3),
        ValueError,
        "DropMaxHead.log_probs: num_samples",
    ),
    "monte_carlo of softmax": (
        lambda: dropmax.make_head("softmax", 6, 10).log_probs(
            dropmax.Scores(LOGITS), method="monte_carlo", num_samples=3
        ),
        ValueError,
        "SoftmaxHead.log_probs: method",
    ),
    "head name": (
        lambda: dropmax.make_head("drop-max", 6, 10),
        ValueError,
        "make_head: name",
    ),
    "head name is no text": (lambda: dropmax.make_head(3, 6, 10), TypeError, "make_head: name"),
    "unknown option": (
        lambda: dropmax.make_head("softmax:smoothing=0.1", 6, 10),
        ValueError,
        "make_head: an option of softmax",
    ),
    "option of another head": (
        lambda: dropmax.make_head("softmax", 6, 10, kl_weight=1.0),
        ValueError,
        "make_head: an option of softmax",
    ),
    "fixed option": (
        lambda: dropmax.make_head("dropmax_prior:posterior=learned", 6, 10),
        ValueError,
        "make_head: an option of dropmax_prior",
    ),
    "option without value": (
        lambda: dropmax.make_head("softmax:label_smoothing", 6, 10),
        ValueError,
        "make_head: name",
    ),
    "option twice": (
        lambda: dropmax.make_head("softmax:label_smoothing=0,label_smoothing=1", 6, 10),
        ValueError,
        "make_head: name",
    ),
    "option in text and call": (
        lambda: dropmax.make_head("softmax:label_smoothing=0.1", 6, 10, label_smoothing=0.1),
        ValueError,
        "make_head: label_smoothing",
    ),
    "option value": (
        lambda: dropmax.make_head("softmax:label_smoothing=much", 6, 10),
        TypeError,
        "make_head: label_smoothing",
    ),
    "no head": (lambda: dropmax.find_head(nn.Linear(3, 4)), ValueError, "find_head: model"),
    "two heads": (
        lambda: dropmax.Criterion(nn.Sequential(head(), head())),
        ValueError,
        "Criterion: model",
    ),
    "no module": (lambda: dropmax.find_head("model"), TypeError, "find_head: model"),
    "criterion on logits": (
        lambda: dropmax.Criterion(head())(LOGITS, TARGET),
        TypeError,
        "Criterion.forward: scores",
    ),
    "export by samples": (
        lambda: export(method="monte_carlo"),
        ValueError,
        "export_onnx: method",
    ),
    "export of a head without masks": (
        lambda: export(dropmax.make_head("softmax", 6, 10), method="exact"),
        ValueError,
        "export_onnx: method",
    ),
    "export of no head": (lambda: export(nn.Linear(6, 10)), ValueError, "export_onnx: model"),
    "exported output": (
        lambda: export(output="prob"),
        ValueError,
        "export_onnx: output",
    ),
    "nodes of an exported plug-in": (
        lambda: export(num_nodes=64),
        ValueError,
        "export_onnx: num_nodes",
    ),
    "example of no rows": (
        lambda: export(example=torch.zeros(0, 6)),
        ValueError,
        "export_onnx: example",
    ),
    "examples of two numbers": (
        lambda: export(example=(torch.zeros(2, 6), torch.zeros(3, 6))),
        ValueError,
        "export_onnx: example",
    ),
    "example is a list": (lambda: export(example=[[0.0] * 6]), TypeError, "export_onnx: example"),
    "too few class names": (
        lambda: export(class_names=["cat", "dog"]),
        ValueError,
        "export_onnx: class_names",
    ),
    "exported into nowhere": (
        lambda: export(path="nowhere/model.onnx"),
        FileNotFoundError,
        "export_onnx: path",
    ),
    "exported into a folder": (lambda: export(path="."), ValueError, "export_onnx: path"),
    "no tolerance of an export": (lambda: export(atol=0.0), ValueError, "export_onnx: atol"),
    "decay": (lambda: dropmax.decay_groups(head(), -0.1), ValueError, "decay_groups: weight_decay"),
    "decay of no module": (lambda: dropmax.decay_groups([], 0.1), TypeError, "decay_groups: model"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name):
    call, kind, who = WRONG[name]
    with pytest.raises(kind) as raised:
        call()
    assert isinstance(raised.value, DropmaxError)
    message = str(raised.value)
    assert message.startswith(f"{who} must ")
    assert FORM.match(message), message


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: objective(aux_prior="base-rate"), "base_rate"),
        (lambda: dropmax.make_head("drop-max", 6, 10), "dropmax"),
        (lambda: dropmax.make_head("softmax:smoothing=0.1", 6, 10), "label_smoothing"),
        (lambda: log_probs(method="montecarlo"), "monte_carlo"),
    ],
)
def test_a_near_miss_is_named(call, meant):
    with pytest.raises(ValueError) as raised:
        call()
    assert str(raised.value).endswith(f"{meant!r}?")


def test_an_error_is_of_the_function_that_was_given_the_value():
    """One check, reached through four functions, each of which hands the value on."""
    module = head()
    scores, far = module(FEATURES), TARGET + 99
    calls = {
        "softmax_loss": lambda: functional.softmax_loss(LOGITS, far),
        "DropMaxHead.loss": lambda: module.loss(scores, far),
        "DropMaxHead.raw_loss": lambda: module.raw_loss(scores, far),
        "Criterion.forward": lambda: dropmax.Criterion(module)(scores, far),
    }
    for function, call in calls.items():
        with pytest.raises(ValueError) as raised:
            call()
        assert str(raised.value).startswith(f"{function}: target must ")


class OfSomebodyElse(SoftmaxHead):
    pass


def test_an_error_names_the_class_that_somebody_made_of_ours():
    with pytest.raises(ValueError) as raised:
        OfSomebodyElse(6, 10)(torch.zeros(8, 5))
    assert str(raised.value).startswith("OfSomebodyElse.forward: features must ")


def test_an_error_goes_between_processes_whole():
    with pytest.raises(DropmaxError) as raised:
        dropmax.make_head("drop-max", 6, 10)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), str(again)) == (type(raised.value), str(raised.value))


def test_a_missing_extra_is_named_and_is_an_import_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.classification", None)
    with pytest.raises(ImportError) as raised:
        evaluate(LOGITS.log_softmax(-1), TARGET)
    assert isinstance(raised.value, DropmaxError)
    assert "dropmax[train]" in str(raised.value)


def test_autocast_features_may_differ_in_dtype():
    with torch.autocast("cpu", torch.bfloat16):
        assert head()(torch.zeros(2, 6, dtype=torch.bfloat16)).logits.dtype == torch.bfloat16


def test_integer_targets_of_any_width_are_taken():
    for dtype in (torch.uint8, torch.int32):
        assert objective(target=TARGET.to(dtype)).total.shape == (8,)

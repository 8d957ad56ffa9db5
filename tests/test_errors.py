"""Wrong input meets one clear sentence: function, argument, what it must be, what came, remedy."""

import re

import pytest
import torch
from torch import nn

import dropmax
from dropmax import functional, predictive
from dropmax.heads import DropMaxHead, SampledSoftmaxHead

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
    return functional.dropmax_objective(logits, retain_logits, correction_logits, target, **kw)


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
        "dropmax_objective: target must be integer class indices [8] on cpu to match logits "
        "[8, 10], got int64[8, 10] on cpu; pass indices, or floating-point class probabilities "
        "[*, K].",
    ),
    "one-hot target of a posterior": (
        lambda: functional.analytic_correction(LOGITS, LOGITS, torch.zeros(8, 10)),
        "analytic_correction: target must be integer class indices [8] on cpu to match logits "
        "[8, 10], got float32[8, 10] on cpu; pass indices, not one-hot rows.",
    ),
    "float target": (
        lambda: objective(target=torch.zeros(8)),
        "target must be class probabilities [8, 10] on cpu like logits, or integer class indices "
        "[8], got float32[8] on cpu; pass one of the two, classes last.",
    ),
    "classes first": (
        lambda: objective(target=torch.zeros(10, 8)),
        "got float32[10, 8] on cpu; pass one of the two, classes last.",
    ),
    "negative probabilities": (
        lambda: objective(target=LOGITS - 1),
        "target must be finite and at least 0, got values from",
    ),
    "NaN probabilities": (lambda: objective(target=LOGITS * torch.nan), "got values from nan"),
    "weight of a class too many": (
        lambda: objective(weight=torch.ones(11)),
        "dropmax_objective: weight must be floating-point [10] on cpu, got float32[11] on cpu; "
        "pass one weight a class.",
    ),
    "negative class weight": (
        lambda: objective(weight=torch.linspace(-1, 1, 10)),
        "weight must be finite and at least 0, got values from -1 to 1",
    ),
    "list of weights": (lambda: objective(weight=[1.0] * 10), "weight must be floating-point"),
    "smoothing of the loss": (
        lambda: head_loss(label_smoothing=-0.1),
        "label_smoothing must be a number in [0, 1], got -0.1",
    ),
    "smoothing of the head": (
        lambda: dropmax.make_head("dropmax", 6, 10, label_smoothing=2),
        "DropMaxHead: label_smoothing must be a number in [0, 1], got 2",
    ),
    "sample weights of the classes": (
        lambda: head_loss(sample_weight=torch.ones(10)),
        "DropMaxHead.loss: sample_weight must be floating-point [8] on cpu, got float32[10]",
    ),
    "infinite sample weight": (
        lambda: head_loss(sample_weight=torch.full((8,), torch.inf)),
        "sample_weight must be finite and at least 0, got values from inf to inf",
    ),
    "class weight in the loss": (
        lambda: head_loss(weight=torch.ones(9)),
        "DropMaxHead.loss: weight must be floating-point [10] on cpu, got float32[9]",
    ),
    "ignore_index and probabilities": (
        lambda: head_loss(target=torch.ones(8, 10), ignore_index=3),
        "DropMaxHead.loss: ignore_index must be -100 where target holds class probabilities",
    ),
    "target of the loss": (
        lambda: head_loss(target=torch.full((8,), 10)),
        "DropMaxHead.loss: target must lie in 0 ... 9, got values from 10 to 10",
    ),
    "float indices in the loss": (
        lambda: head_loss(target=torch.zeros(8)),
        "target must be class probabilities [8, 10] on cpu like logits",
    ),
    "ignore_index": (
        lambda: head_loss(ignore_index="first"),
        "DropMaxHead.loss: ignore_index must be an integer, got 'first'; pass a whole number.",
    ),
    "weight of the criterion": (
        lambda: dropmax.Criterion(dropmax.make_head("dropmax", 6, 10), weight=[1.0] * 10),
        "Criterion: weight must be floating-point [10]",
    ),
    "ignore_index of the criterion": (
        lambda: dropmax.Criterion(dropmax.make_head("dropmax", 6, 10), ignore_index=None),
        "Criterion: ignore_index must be an integer, got None",
    ),
    "device of a converted layer": (
        lambda: dropmax.convert(nn.Sequential(nn.Linear(6, 10)), device="cpu"),
        "convert: device must be None as it is the linear layer's, got 'cpu'; leave it out.",
    ),
    "reduction of the criterion": (
        lambda: dropmax.Criterion(dropmax.make_head("dropmax", 6, 10), reduction="avg"),
        "Criterion: reduction must be one of none, mean, sum, got 'avg'",
    ),
    "smoothing of the criterion": (
        lambda: dropmax.Criterion(dropmax.make_head("dropmax", 6, 10), label_smoothing=True),
        "Criterion: label_smoothing must be a number in [0, 1], got True",
    ),
    "bool target": (lambda: objective(target=TARGET.bool()), "target must be integer"),
    "short target": (lambda: objective(target=TARGET[:7]), "got int64[7]"),
    "target on another device": (lambda: objective(target=TARGET.to("meta")), "on meta"),
    "target too large": (
        lambda: objective(target=TARGET + 10),
        "target must lie in 0 ... 9, got values from 10 to 10",
    ),
    "negative target": (lambda: objective(target=TARGET - 1), "got values from -1 to -1"),
    "list target": (lambda: functional.softmax_loss(LOGITS, [0] * 8), "target must be integer"),
    "integer logits": (
        lambda: functional.softmax_loss(LOGITS.long(), TARGET),
        "logits must be a floating-point tensor",
    ),
    "scalar logits": (lambda: functional.sparsemax(torch.tensor(1.0)), "K >= 1 classes"),
    "no classes": (lambda: functional.sparsemax(torch.zeros(3, 0)), "K >= 1 classes"),
    "retain shape": (
        lambda: objective(retain_logits=LOGITS[:, :9]),
        "retain_logits must match logits, float32[8, 10] on cpu, got float32[8, 9] on cpu",
    ),
    "retain dtype": (lambda: objective(retain_logits=LOGITS.double()), "got float64[8, 10]"),
    "no retain": (lambda: predictive.plugin(LOGITS, None), "retain_logits must match logits"),
    "correction shape": (lambda: objective(correction_logits=LOGITS[0]), "correction_logits"),
    "temperature 0": (lambda: objective(temperature=0.0), "temperature must be a number in (0"),
    "temperature nan": (lambda: objective(temperature=float("nan")), "temperature must be"),
    "temperature text": (lambda: objective(temperature="hot"), "temperature must be"),
    "floor 1": (lambda: objective(floor=1.0), "floor must be a number in [0, 1)"),
    "floor negative": (lambda: predictive.plugin(LOGITS, LOGITS, floor=-1e-3), "floor must be"),
    "aux_prior": (lambda: objective(aux_prior="base-rate"), "did you mean 'base_rate'?"),
    "aux_prior of 1": (lambda: objective(aux_prior=1.0), "aux_prior must be a number in (0, 1)"),
    "aux_prior without correction": (
        lambda: objective(correction_logits=None, aux_prior="base_rate"),
        "aux_prior must stay 'label'",
    ),
    "num_samples 0": (lambda: objective(num_samples=0), "num_samples must be an integer"),
    "num_samples float": (lambda: objective(num_samples=2.0), "num_samples must be an integer"),
    "num_samples bool": (lambda: objective(num_samples=True), "num_samples must be an integer"),
    "noise shape": (lambda: objective(noise=NOISE[0]), "noise must be float32 or float64"),
    "noise without samples": (
        lambda: objective(noise=NOISE, num_samples=2),
        "uniforms [2, 8, 10] on cpu, got float32[8, 10]",
    ),
    "half noise": (lambda: objective(noise=NOISE.half()), "got float16[8, 10]"),
    "noise at 0": (lambda: objective(noise=NOISE * 0), "lie strictly between 0 and 1"),
    "noise at 1": (lambda: objective(noise=NOISE * 2), "got values from 1 to 1"),
    "noise nan": (lambda: objective(noise=NOISE * float("nan")), "strictly between"),
    "noise and generator": (
        lambda: objective(noise=NOISE, generator=torch.Generator()),
        "generator must be None where noise is given",
    ),
    "label_smoothing": (
        lambda: functional.softmax_loss(LOGITS, TARGET, label_smoothing=1.5),
        "label_smoothing must be a number in [0, 1]",
    ),
    "num_sampled": (
        lambda: functional.sampled_softmax_loss(LOGITS, TARGET, num_sampled=0.0),
        "num_sampled must be a number in (0, 1]",
    ),
    "proposal shape": (
        lambda: functional.sampled_softmax_loss(LOGITS, TARGET, log_proposal=LOGITS),
        "log_proposal must be floating-point [10]",
    ),
    "proposal without support": (
        lambda: SampledSoftmaxHead(6, 2, log_proposal=torch.tensor([0.0, 1.0]).log()),
        "log_proposal must be finite",
    ),
    "retain_prob": (
        lambda: functional.class_dropout_loss(LOGITS, TARGET, retain_prob=0),
        "retain_prob must be a number in (0, 1]",
    ),
    "monte_carlo samples": (
        lambda: predictive.monte_carlo(LOGITS, LOGITS, num_samples=0),
        "monte_carlo: num_samples",
    ),
    "in_features": (lambda: DropMaxHead(0, 10), "in_features must be an integer of at least 1"),
    "no gate_rank": (
        lambda: DropMaxHead(16, 10, gate_rank=0),
        "gate_rank must be an integer of at least 1",
    ),
    "gate_rank above the features": (
        lambda: DropMaxHead(16, 10, gate_rank=17),
        "gate_rank must be at most in_features, 16, got 17; leave it out for full rank",
    ),
    "num_classes": (lambda: DropMaxHead(6, 2.5), "num_classes must be an integer"),
    "bias": (lambda: head(bias="yes"), "bias must be True or False"),
    "posterior": (lambda: head(posterior="learnt"), "did you mean 'learned'?"),
    "weight of an absent term": (
        lambda: head(posterior="prior", aux_weight=0.5),
        "aux_weight must be None where posterior is 'prior', got 0.5",
    ),
    "aux_prior of an absent term": (
        lambda: head(posterior="prior", aux_prior="base_rate"),
        "aux_prior must be None where posterior is 'prior'",
    ),
    "aux_weight of a posterior in closed form": (
        lambda: head(posterior="exact", aux_weight=0.5),
        "aux_weight must be None where posterior is 'exact', got 0.5",
    ),
    "objective": (lambda: head(objective="marginals"), "did you mean 'marginal'?"),
    "posterior of the marginal objective": (
        lambda: head(objective="marginal", posterior="exact"),
        "posterior must be None where objective is 'marginal'",
    ),
    "kl_weight of the marginal objective": (
        lambda: head(objective="marginal", kl_weight=1.0),
        "kl_weight must be None where objective is 'marginal'",
    ),
    "temperature of the marginal objective": (
        lambda: head(objective="marginal", temperature=0.5),
        "temperature must be None where objective is 'marginal'",
    ),
    "scheduled kl_weight of the marginal objective": (
        lambda: set_weight("kl_weight", 1.0, objective="marginal"),
        "DropMaxHead.loss: kl_weight must be None",
    ),
    "preset": (lambda: head(preset="papers"), "preset must be one of default, paper, got 'papers'"),
    "masks": (lambda: head(masks="hard"), "masks must be one of relaxed, straight_through, mean"),
    "temperature of mean masks": (
        lambda: head(masks="mean", temperature=0.5),
        "temperature must be None where masks is 'mean'",
    ),
    "plugin_share 1": (
        lambda: head(plugin_share=1.0),
        "plugin_share must be a number in [0, 1)",
    ),
    "plugin_focus below 0": (lambda: head(plugin_focus=-1.0), "plugin_focus must be a number in"),
    "straight-through masks of a smoothed label": (
        lambda: objective(masks="straight_through", label_smoothing=0.1),
        "masks must not be 'straight_through' where the label is not one class",
    ),
    "nodes that nothing reads": (
        lambda: head(num_nodes=50),
        "num_nodes must be None where training integrates nothing",
    ),
    "zero nodes": (lambda: head(posterior="exact", num_nodes=0), "num_nodes must be an integer"),
    "nodes of the plug-in": (
        lambda: head().log_probs(head()(torch.zeros(8, 6)), num_nodes=50),
        "num_nodes must be None for method 'plugin'",
    ),
    "samples of the exact predictive": (
        lambda: head().log_probs(head()(torch.zeros(8, 6)), method="exact", num_samples=3),
        "num_samples must be None for method 'exact'",
    ),
    "tolerance": (
        lambda: predictive.exact(LOGITS, LOGITS, tolerance=0.0),
        "exact: tolerance must be a number in (1e-15, 0.5)",
    ),
    "logits far apart": (
        lambda: predictive.exact(1e5 * torch.arange(10.0), LOGITS[0]),
        "exact: logits must be so close together that 10000 nodes are enough",
    ),
    "posterior of another shape": (
        lambda: functional.posterior_objective(LOGITS, LOGITS, LOGITS[:1], TARGET),
        "posterior_objective: posterior_logits must match logits",
    ),
    "target of the mask posterior": (
        lambda: predictive.mask_posterior(LOGITS, LOGITS, TARGET + 100),
        "mask_posterior: target must lie in 0 ... 9",
    ),
    "gap without a gate": (
        lambda: dropmax.analysis.variational_gap(dropmax.Scores(LOGITS), TARGET),
        "variational_gap: scores.retain_logits must be given",
    ),
    "negative weight": (lambda: head(kl_weight=-1.0), "kl_weight must be a number in [0"),
    "scheduled weight": (lambda: set_weight("entropy_weight", float("nan")), "entropy_weight"),
    "scheduled weight of an absent term": (
        lambda: set_weight("aux_weight", 1.0, posterior="prior"),
        "DropMaxHead.loss: aux_weight must be None",
    ),
    "scheduled temperature": (lambda: set_weight("temperature", -1.0), "temperature must be"),
    "retain_bias_init without bias": (
        lambda: head(bias=False, retain_bias_init=2.0),
        "retain_bias_init must be 0 where bias is False",
    ),
    "features width": (
        lambda: head()(torch.zeros(8, 5)),
        "DropMaxHead.forward: features must be float32[*, 6] on cpu, got float32[8, 5] on cpu",
    ),
    "features dtype": (lambda: head()(torch.zeros(8, 6).double()), "got float64[8, 6]"),
    "scores are a tensor": (lambda: head().loss(LOGITS, TARGET), "scores must be Scores"),
    "scores without gate": (
        lambda: head().loss(dropmax.Scores(LOGITS), TARGET),
        "scores.retain_logits must be given",
    ),
    "scores of another head": (
        lambda: head().log_probs(DropMaxHead(6, 9)(torch.zeros(8, 6))),
        "scores must have 10 classes",
    ),
    "reduction": (
        lambda: head().loss(head()(torch.zeros(8, 6)), TARGET, reduction="avg"),
        "reduction must be one of none, mean, sum",
    ),
    "method": (lambda: log_probs(method="montecarlo"), "did you mean 'monte_carlo'?"),
    "monte_carlo without samples": (
        lambda: log_probs(method="monte_carlo"),
        "num_samples must be given",
    ),
    "plugin with samples": (
        lambda: log_probs(num_samples=3),
        "num_samples must be None for method 'plugin'",
    ),
    "monte_carlo of softmax": (
        lambda: dropmax.make_head("softmax", 6, 10).log_probs(
            dropmax.Scores(LOGITS), method="monte_carlo", num_samples=3
        ),
        "method must be one of plugin",
    ),
    "head name": (
        lambda: dropmax.make_head("drop-max", 6, 10),
        "make_head: name must be one of softmax, sparsemax, sampled_softmax, class_dropout, "
        "attention, dropmax_prior, dropmax, got 'drop-max'; did you mean 'dropmax'?",
    ),
    "head name is no text": (lambda: dropmax.make_head(3, 6, 10), "name must be text"),
    "unknown option": (
        lambda: dropmax.make_head("softmax:smoothing=0.1", 6, 10),
        "did you mean 'label_smoothing'?",
    ),
    "option of another head": (
        lambda: dropmax.make_head("softmax", 6, 10, kl_weight=1.0),
        "an option of softmax must be one of label_smoothing",
    ),
    "fixed option": (
        lambda: dropmax.make_head("dropmax_prior:posterior=learned", 6, 10),
        "an option of dropmax_prior must be one of",
    ),
    "option without value": (
        lambda: dropmax.make_head("softmax:label_smoothing", 6, 10),
        "name must have the form",
    ),
    "option twice": (
        lambda: dropmax.make_head("softmax:label_smoothing=0,label_smoothing=1", 6, 10),
        "each option once",
    ),
    "option in text and call": (
        lambda: dropmax.make_head("softmax:label_smoothing=0.1", 6, 10, label_smoothing=0.1),
        "label_smoothing must stand once",
    ),
    "option value": (
        lambda: dropmax.make_head("softmax:label_smoothing=much", 6, 10),
        "label_smoothing must be a number in [0, 1], got 'much'",
    ),
    "no head": (lambda: dropmax.find_head(nn.Linear(3, 4)), "contain one head, got none"),
    "two heads": (
        lambda: dropmax.Criterion(nn.Sequential(head(), head())),
        "contain one head, got 0, 1",
    ),
    "no module": (lambda: dropmax.find_head("model"), "model must be an nn.Module"),
    "criterion on logits": (lambda: dropmax.Criterion(head())(LOGITS, TARGET), "be Scores"),
    "export by samples": (
        lambda: export(method="monte_carlo"),
        "export_onnx: method must be one of plugin, exact, got 'monte_carlo'",
    ),
    "export of a head without masks": (
        lambda: export(dropmax.make_head("softmax", 6, 10), method="exact"),
        "method must be one of plugin, got 'exact'",
    ),
    "export of no head": (lambda: export(nn.Linear(6, 10)), "contain one head, got none"),
    "exported output": (
        lambda: export(output="prob"),
        "export_onnx: output must be one of log_probs, probs, got 'prob'; did you mean 'probs'?",
    ),
    "nodes of an exported plug-in": (lambda: export(num_nodes=64), "num_nodes must be None"),
    "example of no rows": (
        lambda: export(example=torch.zeros(0, 6)),
        "example must be a tensor [N, ...] or a tuple of them, N >= 1, got float32[0, 6]",
    ),
    "examples of two numbers": (
        lambda: export(example=(torch.zeros(2, 6), torch.zeros(3, 6))),
        "example must be a tensor [N, ...] or a tuple of them, N >= 1, got tuple",
    ),
    "example is a list": (lambda: export(example=[[0.0] * 6]), "example must be a tensor"),
    "too few class names": (
        lambda: export(class_names=["cat", "dog"]),
        "export_onnx: class_names must be 10 names, got ['cat', 'dog']",
    ),
    "exported into nowhere": (
        lambda: export(path="nowhere/model.onnx"),
        "export_onnx: path must be a file in a folder that is there, got 'nowhere/model.onnx'",
    ),
    "exported into a folder": (lambda: export(path="."), "path must be a file in a folder"),
    "no tolerance of an export": (lambda: export(atol=0.0), "atol must be a number in (0, inf)"),
    "decay": (lambda: dropmax.decay_groups(head(), -0.1), "weight_decay must be a number"),
    "decay of no module": (lambda: dropmax.decay_groups([], 0.1), "model must be an nn.Module"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name):
    call, expected = WRONG[name]
    with pytest.raises(ValueError) as raised:
        call()
    message = str(raised.value)
    assert expected in message
    assert FORM.match(message), message


def test_autocast_features_may_differ_in_dtype():
    with torch.autocast("cpu", torch.bfloat16):
        assert head()(torch.zeros(2, 6, dtype=torch.bfloat16)).logits.dtype == torch.bfloat16


def test_integer_targets_of_any_width_are_taken():
    for dtype in (torch.uint8, torch.int32):
        assert objective(target=TARGET.to(dtype)).total.shape == (8,)

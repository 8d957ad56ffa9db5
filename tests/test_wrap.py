"""A head put into models of others' making, and taken out again."""

import copy
import warnings

import pytest
import seeded
import torch
import torch.nn.functional as F
from raised import raises
from tolerances import assert_close
from torch import nn
from torch.nn.utils import prune
from variants import GATED

import dropmax
from dropmax import Criterion, Predictor, convert, revert


class Block(nn.Module):
    """A residual block in torchvision's style."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.bn(self.conv(x)))


class ResNet(nn.Module):
    """In torchvision's style: a projection that is linear, and the classifier called fc."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 5)
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.layer1 = nn.Sequential(Block(8), Block(8))
        self.squeeze = nn.Linear(8, 8)

    def forward(self, x):
        x = self.layer1(self.conv1(x)).mean((2, 3))
        return self.fc(torch.flatten(F.relu(self.squeeze(x)), 1))


class Timm(ResNet):
    """With timm's interface."""

    def __init__(self):
        super().__init__()
        self.num_classes = 5

    def get_classifier(self):
        return self.fc

    def forward_head(self, x, pre_logits=False):
        return x if pre_logits else self.fc(x)


class Nested(nn.Module):
    """A classifier of several layers, as in VGG, and the head of a vision transformer."""

    def __init__(self, name):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 8))
        setattr(self, name, nn.Sequential(nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5)))
        self.name = name

    def forward(self, x):
        return getattr(self, self.name)(self.features(x))


MODELS = {
    "resnet": (ResNet, "fc"),
    "timm": (Timm, "fc"),
    "vgg": (lambda: Nested("classifier"), "classifier.3"),
    "vit": (lambda: Nested("heads"), "heads.3"),
    "unnamed": (lambda: Nested("output"), "output.3"),
    "sequential": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 5)), "1"),
}


def images(count=6):
    return torch.randn(count, 3, 6, 6)


def trained(model, steps=10):
    """The loss before each of some steps."""
    criterion, optimizer = Criterion(model), torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = images(40), torch.arange(40) % 5
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(inputs), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("head", ["softmax", "attention", "dropmax", "dropmax_prior"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_converted_model_predicts_what_it_did_learns_and_goes_back(kind, head):
    make, layer = MODELS[kind]
    model, inputs = make().eval(), images()
    before, state = model(inputs), copy.deepcopy(model.state_dict())
    assert convert(model, head=head) is model
    assert isinstance(model.get_submodule(layer), dropmax.Head)
    assert state.keys() <= model.state_dict().keys()
    assert_close(Predictor(model)(inputs), before.log_softmax(-1).detach(), "compiled")
    revert(model)
    assert type(model.get_submodule(layer)) is nn.Linear
    assert torch.equal(model(inputs), before)
    assert model.state_dict().keys() == state.keys()
    convert(model.train(), head=head)
    losses = trained(model)
    assert losses[-1] < losses[0]
    if head == "softmax":
        assert revert(model)(inputs).shape == (6, 5)
        return
    with raises(ValueError, "revert: model"):
        revert(model)
    logits = model.eval()(inputs).logits
    assert torch.equal(revert(model, drop_gate=True)(inputs), logits)


@pytest.mark.parametrize("head", ["sparsemax", "sigsoftmax", "one_vs_rest"])
def test_a_head_that_predicts_no_softmax_is_not_reverted_unasked(head):
    model, features = nn.Sequential(nn.Linear(6, 5)), torch.randn(7, 6)
    logits = model(features)
    convert(model, head=head)
    assert not torch.allclose(Predictor(model)(features), logits.log_softmax(-1), atol=1e-3)
    with raises(ValueError, "revert: model"):
        revert(model)
    assert torch.equal(revert(model, drop_gate=True)(features), logits)


def test_the_parameters_are_the_same_and_so_are_device_dtype_hooks_and_flags():
    model = ResNet().double().eval()
    weight, bias = model.fc.weight, model.fc.bias
    weight.requires_grad_(False)
    seen = []
    model.fc.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    model.fc.register_forward_hook(
        lambda _, __, ___, output: seen.append(type(output)), with_kwargs=True
    )
    convert(model)
    head = model.fc
    assert head.weight is weight
    assert head.bias is bias
    assert not head.weight.requires_grad
    assert head.retain_weight.requires_grad
    assert not head.training
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert head.retain_bias.tolist() == [2.0] * 5
    assert not head.retain_weight.any()
    model(images().double())
    assert seen == [(6, 8), dropmax.Scores]
    revert(model)
    model(images().double())
    assert seen[2:] == [(6, 8), torch.Tensor]
    assert model.fc.weight is weight
    meta = convert(nn.Sequential(nn.Linear(3, 2, device="meta")))
    assert all(p.is_meta for p in meta.parameters())
    without = convert(nn.Sequential(nn.Linear(3, 2, bias=False)))
    assert without[0].bias is None
    assert without[0].retain_bias is None


@pytest.mark.parametrize("name", GATED)
def test_the_gate_is_alive_from_the_start(name):
    model = convert(ResNet(), head=name)
    Criterion(model)(model(images()), torch.tensor([0, 1, 2, 3, 4, 0])).backward()
    if name == "dropmax_tied":  # two scalars, which start as softmax anyhow
        assert all(one.grad.abs() > 1e-4 for one in model.fc.gate_parameters())
        return
    assert model.fc.retain_weight.grad.abs().max() > 1e-4
    random = convert(ResNet(), head=name, start="random")
    assert random.fc.retain_weight.any()
    assert not random.fc.retain_bias.any()


def test_layer_names_the_classifier_and_options_reach_the_head():
    model = convert(Both(), layer="classifier", kl_weight=0.5, retain_bias_init=1.0)
    assert isinstance(model.classifier, dropmax.heads.DropMaxHead)
    assert model.classifier.kl_weight == 0.5
    assert model.classifier.retain_bias.tolist() == [1.0] * 5
    assert type(model.head) is nn.Linear


def test_saved_weights_of_a_converted_model_load_into_another():
    model = convert(ResNet())
    trained(model)
    other = convert(ResNet())
    other.load_state_dict(model.state_dict())
    inputs = images()
    for one, same in zip(model.eval()(inputs), other.eval()(inputs), strict=True):
        assert torch.equal(one, same)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("plugin", {}),
        ("exact", {}),
        ("exact", {"num_nodes": 64}),
        ("monte_carlo", {"num_samples": 5}),
    ],
)
def test_a_predictor_is_an_ordinary_classifier(method, options):
    model = convert(ResNet(), start="random").eval()
    predictor = Predictor(model, method, **options)
    inputs, target = images(), torch.arange(6) % 5
    torch.manual_seed(0)
    log_probs = predictor(inputs)
    torch.manual_seed(0)
    assert torch.equal(log_probs, model.fc.log_probs(model(inputs), method=method, **options))
    plain = F.nll_loss(log_probs, target)
    if method != "monte_carlo":  # which may give a class no mass
        assert_close(F.cross_entropy(log_probs, target), plain.detach(), "exact")
    assert {f"model.{key}" for key in model.state_dict()} == set(predictor.state_dict())
    assert method in repr(predictor)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("method", ["plugin", "exact"])
def test_a_predictor_is_exported_with_a_dynamic_batch(method):
    options = {"num_nodes": 64} if method == "exact" else {}
    predictor = Predictor(convert(ResNet(), start="random"), method, **options).eval()
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(predictor, (images(4),), dynamic_shapes={"args": (batch,)})
    inputs = images(9)
    assert_close(program.module()(inputs), predictor(inputs).detach(), "compiled")


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 5)
        self.head_dist = nn.Linear(8, 5)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(x), self.classifier(x)


class TwoOfTimm(Both):
    def get_classifier(self):
        return self.head, self.head_dist


class Averaged(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(x).mean(1)


def without_classifier():
    model = Timm()
    model.fc = nn.Identity()
    return model


class Late(nn.Module):
    """The classifier is defined before the projection, and called `out`."""

    dynamic = False

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 5)
        self.proj = nn.Linear(4, 8)

    def forward(self, x):
        hidden = self.proj(x)
        if self.dynamic:
            hidden = hidden + 1e-9 * torch.rand(8) if hidden.sum() > 0 else hidden
        return self.out(hidden.relu())


class LateDynamic(Late):
    """As no tracer follows it."""

    dynamic = True


class Unused(Late):
    """A part with the usual name that nothing calls."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 5)


class UnusedDynamic(Unused):
    dynamic = True


class Aliased(Late):
    """The classifier has two names, and is called by the second."""

    def __init__(self):
        super().__init__()
        self.last = self.out

    def forward(self, x):
        return self.last(self.proj(x))


class WithLoss(Late):
    """Takes the target, too, as the models of many tutorials do."""

    def forward(self, x, target=None, scale=1.0):
        logits = super().forward(x) * scale if scale != 1.0 else super().forward(x)
        return logits if target is None else F.cross_entropy(logits, target)


class WithAuxiliary(Late):
    """A second classifier in training alone, as in GoogLeNet."""

    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(8, 5)

    def forward(self, x):
        logits = super().forward(x)
        return (logits, self.aux(self.proj(x))) if self.training else logits


class WithFeatures(Late):
    def forward(self, x):
        hidden = self.proj(x)
        return {"logits": self.out(hidden), "features": hidden.relu()}


class Identical(Late):
    def __init__(self):
        super().__init__()
        self.drop = nn.Identity()

    def forward(self, x):
        return self.drop(super().forward(x))


RIGHT = {
    "defined before the projection": (Late, "out"),
    "the usual name unused": (Unused, "out"),
    "two names": (Aliased, "out"),
    "with an optional target": (WithLoss, "out"),
    "a second classifier in training": (WithAuxiliary, "out"),
    "features beside": (WithFeatures, "out"),
    "an identity at the end": (Identical, "out"),
    "in DataParallel": (lambda: nn.DataParallel(Late()), "module.out"),
    "in another model": (lambda: nn.Sequential(nn.Identity(), Late()), "1.out"),
    "a part that no tracer follows before it": (
        lambda: nn.Sequential(nn.Linear(4, 4), Dynamic(), nn.Linear(4, 5)),
        "2",
    ),
    "under its name, though no tracer follows": (lambda: nn.Sequential(Named()), "0.fc.2"),
    "tied to another parameter": (lambda: tied(), "1"),
}


class Dynamic(nn.Module):
    """Nothing traces it."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


class Named(nn.Module):
    """Its classifier, called fc, is defined first; its projection is found by no name."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5))
        self.proj, self.dynamic = nn.Linear(4, 8), Dynamic()

    def forward(self, x):
        return self.fc(self.dynamic(self.proj(x)))


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", RIGHT)
def test_the_classifier_is_the_layer_whose_output_is_returned(case, training):
    make, layer = RIGHT[case]
    model, inputs = make().train(training), torch.randn(3, 4)
    modes = [module.training for module in model.modules()]
    before = logits_of(model, inputs)
    convert(model)
    heads = {n for n, m in model.named_modules() if isinstance(m, dropmax.Head)}
    assert heads == {layer}
    assert [module.training for module in model.modules()] == modes
    scores = logits_of(model, inputs)
    assert isinstance(scores, dropmax.Scores)
    assert_close(scores.logits, before.detach(), "compiled")
    assert torch.equal(logits_of(revert(model), inputs), before)


def logits_of(model, inputs):
    """What it returns of the classifier in evaluation mode."""
    training, returned = model.training, model.eval()(inputs)
    model.train(training)
    return returned["logits"] if isinstance(returned, dict) else returned


def test_an_example_that_the_model_does_not_take_leaves_it_as_it_was():
    model = LateDynamic()
    kept = copy.deepcopy(model.state_dict())
    with raises(ValueError, "convert: example"):
        convert(model, example=torch.randn(3, 5))
    assert model.state_dict().keys() == kept.keys()
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [Late, LateDynamic, Unused, UnusedDynamic, Identical])
@pytest.mark.parametrize("pack", [lambda x: x, lambda x: (x,), lambda x: {"x": x}])
def test_an_example_shows_which_layer_it_is(make, training, pack):
    """It is called once, in evaluation mode, without a change to it or to the random numbers."""
    model = nn.Sequential(nn.BatchNorm1d(4), make()) if pack(1) == 1 else make()
    model.train(training)
    calls, state, other = [], copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    hook = model.register_forward_hook(lambda module, *_: calls.append(module.training))
    name = "1.out" if isinstance(model, nn.Sequential) else "out"
    example, random = pack(torch.randn(3, 4)), torch.get_rng_state()
    convert(model, example=example, head="softmax")
    hook.remove()
    after = torch.get_rng_state()
    torch.set_rng_state(random)
    convert(other, layer=name, head="softmax")
    assert torch.equal(torch.get_rng_state(), after)
    assert calls == [False]
    assert model.training == training
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert isinstance(model.get_submodule(name), dropmax.Head)
    assert not any(m._forward_hooks for m in model.modules())


class Tasks(nn.Module):
    """Two classifiers."""

    def __init__(self, trunk=None):
        super().__init__()
        self.trunk, self.body = trunk or nn.Identity(), nn.Linear(4, 8)
        self.color, self.size = nn.Linear(8, 5), nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.body(self.trunk(x)).relu()
        return {"color": self.color(hidden), "size": self.size(hidden)}


class Cosine(nn.Module):
    """A classifier whose layer is never called, its weight alone used."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.fc = nn.Linear(8, 3, bias=False)

    def forward(self, x):
        return 16 * F.linear(F.normalize(self.body(x)), F.normalize(self.fc.weight))


class Doubled(Late):
    def forward(self, x):
        return self.out(self.proj(x)).mul_(2.0)


class InPlace(Late):
    """Changes what the classifier returned, and returns the same tensor."""

    def forward(self, x):
        logits = self.out(self.proj(x))
        logits.mul_(2.0)
        return logits


class Averaging(Late):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(8, 5)

    def forward(self, x):
        hidden = self.proj(x)
        return (self.out(hidden) + self.other(hidden)) / 2


def tail(last):
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), last)


def pruned(name):
    layer = nn.Linear(8, 3)
    prune.l1_unstructured(layer, name, 0.5)
    return tail(layer)


class Mine(nn.Linear):
    """A user's own, which computes something else."""


REFUSED = {
    "one output": (lambda: tail(nn.Linear(8, 1)), {}, "'2' with one"),
    "one output, named": (lambda: tail(nn.Linear(8, 1)), {"layer": "2"}, "'2' with one"),
    "weight_norm of old": (lambda: tail(old(nn.utils.weight_norm)), {}, "weight_g"),
    "spectral_norm of old": (lambda: tail(old(nn.utils.spectral_norm)), {}, "weight_orig"),
    "weight_norm": (lambda: tail(new("weight_norm")), {}, "ParametrizedLinear '2'"),
    "spectral_norm": (lambda: tail(new("spectral_norm")), {}, "ParametrizedLinear '2'"),
    "orthogonal": (lambda: tail(new("orthogonal")), {}, "ParametrizedLinear '2'"),
    "weight_norm, named": (lambda: tail(new("weight_norm")), {"layer": "2"}, "ParametrizedLinear"),
    "pruned": (lambda: pruned("weight"), {}, "weight_orig"),
    "pruned bias": (lambda: pruned("bias"), {}, "bias_orig"),
    "a lazy layer": (lambda: tail(nn.LazyLinear(3)), {}, "LazyLinear '2'"),
    "a layer of one's own": (lambda: tail(Mine(8, 3)), {}, "Mine '2'"),
    "never called": (Cosine, {}, "mul"),
    "never called, named": (Cosine, {"layer": "fc"}, "never calls it"),
    "never called, with an example": (Cosine, {"example": torch.ones(2, 4)}, "another computation"),
    "never called, named and seen": (
        Cosine,
        {"layer": "fc", "example": torch.ones(2, 4)},
        "never calls it",
    ),
    "the usual name unused, named": (Unused, {"layer": "head"}, "never calls it"),
    "two classifiers": (Tasks, {}, "color, size"),
    "two classifiers seen": (Tasks, {"example": (torch.ones(2, 4),)}, "color, size"),
    "two classifiers that no tracer follows": (lambda: Tasks(Dynamic()), {}, "color, size"),
    "two that are averaged": (Averaging, {}, "truediv"),
    "no tracer follows": (LateDynamic, {}, "out, proj"),
    "an operation in place": (Doubled, {}, "mul_"),
    "an operation in place beside": (InPlace, {}, "mul_"),
    "an operation in place, seen": (InPlace, {"example": torch.ones(2, 4)}, "in place"),
    "another layer's output, named": (
        LateDynamic,
        {"layer": "proj", "example": torch.ones(2, 4)},
        "that of out",
    ),
    "dropout at the end": (
        lambda: tail(nn.Sequential(nn.Linear(8, 3), nn.Dropout())),
        {},
        "Dropout",
    ),
    "a layer of torch at the end": (lambda: nn.TransformerEncoderLayer(4, 2), {}, "convert"),
}


def old(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is old
        return norm(nn.Linear(8, 3))


def new(name):
    return getattr(nn.utils.parametrizations, name)(nn.Linear(8, 3))


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.usefixtures("untyped")
def test_what_is_no_classifier_is_refused_by_name_and_left_as_it_was(case):
    make, options, named = REFUSED[case]
    model = make()
    kinds = [(name, type(module)) for name, module in model.named_modules()]
    with raises(ValueError, "convert: model") as refused:
        convert(model, **options)
    assert named in str(refused.value)
    assert [(name, type(module)) for name, module in model.named_modules()] == kinds
    assert not any(isinstance(module, dropmax.Head) for module in model.modules())


def test_what_helps_where_it_is_not_clear_which_layer_is_meant():
    x = torch.randn(6, 4)
    for options in ({"layer": "out"}, {"example": x}):
        model = LateDynamic()
        before = model(x)
        assert_close(convert(model, **options)(x).logits, before.detach(), "compiled")
    model = convert(Tasks(), layer="size")
    assert [type(part) for part in model(x).values()] == [torch.Tensor, dropmax.Scores]


WRONG = {
    "no module": (lambda: convert("model"), TypeError, "convert: model"),
    "unknown head": (lambda: convert(ResNet(), head="drop-max"), ValueError, "make_head: name"),
    "unknown option": (
        lambda: convert(ResNet(), kl=1.0),
        ValueError,
        "make_head: an option of dropmax",
    ),
    "unknown start": (lambda: convert(ResNet(), start="warm"), ValueError, "convert: start"),
    "unknown layer": (lambda: convert(ResNet(), layer="fcc"), ValueError, "convert: layer"),
    "layer that is no linear one": (
        lambda: convert(ResNet(), layer="conv1"),
        ValueError,
        "convert: layer",
    ),
    "two candidates": (lambda: convert(Both()), ValueError, "convert: model"),
    "two candidates of timm": (lambda: convert(TwoOfTimm()), ValueError, "convert: model"),
    "timm's without a classifier": (
        lambda: convert(without_classifier()),
        ValueError,
        "convert: model",
    ),
    "no linear layer": (lambda: convert(nn.Sequential(nn.ReLU())), ValueError, "convert: model"),
    "the linear layer itself": (lambda: convert(nn.Linear(3, 4)), ValueError, "convert: model"),
    "a layer that the model computes on": (
        lambda: convert(ResNet(), layer="squeeze"),
        ValueError,
        "convert: model",
    ),
    "converted twice": (lambda: convert(convert(ResNet())), ValueError, "convert: model"),
    "a host that normalizes": (
        lambda: convert(nn.Sequential(nn.Linear(8, 5), nn.LogSoftmax(-1))),
        ValueError,
        "convert: model",
    ),
    "a host that averages": (lambda: convert(Averaged()), ValueError, "convert: model"),
    "nothing to revert": (lambda: revert(ResNet()), ValueError, "revert: model"),
    "the head itself": (
        lambda: revert(dropmax.make_head("dropmax", 3, 4)),
        ValueError,
        "revert: model",
    ),
    "predictor of no head": (lambda: Predictor(ResNet()), ValueError, "Predictor: model"),
    "predictor's method": (
        lambda: Predictor(convert(ResNet()), "exactly"),
        ValueError,
        "Predictor: method",
    ),
    "predictor's option": (
        lambda: Predictor(convert(ResNet()), "plugin", num_samples=3),
        ValueError,
        "Predictor: num_samples",
    ),
    "predictor of something else": (
        lambda: Predictor(nn.Sequential(dropmax.make_head("softmax", 3, 4), Logits()))(
            torch.zeros(2, 3)
        ),
        TypeError,
        "Predictor.forward: model",
    ),
}


class Logits(nn.Module):
    def forward(self, scores):
        return scores.logits


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.usefixtures("untyped")
def test_wrong_use_is_one_clear_sentence(case):
    call, kind, where = WRONG[case]
    with raises(kind, where):
        call()


def test_a_model_that_cannot_be_converted_is_as_before():
    model = nn.Sequential(nn.Linear(8, 5), nn.LogSoftmax(-1))
    before = copy.deepcopy(model.state_dict())
    for options in ({}, {"head": "nosuch"}, {"layer": "2"}):
        with pytest.raises(ValueError):
            convert(model, **options)
    assert type(model[0]) is nn.Linear
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


class Elsewhere(torch.Generator):
    """As a generator of another device is, without such a device."""

    device = torch.device("meta")


def test_a_predictor_is_made_without_drawing_and_for_any_device():
    """A generator stays where it is, and one of another device is taken as it is."""
    model = nn.Sequential(nn.Linear(8, 5), dropmax.make_head("dropmax", 5, 3))
    generator = seeded.generator(1)
    before = generator.get_state()
    predictor = Predictor(model, "monte_carlo", num_samples=4, generator=generator)
    assert torch.equal(generator.get_state(), before)
    features = torch.randn(6, 8)
    first = predictor(features)
    generator.set_state(before)
    assert torch.equal(predictor(features), first)
    elsewhere = Elsewhere()
    Predictor(model, "monte_carlo", num_samples=4, generator=elsewhere)
    with raises(ValueError, "DropMaxHead.log_probs: generator"):
        Predictor(model, "monte_carlo", num_samples=4, generator=elsewhere)(features)

"""A head put into models of others' making, and taken out again."""

import copy

import pytest
import torch
import torch.nn.functional as F
from raised import raises
from tolerances import assert_close
from torch import nn
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
    generator = torch.Generator().manual_seed(1)
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

"""What every head keeps, in one body over all of them."""

import copy
import math

import pytest
import seeded
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close
from torch import nn
from variants import GATED, MARGINAL, MOVING, VARIANTS

import dropmax

pytestmark = pytest.mark.parametrize("name", VARIANTS)

GATE = ("gate_", "retain_", "correction_")
SPARSE = ("sparsemax",)


def make(name, in_features=6, num_classes=5, dtype=torch.float64, **options):
    return dropmax.make_head(name, in_features, num_classes, dtype=dtype, **options)


def case(*shape, num_classes=5, dtype=torch.float64):
    features = torch.randn(*shape, 6, dtype=dtype)
    target = torch.randint(num_classes, shape)
    noise = torch.rand(*shape, num_classes).clamp(1e-6, 1 - 1e-6)
    return features, target, noise


def test_is_a_linear_layer_with_a_loss(name):
    head = make(name)
    features, target, noise = case(7)
    scores = head(features)
    assert isinstance(scores, dropmax.Scores)
    assert (head.in_features, head.out_features) == (6, 5)
    assert_close(scores.logits, F.linear(features, head.weight, head.bias).detach(), "value")
    assert (scores.retain_logits is not None) == (name in GATED)
    assert (scores.correction_logits is not None) == (getattr(head, "posterior", None) == "learned")
    objective = head.loss(scores, target, noise=noise)
    assert isinstance(objective, dropmax.Objective)
    assert all(term.shape == () for term in objective)
    assert_close(objective.total, sum(objective[1:]).detach(), "value")


def test_the_state_dict_of_a_linear_layer_loads(name):
    linear, head = nn.Linear(6, 5, dtype=torch.float64), make(name)
    keys = head.load_state_dict(linear.state_dict(), strict=False)
    assert not keys.unexpected_keys
    assert all(key.startswith(GATE) for key in keys.missing_keys)
    features, _, _ = case(3)
    assert torch.equal(head(features).logits, linear(features))


def test_parameters_start_glorot_uniform_with_zero_biases(name):
    head = make(name, in_features=200, num_classes=100)
    for parameter_name, parameter in head.named_parameters():
        if parameter_name in ("gate_scale", "gate_shift"):
            assert parameter.tolist() == [0.0 if parameter_name == "gate_scale" else 2.0]
        elif parameter_name.endswith("bias"):
            assert parameter.shape == (100,)
            assert not parameter.any()
        else:
            assert parameter.shape == (100, 200) or head.gate_rank in parameter.shape
            bound, count = math.sqrt(6 / sum(parameter.shape)), parameter.numel()
            assert 1 - 10 / count < parameter.abs().max() / bound <= 1
            assert abs(parameter.var().item() / (bound**2 / 3) - 1) < 8 * math.sqrt(0.8 / count)


def test_every_parameter_gets_a_gradient(name):
    head = make(name)
    features, target, noise = case(40)
    head.loss(head(features), target, noise=noise).total.backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_reductions_agree(name):
    head = make(name)
    features, target, noise = case(4, 3)
    scores = head(features)
    each = head.loss(scores, target, noise=noise, reduction="none")
    assert all(term.shape == (4, 3) for term in each)
    for reduction, reduce in (("mean", torch.mean), ("sum", torch.sum)):
        whole = head.loss(scores, target, noise=noise, reduction=reduction)
        for term, one in zip(whole, each, strict=True):
            assert_close(term, reduce(one).detach(), "reordered")


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 1, 3)])
def test_any_leading_dimensions(name, shape):
    head = make(name)
    features, target, noise = case(*shape)
    loss = head.loss(head(features), target, noise=noise, reduction="none").total
    log_probs = head.log_probs(head(features))
    assert loss.shape == shape
    assert log_probs.shape == (*shape, 5)
    flat_scores = head(features.reshape(-1, 6))
    flat = head.loss(flat_scores, target.reshape(-1), noise=noise.reshape(-1, 5), reduction="none")
    assert_close(loss.reshape(-1), flat.total.detach(), "reordered")


def test_empty_batch_is_zero_with_zero_gradient(name):
    head = make(name)
    features, target, _ = case(0)
    for reduction in ("mean", "sum"):
        head.zero_grad()
        total = head.loss(head(features), target, reduction=reduction).total
        total.backward()
        assert total.item() == 0.0
        assert all(not parameter.grad.any() for parameter in head.parameters())
    assert head.loss(head(features), target, reduction="none").total.shape == (0,)
    assert head.log_probs(head(features)).shape == (0, 5)


def test_one_class_is_certain(name):
    head = make(name, num_classes=1)
    features, target, noise = case(4, num_classes=1)
    objective = head.loss(head(features), target, noise=noise)
    if name == MARGINAL:
        assert_close(objective.total, 0.0, "exact")
    elif name == "one_vs_rest":  # yes or no, even if there is nothing to choose from
        expected = -F.logsigmoid(head(features).logits).mean()
        assert_close(objective.total, expected.detach(), "value")
    else:
        assert objective.nll.item() == 0.0
    if not name.startswith("dropmax"):
        assert torch.equal(objective.total, objective.nll)
    assert head.log_probs(head(features)).tolist() == [[0.0]] * 4


def test_two_classes(name):
    head = make(name, num_classes=2)
    features, target, noise = case(4, num_classes=2)
    assert head.loss(head(features), target, noise=noise).total.isfinite()
    assert_close(head.log_probs(head(features)).exp().sum(-1), torch.ones(4), "value")


def test_a_class_absent_from_training_becomes_improbable(name):
    torch.manual_seed(0)
    head = make(name)
    features, _, _ = case(64)
    target = torch.arange(64) % 4
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    before = head.log_probs(head(features)).exp()[:, 4].mean()
    for _ in range(200):
        optimizer.zero_grad()
        head.loss(head(features), target).total.backward()
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in head.parameters())
    # as_softmax lets a rival rest once it is delta below the target
    share = 0.5 if name == "as_softmax" else 0.3
    assert head.log_probs(head(features)).exp()[:, 4].mean() < share * before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_log_probs_are_normalized_and_in_the_dtype_of_the_scores(name, dtype):
    head = make(name)
    features, _, _ = case(9)
    scores = dropmax.Scores(*(None if s is None else s.detach() for s in head(3 * features)))
    low = dropmax.Scores(*(None if s is None else s.to(dtype) for s in scores))
    log_probs = head.log_probs(low)
    assert log_probs.dtype == dtype
    rounded = dropmax.Scores(*(None if s is None else s.double() for s in low))
    expected = head.log_probs(rounded)
    assert torch.equal(log_probs.isneginf(), expected.isneginf())
    finite = expected.isfinite()
    assert_close(log_probs[finite], expected[finite], "value")
    assert (expected.exp().sum(-1) - 1).abs().max() < 1e-12
    assert expected.isneginf().any() == (name in SPARSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_losses_and_gradients_are_finite_and_float32(name, dtype, scale):
    """Every combination of extreme signs, and random ones."""
    head = make(name, dtype=torch.float32)
    extremes = torch.cartesian_prod(*[torch.tensor([-scale, scale])] * 3)
    extremes = extremes[:, :, None].expand(8, 3, 5).clone()
    extremes[:, :, ::2] *= torch.randn(8, 3, 3).clamp(-1, 1)
    branches = [extremes[:, i].to(dtype).requires_grad_() for i in range(3)]
    used = dropmax.Scores(*branches[: 1 + len(head.branches)])
    for k in range(5):
        total = head.loss(used, torch.full((8,), k)).total
        assert total.dtype == torch.float32
        assert total.isfinite()
        for gradient in torch.autograd.grad(total, [x for x in used if x is not None]):
            assert gradient.isfinite().all()
    log_probs = head.log_probs(used)
    assert not log_probs.isnan().any()
    finite = torch.where(log_probs.isfinite(), log_probs, 0.0)
    for gradient in torch.autograd.grad(finite.sum(), used[: 1 + (name in GATED)]):
        assert gradient.isfinite().all()


@given(shift=st.floats(-30, 30))
def test_a_shift_of_the_logits_changes_nothing(name, shift):
    if name in MOVING:
        return
    torch.manual_seed(0)
    head = make(name)
    features, target, noise = case(4)
    scores = head(features)
    moved = scores._replace(logits=scores.logits + shift)
    first, second = (head.loss(s, target, noise=noise).total for s in (scores, moved))
    assert_close(first, second.detach(), "value")


def test_heads_that_a_shift_of_the_logits_changes(name):
    """Softmax's invariance is not theirs."""
    head = make(name)
    features, target, noise = case(4)
    scores = head(features)
    moved = scores._replace(logits=scores.logits - 3.0)
    losses = [head.loss(s, target, noise=noise).total.item() for s in (scores, moved)]
    assert (abs(losses[0] - losses[1]) > 1e-3) == (name in MOVING)


def test_is_reproducible_from_a_generator_and_from_noise(name):
    head = make(name)
    features, target, noise = case(8)
    for source in (lambda: {"noise": noise}, lambda: {"generator": seeded.generator(3)}):
        first, second = (head.loss(head(features), target, **source()).total for _ in range(2))
        assert torch.equal(first, second)


def test_does_not_look_at_the_training_flag(name):
    head = make(name)
    features, target, noise = case(8)
    train = head.train().loss(head(features), target, noise=noise).total
    evaluate = head.eval().loss(head(features), target, noise=noise).total
    assert torch.equal(train, evaluate)
    assert torch.equal(
        head.train().log_probs(head(features)), head.eval().log_probs(head(features))
    )


def test_options_of_linear_layers(name):
    head = make(name, bias=False, dtype=torch.float32)
    assert not any(key.endswith("bias") for key in head.state_dict())
    assert head(torch.randn(2, 6)).logits.dtype == torch.float32
    assert make(name, device="meta").weight.is_meta
    assert "in_features=6, out_features=5" in repr(head)
    clone = copy.deepcopy(head)
    clone.load_state_dict(head.state_dict())
    assert torch.equal(clone.weight, head.weight)
    clone.reset_parameters()
    assert not torch.equal(clone.weight, head.weight)


def test_log_probs_are_ordinary_logits(name):
    head = make(name)
    features, target, _ = case(40)
    log_probs = head.log_probs(head(features))
    possible = log_probs.gather(-1, target[:, None])[:, 0].isfinite()
    assert possible.sum() > 10
    plain = F.nll_loss(log_probs[possible], target[possible])
    assert_close(F.cross_entropy(log_probs[possible], target[possible]), plain.detach(), "value")


def test_criterion_trains_a_model_by_its_heads_loss(name):
    model = nn.Sequential(nn.Linear(4, 6, dtype=torch.float64), make(name))
    criterion = dropmax.Criterion(model)
    assert dropmax.find_head(model) is model[1]
    assert not list(criterion.parameters())
    images, target = torch.randn(32, 4, dtype=torch.float64), torch.randint(5, (32,))
    torch.manual_seed(1)
    loss = criterion(model(images), target)
    torch.manual_seed(1)
    assert torch.equal(loss, model[1].loss(model(images), target).total)
    optimizer = torch.optim.Adam(dropmax.decay_groups(model, 1e-4), lr=0.02)
    first = loss.item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = criterion(model(images), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.9 * first


def test_decay_spares_the_gate_alone(name):
    model = nn.Sequential(nn.Linear(4, 6), make(name))
    decayed, spared = dropmax.decay_groups(model, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(p): n for n, p in model.named_parameters()}
    gate = {n for n in names.values() if n.removeprefix("1.").startswith(GATE)}
    assert {names[id(p)] for p in spared["params"]} == gate
    assert {names[id(p)] for p in decayed["params"]} == set(names.values()) - gate

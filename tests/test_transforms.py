"""Under torch.compile, torch.func and autocast the heads give what they give without."""

import shutil

import pytest
import torch
from raised import raises
from tolerances import assert_close
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from variants import RANDOM, VARIANTS

import dropmax

pytestmark = pytest.mark.usefixtures("untyped")
BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(
                shutil.which("g++") is None and shutil.which("clang++") is None,
                reason="no C++ compiler for torch.compile's inductor",
            ),
        ],
    ),
]


def case(shape=(12,), dtype=torch.float32):
    features = torch.randn(*shape, 6, dtype=dtype)
    return features, torch.randint(5, shape), torch.rand(*shape, 5).clamp(1e-6, 1 - 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", VARIANTS)
def test_compiles_forward_and_loss_into_one_graph(name, backend):
    torch.compiler.reset()
    head = dropmax.make_head(name, 6, 5)
    features, target, noise = case()

    def step(features, target, noise):
        scores = head(features)
        return head.loss(scores, target, noise=noise), head.log_probs(scores)

    expected, expected_log_probs = step(features, target, noise)
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    objective, log_probs = compiled(features, target, noise)
    assert isinstance(objective, dropmax.Objective)
    for term, value in zip(objective, expected, strict=True):
        assert_close(term, value.detach(), "compiled")
    assert_close(log_probs, expected_log_probs.detach(), "compiled")
    gradients = torch.autograd.grad(objective.total, list(head.parameters()))
    expected_gradients = torch.autograd.grad(expected.total, list(head.parameters()))
    for gradient, value in zip(gradients, expected_gradients, strict=True):
        assert_close(gradient, value, "compiled")


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_code_draws_its_own_noise(backend):
    torch.compiler.reset()
    head = dropmax.make_head("dropmax", 6, 5)
    features, target, _ = case((2000,))

    @torch.compile(fullgraph=True, backend=backend)
    def nll(features, target):
        scores = head(features)
        sampled = head.log_probs(scores, method="monte_carlo", num_samples=2)
        return head.loss(scores, target, reduction="none").nll, sampled

    first, sampled = nll(features, target)
    second, _ = nll(features, target)
    assert not torch.equal(first, second)
    plain = head.loss(head(features), target, reduction="none").nll
    standard_error = (first.var() / 2000 + plain.var() / 2000).sqrt()
    assert (first.mean() - plain.mean()).abs() < 5 * standard_error
    assert_close(sampled.exp().sum(-1), torch.ones(2000), "compiled")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_schedule_works_in_compiled_code(backend):
    torch.compiler.reset()
    head = dropmax.make_head("dropmax", 6, 5)
    features, target, noise = case()
    compiled = torch.compile(
        lambda: head.loss(head(features), target, noise=noise).total,
        fullgraph=True,
        backend=backend,
    )
    for step in range(20):
        head.kl_weight, head.temperature = step / 20, 1.0 / (1 + step)
        expected = head.loss(head(features), target, noise=noise).total
        assert_close(compiled(), expected.detach(), "compiled")


def test_a_generator_in_compiled_code_is_refused():
    torch.compiler.reset()
    head = dropmax.make_head("dropmax", 6, 5)
    features, target, _ = case()
    generator = torch.Generator()

    @torch.compile(fullgraph=True, backend="eager")
    def loss(features):
        return head.loss(head(features), target, generator=generator).total

    with pytest.raises(Exception, match="generator"):
        loss(features)


@pytest.mark.parametrize("name", VARIANTS)
def test_vmap_with_randomness(name):
    """Per-sample losses of vmap equal the batch's under noise; without, samples differ."""
    head = dropmax.make_head(name, 6, 5)
    features, target, noise = case((12,))

    def loss(features, target, noise=None):
        return head.loss(head(features), target, noise=noise).total

    each = vmap(loss)(features, target, noise)
    batch = head.loss(head(features), target, noise=noise, reduction="none").total
    assert_close(each, batch.detach(), "compiled")
    same = features[:1].expand(200, 6)
    drawn = vmap(loss, randomness="different")(same, target[:1].expand(200))
    assert drawn.isfinite().all()
    assert bool(drawn.max() - drawn.min() > 1e-3) == (name in RANDOM)


@pytest.mark.parametrize("name", VARIANTS)
def test_per_sample_gradients(name):
    head = dropmax.make_head(name, 6, 5)
    features, target, noise = case((4,))
    parameters = {k: v.detach() for k, v in head.named_parameters()}

    def loss(parameters, features, target, noise):
        scores = functional_call(head, parameters, (features,))
        return head.loss(scores, target, noise=noise).total

    each = vmap(grad(loss), in_dims=(None, 0, 0, 0))(parameters, features, target, noise)
    head.loss(head(features), target, noise=noise, reduction="sum").total.backward()
    for parameter_name, parameter in head.named_parameters():
        assert_close(each[parameter_name].sum(0), parameter.grad, "compiled")


@pytest.mark.parametrize("name", VARIANTS)
def test_per_sample_gradients_of_probabilities_weights_and_smoothing(name):
    head = dropmax.make_head(name, 6, 5)
    features, _, noise = case((4,))
    probs, sample_weight = torch.rand(4, 5).softmax(-1), torch.rand(4)
    options = {"weight": torch.rand(5), "label_smoothing": 0.1}
    parameters = {k: v.detach() for k, v in head.named_parameters()}

    def loss(parameters, features, probs, sample_weight, noise):
        scores = functional_call(head, parameters, (features,))
        return head.loss(
            scores, probs, sample_weight=sample_weight, noise=noise, reduction="sum", **options
        ).total

    each = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0))(
        parameters, features, probs, sample_weight, noise
    )
    loss(dict(head.named_parameters()), features, probs, sample_weight, noise).backward()
    for parameter_name, parameter in head.named_parameters():
        assert_close(each[parameter_name].sum(0), parameter.grad, "compiled")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["dropmax", "sampled_softmax", "class_dropout"])
@torch._dynamo.config.patch(error_on_recompile=True)
def test_drawn_noise_compiles_once_for_every_batch_size(name, backend):
    torch.compiler.reset()
    head = dropmax.make_head(name, 6, 5)

    @torch.compile(fullgraph=True, dynamic=True, backend=backend)
    def nll(features, target):
        scores = head(features)
        sampling = {"method": "monte_carlo", "num_samples": 2} if name == "dropmax" else {}
        return head.loss(scores, target, reduction="none").nll, head.log_probs(scores, **sampling)

    for batch in (12, 7, 31):
        features, target, _ = case((batch,))
        first, sampled = nll(features, target)
        assert first.shape == (batch,)
        assert not torch.equal(first, nll(features, target)[0])
        assert_close(sampled.exp().sum(-1), torch.ones(batch), "compiled")


QUICK = {("softmax", False), ("dropmax", False), ("dropmax", True)}
"""Heads of every kind of loss, which are compiled in each run of the tests."""


@pytest.mark.parametrize(
    ("name", "backend", "soft"),
    [
        *(
            pytest.param(n, "aot_eager", soft, marks=[pytest.mark.slow] * ((n, soft) not in QUICK))
            for n in VARIANTS
            for soft in (False, True)
        ),
        *(
            pytest.param("dropmax", "inductor", soft, marks=BACKENDS[1].marks)
            for soft in (False, True)
        ),
    ],
)
@torch._dynamo.config.patch(error_on_recompile=True)
def test_all_options_compile_once_for_every_batch_size(name, backend, soft):
    """Class weights, sample weights and smoothing; one compilation, whatever the batch."""
    torch.compiler.reset()
    head = dropmax.make_head(name, 6, 5)
    weight = torch.rand(5)

    def loss(features, target, sample_weight, noise):
        return head.loss(
            head(features),
            target,
            weight=weight,
            label_smoothing=0.1,
            sample_weight=sample_weight,
            noise=noise,
        ).total

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=backend)
    for batch in (12, 7, 31, 64):
        features, target, noise = case((batch,))
        target = torch.rand(batch, 5).softmax(-1) if soft else target
        given = features, target, torch.rand(batch), noise
        value, expected = compiled(*given), loss(*given)
        assert_close(value, expected.detach(), "compiled")
        gradients, others = (
            torch.autograd.grad(x, list(head.parameters())) for x in (value, expected)
        )
        for gradient, other in zip(gradients, others, strict=True):
            assert_close(gradient, other, "compiled")


@pytest.mark.parametrize("name", VARIANTS)
def test_autocast_bfloat16(name):
    model = nn.Sequential(nn.Linear(6, 6), dropmax.make_head(name, 6, 5))
    features, target, noise = case((64,))
    plain = model[1].loss(model(features), target, noise=noise)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(features)
        assert scores.logits.dtype == torch.bfloat16
        objective = model[1].loss(scores, target, noise=noise)
        assert model[1].log_probs(scores).dtype == torch.bfloat16
    assert all(term.dtype == torch.float32 for term in objective)
    for term, value in zip(objective, plain, strict=True):
        assert_close(term, value.detach(), "autocast", dtype=torch.bfloat16)
    objective.total.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_values_are_not_read_from_fake_or_traced_tensors(name):
    head = dropmax.make_head(name, 6, 5)
    features, target, noise = case()

    def loss(features, target, noise):
        return head.loss(head(features), target, noise=noise).total

    traced = make_fx(loss)(features, target, noise)
    assert_close(
        traced(features, target, noise), loss(features, target, noise).detach(), "compiled"
    )
    with FakeTensorMode():
        head = dropmax.make_head(name, 6, 5)
        assert loss(*case()).shape == ()


class LogProbs(nn.Module):
    """A head from features to log-probabilities."""

    def __init__(self, name, **options):
        super().__init__()
        self.head = dropmax.make_head(name, 6, 5)
        self.options = options

    def forward(self, features):
        return self.head.log_probs(self.head(features), **self.options)


@pytest.mark.parametrize("name", [*VARIANTS, "exact"])
def test_exports_with_a_dynamic_batch(name):
    options = {"method": "exact", "num_nodes": 40} if name == "exact" else {}
    model = LogProbs("dropmax" if name == "exact" else name, **options)
    features, _, _ = case()
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(model, (features,), dynamic_shapes=(batch,))
    more, _, _ = case((31,))
    assert_close(program.module()(more), model(more).detach(), "compiled")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_exact_predictive_compiles_with_given_nodes_and_says_so_without(backend):
    torch.compiler.reset()
    model = LogProbs("dropmax", method="exact", num_nodes=40)
    features, _, _ = case()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    assert_close(compiled(features), model(features).detach(), "compiled")
    counted = LogProbs("dropmax", method="exact")
    with pytest.raises(Exception, match="num_nodes"):
        torch.compile(counted, fullgraph=True, backend=backend)(features)
    with raises(ValueError, "exact: num_nodes"):
        vmap(counted)(features)

"""What only CUDA shows: it computes what the CPU does, and nothing in a step waits for it."""

import pytest
import seeded
import torch
from tolerances import assert_close
from torch import nn
from variants import GATED, INTEGRALS, PLUGIN, RANDOM, VARIANTS

import dropmax

if torch.get_default_device().type != "cuda":
    pytest.skip("needs CUDA, and pytest -m gpu", allow_module_level=True)

N, D, K = 16, 6, 10
FUSED = [name for name in GATED if name not in (*INTEGRALS, *PLUGIN)]
STEPS = [
    *((name, "loss") for name in VARIANTS if name not in INTEGRALS),
    *((name, "fused_loss") for name in FUSED),
]
"""The heads and losses whose step reads no value: how many nodes an integral has, it does read."""


@pytest.fixture
def case():
    """Features, target and noise."""
    return torch.randn(N, D, dtype=torch.float64), torch.arange(N) % K, torch.rand(N, K)


def step_of(head, loss, features, target):
    """The total of a batch, whose gradients it leaves in the parameters."""

    def step():
        head.zero_grad()
        given = features if loss == "fused_loss" else head(features)
        total = getattr(head, loss)(given, target).total
        total.backward()
        return total.detach()

    return step


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_gradients_and_log_probs(name, case, device):
    features, target, noise = case
    head = dropmax.make_head(name, D, K, dtype=torch.float64)
    found = []
    for place in ("cpu", device):
        head.zero_grad()
        head.to(place)
        scores = head(features.to(place))
        loss = head.loss(scores, target.to(place), noise=noise.to(place))
        loss.total.backward()
        gradients = [parameter.grad.clone() for parameter in head.parameters()]
        found.append([*(term.detach() for term in loss), head.log_probs(scores), *gradients])
    for on_cpu, on_cuda in zip(*found, strict=True):
        assert_close(on_cuda, on_cpu.detach(), "value")


@pytest.mark.parametrize("name", FUSED)
def test_the_fused_loss(name, case):
    features, target, noise = case
    head = dropmax.make_head(name, D, K, dtype=torch.float64)
    composed = head.loss(head(features), target, noise=noise)
    fused = head.fused_loss(features, target, noise=noise)
    for one, other in zip(fused, composed, strict=True):
        assert_close(one, other.detach(), "value")


@pytest.mark.parametrize(("name", "loss"), STEPS)
def test_a_step_never_waits_for_the_device(name, loss, case):
    features, target, _ = case
    step = step_of(dropmax.make_head(name, D, K), loss, features.float(), target)
    step()  # libraries wait when they are loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        total = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert total.isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", VARIANTS)
def test_autocast(name, dtype, case, device):
    features, target, noise = case[0].float(), *case[1:]
    head = dropmax.make_head(name, D, K)
    with torch.autocast(device, dtype=dtype):
        scores = head(features)
        total = head.loss(scores, target, noise=noise).total
    assert scores.logits.dtype == dtype
    assert_close(scores.logits, head(features).logits.detach(), "autocast")
    assert total.dtype == torch.float32
    total.backward()
    for parameter in head.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_a_compiled_step(case):
    features, target, noise = case
    head = dropmax.make_head("dropmax", D, K, dtype=torch.float64)

    def total(features, target, noise):
        return head.loss(head(features), target, noise=noise).total

    parameters = list(head.parameters())
    found = []
    for function in (total, torch.compile(total, fullgraph=True)):
        value = function(features, target, noise)
        found.append([value.detach(), *torch.autograd.grad(value, parameters)])
    for eager, compiled in zip(*found, strict=True):
        assert_close(compiled, eager, "value")


@pytest.mark.parametrize(("name", "loss"), STEPS)
def test_a_step_in_a_cuda_graph(name, loss, case):
    """Each replay draws its own noise, and reads the weights that it finds."""
    features, target, _ = case
    head = dropmax.make_head(name, D, K)
    step = step_of(head, loss, features.float(), target)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = step()
    totals = []
    for _ in range(2):
        graph.replay()
        totals.append(total.clone())
    assert torch.equal(*totals) == (name not in RANDOM)
    for _ in range(100):
        graph.replay()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 0.1 * parameter.grad
    assert total < totals[0]


def test_a_predictor_draws_from_a_generator_of_its_device(case):
    features = case[0].float()
    model = nn.Sequential(dropmax.make_head("dropmax", D, K))
    generator = seeded.generator(0)
    options = {"num_samples": 5, "generator": generator}
    predictor = dropmax.Predictor(model, "monte_carlo", **options)
    first = predictor(features)
    generator.manual_seed(0)
    assert torch.equal(predictor(features), first)

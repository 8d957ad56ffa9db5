"""What a CUDA device computes is what the CPU does, under the same noise."""

import pytest
import torch
from tolerances import assert_close
from torch import nn
from variants import VARIANTS

import dropmax

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]

N, D, K = 16, 6, 10


@pytest.fixture
def case():
    """Features, target and noise on the CPU."""
    return torch.randn(N, D, dtype=torch.float64), torch.arange(N) % K, torch.rand(N, K)


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_gradients_and_log_probs(name, case):
    features, target, noise = case
    head = dropmax.make_head(name, D, K, dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda"):
        head.zero_grad()
        head.to(device)
        scores = head(features.to(device))
        loss = head.loss(scores, target.to(device), noise=noise.to(device))
        loss.total.backward()
        gradients = [parameter.grad.cpu().clone() for parameter in head.parameters()]
        found.append([*(term.detach().cpu() for term in loss), head.log_probs(scores), *gradients])
    for on_cpu, on_cuda in zip(*found, strict=True):
        assert_close(on_cuda.detach().cpu(), on_cpu.detach(), "value")


@pytest.mark.parametrize("name", ["dropmax", "dropmax_prior", "dropmax:gate_rank=2"])
def test_the_fused_loss(name, case):
    features, target, noise = (x.cuda() for x in case)
    head = dropmax.make_head(name, D, K, dtype=torch.float64, device="cuda")
    composed = head.loss(head(features), target, noise=noise)
    fused = head.fused_loss(features, target, noise=noise)
    for one, other in zip(fused, composed, strict=True):
        assert_close(one.detach().cpu(), other.detach().cpu(), "value")


def test_a_predictor_draws_from_a_generator_of_its_device(case):
    model = nn.Sequential(dropmax.make_head("dropmax", D, K)).cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    options = {"num_samples": 5, "generator": generator}
    predictor = dropmax.Predictor(model, "monte_carlo", **options)
    first = predictor(case[0].float().cuda())
    generator.manual_seed(0)
    assert torch.equal(predictor(case[0].float().cuda()), first)

"""Judged against a float64 truth, we lose no more digits than plain torch at the same dtype."""

import pytest
import torch
import torch.nn.functional as F
from tolerances import TOLERANCES

from dropmax import bernoulli
from dropmax.functional import attention_loss, dropmax_objective, softmax_loss
from dropmax.predictive import plugin

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def error(value, truth):
    """The largest absolute error; infinite where the value is NaN."""
    return (value.double() - truth).abs().nan_to_num(nan=float("inf")).max()


def case(scale, dtype):
    """Scores that are exact in `dtype`, and the same in float64."""
    scores = [(scale * torch.randn(200, 20)).to(dtype) for _ in range(3)]
    return scores, [s.double() for s in scores], torch.randint(20, (200,))


def assert_no_worse(ours, plain, truth, dtype):
    _, atol = TOLERANCES[dtype, "precision"]
    assert error(ours, truth) <= error(plain, truth) + atol


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 10.0, 300.0])
def test_softmax_loss(dtype, scale):
    (o, _, _), (o64, _, _), target = case(scale, dtype)
    truth = F.cross_entropy(o64, target, reduction="none")
    plain = F.cross_entropy(o, target, reduction="none")
    assert_no_worse(softmax_loss(o, target), plain, truth, dtype)


def plain_plugin(o, r):
    """The composition that one writes down first: sigmoid, then log."""
    return torch.log_softmax(o + torch.log(torch.sigmoid(r) + 1e-20), -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 10.0, 300.0])
def test_plugin_and_attention(dtype, scale):
    (o, r, _), (o64, r64, _), target = case(scale, dtype)
    truth = plugin(o64, r64)
    assert_no_worse(plugin(o, r), plain_plugin(o, r), truth, dtype)
    at_target = F.nll_loss(truth, target, reduction="none")
    plain = F.nll_loss(plain_plugin(o, r), target, reduction="none")
    assert_no_worse(attention_loss(o, r, target), plain, at_target, dtype)


def plain_terms(o, r, c, target, noise):
    """The objective as the paper writes it, probabilities first."""
    one_hot = F.one_hot(target, o.shape[-1]).to(o.dtype)
    noise = noise.to(o.dtype)
    rho, correction, posterior = r.sigmoid(), c.sigmoid(), (r + c).sigmoid()
    logit = torch.log(posterior) - torch.log(1 - posterior)
    mask = torch.sigmoid((logit + torch.log(noise) - torch.log(1 - noise)) / 0.1)
    mask = torch.where(one_hot.bool(), 1.0, mask)
    nll = torch.logsumexp(o + torch.log(mask + 1e-20), -1) - (o * one_hot).sum(-1)
    rivals = (
        posterior * (posterior / rho).log() + (1 - posterior) * ((1 - posterior) / (1 - rho)).log()
    )
    kl = torch.where(one_hot.bool(), -rho.log(), rivals).sum(-1)
    neg_entropy = (rho * rho.log() + (1 - rho) * (1 - rho).log()).sum(-1)
    aux = -torch.where(one_hot.bool(), correction.log(), (1 - correction).log()).sum(-1)
    return {"nll": nll, "kl": kl, "neg_entropy": neg_entropy, "aux": aux}


@pytest.mark.parametrize("term", ["nll", "kl", "neg_entropy", "aux"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 10.0, 300.0])
def test_dropmax_objective(term, dtype, scale):
    scores, scores64, target = case(scale, dtype)
    noise = bernoulli.uniforms_like(torch.zeros(200, 20))
    truth = getattr(dropmax_objective(*scores64, target, noise=noise), term)
    ours = getattr(dropmax_objective(*scores, target, noise=noise), term)
    plain = plain_terms(*scores, target, noise)[term]
    assert_no_worse(ours, plain, truth, dtype)
    digits = torch.finfo(torch.float32).eps
    largest = (
        max(s.abs().max() for s in scores64) * 20
    )  # the classes of a sum; 1 / temperature is less
    assert error(ours, truth) <= 4 * digits * largest

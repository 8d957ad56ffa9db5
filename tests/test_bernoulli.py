"""Masks: entropy, KL divergence, the law of the samples."""

import math

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close

from dropmax import bernoulli

LOGITS = st.floats(-700, 700)


@given(LOGITS)
def test_neg_entropy(logit):
    value = bernoulli.neg_entropy(torch.tensor(logit, dtype=torch.float64))
    assert_close(value, reference.bernoulli_neg_entropy(logit), "value")
    assert -math.log(2) - 1e-15 <= value <= 0


@given(LOGITS, LOGITS)
def test_kl(posterior, prior):
    p, q = (torch.tensor(x, dtype=torch.float64) for x in (prior, posterior))
    assert_close(bernoulli.kl(q, p), reference.bernoulli_kl(posterior, prior), "value")
    assert bernoulli.kl(q, p) >= -1e-12
    assert bernoulli.kl(p, p) == 0


def test_kl_is_positive_where_the_logits_differ():
    prior = torch.linspace(-5, 5, 21, dtype=torch.float64)
    for difference in (-3.0, -0.01, 0.01, 3.0):
        assert (bernoulli.kl(prior + difference, prior) > 0).all()


@pytest.mark.parametrize("retain_logit", [-3.0, 0.0, 1.5])
def test_hard_masks_follow_their_law(retain_logit):
    """One in 10^6 seeds would fail (4.9 sigma)."""
    logits = torch.full((200_000,), retain_logit)
    mask = bernoulli.hard_mask(logits, bernoulli.uniforms_like(logits))
    rho = reference.sigmoid(retain_logit)
    sigma = math.sqrt(rho * (1 - rho) / 200_000)
    assert abs(mask.float().mean().item() - rho) < 4.9 * sigma


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("retain_logit", [-1.0, 0.7])
def test_relaxed_masks_follow_their_law(temperature, retain_logit):
    """P(z < x) = sigmoid(temperature logit(x) - retain_logit), at 1/4, 1/2 and 3/4.

    One in 10^6 seeds would fail at each (4.9 sigma).
    """
    logits = torch.full((200_000,), retain_logit)
    noise = bernoulli.uniforms_like(logits)
    mask = bernoulli.relaxed_mask_logits(logits, noise, temperature).sigmoid()
    for x in (0.25, 0.5, 0.75):
        law = reference.sigmoid(temperature * math.log(x / (1 - x)) - retain_logit)
        sigma = math.sqrt(law * (1 - law) / 200_000)
        assert abs((mask < x).float().mean().item() - law) < 4.9 * sigma


def test_a_relaxed_mask_is_hard_at_low_temperature():
    logits = torch.randn(1000)
    noise = bernoulli.uniforms_like(logits)
    relaxed = bernoulli.relaxed_mask_logits(logits, noise, 1e-6).sigmoid()
    assert torch.equal(relaxed > 0.5, bernoulli.hard_mask(logits, noise))
    assert ((relaxed < 1e-6) | (relaxed > 1 - 1e-6)).float().mean() > 0.999


def test_drawn_noise_is_float32_and_off_both_ends(monkeypatch):
    half = torch.zeros(4, dtype=torch.bfloat16)
    noise = bernoulli.uniforms_like(half, num_samples=3)
    assert noise.dtype == torch.float32
    assert noise.shape == (3, 4)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.tensor([0.0, 1.0]).expand(shape))
    ends = bernoulli.uniforms_like(torch.zeros(2))
    assert 0 < ends[0] < ends[1] < 1
    assert bernoulli.relaxed_mask_logits(torch.zeros(2), ends, 0.1).isfinite().all()

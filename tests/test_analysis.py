"""The variational gap and the uncertainty, against the enumeration of all masks."""

import math

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_exact import SCALES, TIGHT, case, truth
from tolerances import assert_close, rounding

import dropmax
from dropmax.analysis import TOLERANCE, uncertainty, variational_gap


def scored(num_classes, scale, gate, instances=2):
    """Scores with a correction, and targets."""
    logits, retain_logits, target = case(num_classes, scale, gate, instances=instances)
    correction_logits = torch.randn_like(logits)
    return dropmax.Scores(logits, retain_logits, correction_logits), target


@pytest.mark.parametrize("num_classes", range(1, 13))
def test_the_gap_equals_enumeration(num_classes):
    for scale, gate in SCALES:
        scores, target = scored(num_classes, scale, gate)
        posterior_logits = scores.retain_logits + scores.correction_logits
        log_probs, odds, *_ = truth(scores.logits, scores.retain_logits, target)
        likelihood = log_probs.gather(-1, target[:, None]).squeeze(-1)
        elbo = [
            reference.hard_elbo(*row)
            for row in zip(
                scores.logits.tolist(),
                scores.retain_logits.tolist(),
                posterior_logits.tolist(),
                target.tolist(),
                strict=True,
            )
        ]
        elbo = torch.tensor(elbo, dtype=torch.float64)
        result = variational_gap(scores, target, tolerance=TIGHT)
        assert_close(result.log_likelihood, likelihood, "exact tight")
        assert_close(result.elbo, elbo, "exact tight")
        assert_close(result.gap, likelihood - elbo, "exact tight")
        kept = posterior_logits.sigmoid()
        kept[torch.arange(2), target] = 1.0
        assert_close(result.distance, (kept - odds.sigmoid()).abs().mean(-1), "exact")


@given(seed=st.integers(0, 10_000), scale=st.floats(0, 20), gate=st.floats(0, 10))
def test_the_gap_is_not_negative(seed, scale, gate):
    torch.manual_seed(seed)
    scores, target = scored(12, scale, gate, instances=20)
    spread = float(scores.logits.amax() - scores.logits.amin())
    allowed = TOLERANCE + rounding(spread, torch.float64)
    assert (variational_gap(scores, target).gap >= -allowed).all()


@pytest.mark.parametrize("gate", [math.inf, -math.inf])
def test_the_gap_of_a_rival_that_is_certain(gate):
    scores = dropmax.Scores(torch.zeros(1, 3), torch.tensor([[0.0, gate, 0.0]]))
    finite = scores._replace(retain_logits=torch.tensor([[0.0, math.copysign(50.0, gate), 0.0]]))
    target = torch.tensor([0])
    for one, other in zip(
        variational_gap(scores, target), variational_gap(finite, target), strict=True
    ):
        assert_close(one, other, "exact tight")


def test_the_gap_closes_where_the_posterior_is_a_product():
    """Two classes and a target that is always kept: one rival, whose exact posterior is q."""
    logits, retain_logits, target = case(2, 2.0, 1.0, instances=20)
    retain_logits.scatter_(-1, target[:, None], math.inf)
    scores = dropmax.Scores(logits, retain_logits)
    exact = dropmax.predictive.mask_posterior(
        logits, retain_logits, target, target_kept=True, tolerance=TOLERANCE
    )
    result = variational_gap(scores, target, posterior_logits=exact)
    assert_close(result.gap, torch.zeros(20), "exact tight")
    assert_close(result.distance, torch.zeros(20), "exact tight")
    assert (variational_gap(scores, target).gap > 1e-4).any()


def test_the_exact_marginals_leave_a_smaller_gap_than_the_prior():
    logits, retain_logits, target = case(10, 3.0, 1.0, instances=100)
    scores = dropmax.Scores(logits, retain_logits)
    exact = dropmax.predictive.mask_posterior(logits, retain_logits, target, target_kept=True)
    closer = variational_gap(scores, target, posterior_logits=exact)
    assert closer.gap.mean() < 0.5 * variational_gap(scores, target).gap.mean()
    assert (closer.distance <= variational_gap(scores, target).distance + 1e-6).all()


@pytest.mark.parametrize("num_classes", range(1, 13))
def test_uncertainty_equals_enumeration(num_classes):
    for scale, gate in SCALES:
        scores, target = scored(num_classes, scale, gate)
        log_probs, *_, entropy = truth(scores.logits, scores.retain_logits, target)
        total = -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(-1)
        result = uncertainty(scores, tolerance=TIGHT)
        assert_close(result.total_entropy, total, "exact tight")
        assert_close(result.expected_entropy, entropy, "exact tight")
        assert_close(result.mutual_information, total - entropy, "exact tight")


def test_masks_that_agree_say_nothing():
    scores, _ = scored(5, 2.0, 0.0)
    wide = scores._replace(retain_logits=torch.full_like(scores.logits, 500.0))
    assert_close(uncertainty(wide).mutual_information, torch.zeros(2), "exact tight")
    deleted = scores._replace(logits=scores.logits.clone())
    deleted.logits[:, 1] = -math.inf
    assert all(value.isfinite().all() for value in uncertainty(deleted))


def test_a_head_says_from_what_it_draws_its_masks():
    features, target = torch.randn(7, 6), torch.arange(7) % 5
    for name, agrees in (
        ("dropmax", lambda s: s.retain_logits + s.correction_logits),
        ("dropmax_prior", lambda s: s.retain_logits),
        (
            "dropmax_computed:posterior=analytic",
            lambda s: (
                s.retain_logits
                + dropmax.functional.analytic_correction(s.logits, s.retain_logits, target)
            ),
        ),
        (
            "dropmax_computed:num_nodes=50",
            lambda s: dropmax.predictive.mask_posterior(
                s.logits, s.retain_logits, target, target_kept=True, num_nodes=50
            ),
        ),
    ):
        head = dropmax.make_head(name, 6, 5)
        scores = head(features)
        posterior_logits = head.posterior_logits(scores, target)
        assert torch.equal(posterior_logits, agrees(scores))
        gap = variational_gap(scores, target, posterior_logits=posterior_logits).gap
        assert gap.isfinite().all()
    for name in ("softmax", "attention", "dropmax_marginal"):
        head = dropmax.make_head(name, 6, 5)
        assert head.posterior_logits(head(features), target) is None

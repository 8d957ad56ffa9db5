"""How good the posterior of a trained gate is, and how sure the model is."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check, predictive
from dropmax.analysis.gates import gate_of
from dropmax.axis import LOCAL
from dropmax.functional.dropmax import CERTAIN, corrected_logits, mask_kl
from dropmax.functional.targets import Label
from dropmax.heads import Scores

TOLERANCE = 1e-9
"""Of the integrals, which are evaluated in float64."""


class VariationalGap(NamedTuple):
    """How far the variational posterior is from the truth, each `[*]`.

    Attributes:
        log_likelihood: log p(target | x), averaged over all hard masks, in nats.
        elbo: Its lower bound under the variational posterior and hard masks, in nats.
        gap: log_likelihood - elbo, the KL divergence from the variational to the exact posterior.
        distance: |q(z_k = 1) - P(z_k = 1 | target)|, the mean over classes.
    """

    log_likelihood: Tensor
    elbo: Tensor
    gap: Tensor
    distance: Tensor


@torch.no_grad()
def variational_gap(
    scores: Scores,
    target: Tensor,
    *,
    posterior_logits: Float[Tensor, "*batch K"] | None = None,
    tolerance: float = TOLERANCE,
) -> VariationalGap:
    """The exact log-likelihood, the exact bound that training maximizes, and the gap between them.

    Under hard masks, where the posterior q keeps the label and its rivals independently:

        elbo = logits_t - E_q log A - KL(q || p),   A = sum_k z_k exp(logits_k)

    Nothing is sampled. The gap is not cut off at 0: rounding may put it below, by no more than the
    tolerance.

    Args:
        scores: What a DropMax head returned, each `[*, K]`.
        target: Class indices `[*]`.
        posterior_logits: Logits of q `[*, K]`, as `head.posterior_logits` gives them. If None, they
            are the retain logits with the correction, if there is one. A head with an exact or
            analytic posterior needs them, as its scores do not hold them.
        tolerance: How much the gap may be off, in nats.

    Returns:
        `VariationalGap` in float64.

    Raises:
        ValueError: If the scores have no gate or a shape, dtype or value does not fit.

    Source:
        Ours; the bound is that of Lee et al. 2018 with hard masks in the place of relaxed ones.

    Examples:
        >>> import torch
        >>> import dropmax
        >>> from dropmax.analysis import variational_gap
        >>> scores = dropmax.Scores(torch.zeros(1, 2), torch.zeros(1, 2))
        >>> result = variational_gap(scores, torch.tensor([0]))
        >>> print(f"{result.log_likelihood.item():.4f} - {result.elbo.item():.4f}")
        -0.6931 - -1.0397
    """
    logits, retain_logits = _gated(scores)
    if posterior_logits is None:
        posterior_logits = corrected_logits(retain_logits, scores.correction_logits)
    if not isinstance(posterior_logits, Tensor) or posterior_logits.shape != logits.shape:
        must = f"be {list(logits.shape)}, like the scores"
        remedy = "pass what head.posterior_logits returned"
        _check.fail("posterior_logits", must, posterior_logits, remedy, of=Tensor)
    posterior_logits = posterior_logits.detach().double()
    _check.class_target(target, logits, logits.shape[-1])
    target = target.long()
    half = 0.5 * tolerance  # two integrals
    log_likelihood = predictive.log_marginal(logits, retain_logits, target, tolerance=half)
    log_normalizer = predictive.expected_log_normalizer(
        logits, posterior_logits, target=target, tolerance=half
    )
    q, p = (x.clamp(-CERTAIN, CERTAIN) for x in (posterior_logits, retain_logits))
    kl = mask_kl(q, p, Label(target))
    elbo = LOCAL.pick(logits, target) - log_normalizer - kl
    exact = predictive.mask_posterior(logits, retain_logits, target, tolerance=tolerance)
    kept = posterior_logits.sigmoid().masked_fill(LOCAL.one_hot(target, logits), 1.0)
    distance = (kept - exact.sigmoid()).abs().mean(-1)
    return VariationalGap(log_likelihood, elbo, log_likelihood - elbo, distance)


class Uncertainty(NamedTuple):
    """The entropy of the prediction, and which part of it is the masks' disagreement, each `[*]`.

    Attributes:
        total_entropy: The entropy of the exact predictive, in nats.
        expected_entropy: The entropy of the softmax under a mask, averaged over all masks, in nats.
        mutual_information: That between class and mask, the difference of the two, in nats.
    """

    total_entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor


@torch.no_grad()
def uncertainty(scores: Scores, *, tolerance: float = TOLERANCE) -> Uncertainty:
    """How unsure the model is, and how much of it comes from masks that disagree.

    `E_z H(y | z) = E log A - sum_k logits_k p(y = k)`, so nothing is sampled.

    Args:
        scores: What a head with a gate returned, each `[*, K]`.
        tolerance: How much the integrals may be off: relative for probabilities, in nats for
            E log A.

    Returns:
        `Uncertainty` in float64.

    Raises:
        ValueError: If the scores have no gate or a shape, dtype or value does not fit.

    Source:
        Ours; the decomposition is that of Bayesian active learning (Houlsby et al. 2011).

    Examples:
        Two equal classes, each kept by the toss of a coin: a mask that keeps one is certain.

        >>> import torch
        >>> import dropmax
        >>> from dropmax.analysis import uncertainty
        >>> scores = dropmax.Scores(torch.zeros(1, 2), torch.zeros(1, 2))
        >>> print(*(f"{value.item():.4f}" for value in uncertainty(scores)))
        0.6931 0.3466 0.3466
    """
    logits, retain_logits = _gated(scores)
    logits = logits.log_softmax(-1)
    log_probs = predictive.exact(logits, retain_logits, tolerance=tolerance)
    log_normalizer = predictive.expected_log_normalizer(logits, retain_logits, tolerance=tolerance)
    total = _expectation(log_probs, -log_probs)
    expected = log_normalizer - _expectation(log_probs, logits)
    return Uncertainty(total, expected, total - expected)


def _expectation(log_probs: Tensor, values: Tensor) -> Tensor:
    """The mean of values `[*, K]` under probabilities; a class of probability 0 adds nothing."""
    probs = log_probs.exp()
    return (probs * values.masked_fill(probs == 0.0, 0.0)).sum(-1)


def _gated(scores: Scores) -> tuple[Tensor, Tensor]:
    """Logits and retain logits in float64, of scores that have a gate."""
    retain_logits = gate_of(scores)
    if scores.correction_logits is not None:
        correction = {"correction_logits": scores.correction_logits}
        _check.class_tensors(scores.logits, **correction)
    return scores.logits.detach().double(), retain_logits.double()

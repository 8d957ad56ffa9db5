"""The four terms of DropMax's objective, and the logits of its learned posterior."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import bernoulli
from dropmax.functional.label import Label
from dropmax.functional.masking import cross_entropy, floored_logits, nll_of_each_class

CERTAIN = 1e4
"""Posterior logits are cut there: beyond, a class is retained or dropped for certain."""


def corrected_logits(
    retain_logits: Float[Tensor, "*batch K"], correction_logits: Float[Tensor, "*batch K"] | None
) -> Float[Tensor, "*batch K"]:
    """Logits of the learned posterior: the prior's, held fixed, and the correction.

    The prior itself, with its gradient, where there is no correction (the paper's q = p).
    """
    if correction_logits is None:
        return retain_logits
    return retain_logits.detach() + correction_logits.to(retain_logits.dtype)


def masked_nll(
    logits: Float[Tensor, "*batch K"],
    posterior_logits: Float[Tensor, "*batch K"],
    label: Label,
    *,
    noise: Float[Tensor, "..."],
    temperature: float,
    floor: float,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy under relaxed masks of the posterior, the target retained, over samples.

    `sum over t of v_t (log((A + (1 - z_t) a_t) / (1 + floor)) - logits_t)` with a = exp(logits) and
    A = sum over j of (z_j + floor) a_j.
    """
    axis = label.axis
    mask_logits = bernoulli.relaxed_mask_logits(posterior_logits, noise, temperature)
    log_mask = F.logsigmoid(mask_logits)
    if label.is_one_class:
        log_mask = log_mask.masked_fill(axis.one_hot(label.target, logits), 0.0)
        masked = floored_logits(logits, log_mask, floor)
        target = label.target.expand(masked.shape[:-1])
        nll = label.scaled(cross_entropy(masked, target, axis))
    else:
        masked = floored_logits(logits, log_mask, floor)
        dropped = logits + F.logsigmoid(-mask_logits)
        nll = label.nll(nll_of_each_class(masked, dropped, logits, axis) - math.log1p(floor))
    return nll if masked.ndim == logits.ndim else nll.mean(0)


def mask_kl(
    posterior_logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    label: Label,
) -> Float[Tensor, "*batch"]:
    """KL divergence of the masks with the target retained: -log rho_t and the rivals' sum."""
    return label.split(-F.logsigmoid(retain_logits), bernoulli.kl(posterior_logits, retain_logits))


def prior_neg_entropy(
    retain_logits: Float[Tensor, "*batch K"], label: Label
) -> Float[Tensor, "*batch"]:
    """Negative entropy of the prior's masks."""
    return label.scaled(label.axis.sum(bernoulli.neg_entropy(retain_logits)))


def correction_aux(
    correction_logits: Float[Tensor, "*batch K"], label: Label, *, aux_prior: str
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of the correction's sigmoid to the label, or to the label's base rate."""
    num_classes = label.axis.num_classes(correction_logits)
    if aux_prior == "base_rate" and num_classes > 1:
        correction_logits = correction_logits - math.log(num_classes - 1)
    return label.split(-F.logsigmoid(correction_logits), -F.logsigmoid(-correction_logits))

"""The four terms of DropMax's objective, and the logits of its learned posterior."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import bernoulli
from dropmax.functional.label import Label
from dropmax.functional.masking import (
    cross_entropy,
    floored_logits,
    gated_logits,
    nll_of_each_class,
)

CERTAIN = 1e4
"""Posterior logits are cut there: beyond, a class is retained or dropped for certain."""

MASKS = ("relaxed", "straight_through", "mean")
"""How training makes masks of the posterior's probabilities."""

AUX_PRIORS = ("label", "base_rate")
"""The names of a class's probability beforehand, as aux takes it: 1/2, and 1/K."""


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
    masks: str,
    noise: Float[Tensor, "..."] | None,
    temperature: float,
    floor: float,
) -> Float[Tensor, "..."]:
    """Cross-entropy under masks of the posterior, the target t retained, averaged over samples.

    `log((A + (1 - z_t) a_t) / (1 + floor)) - logits_t` with a = exp(logits) and A = sum over j of
    (z_j + floor) a_j; of the label's class `[*]`, or of each as the target `[*, K]`, as
    `Label.reduced` takes it. Without noise z is the posterior's probability.
    """
    axis = label.axis
    mask_logits = posterior_logits
    if noise is not None:
        mask_logits = bernoulli.relaxed_mask_logits(posterior_logits, noise, temperature)
    log_mask = F.logsigmoid(mask_logits)
    if label.is_one_class:
        if masks == "straight_through":
            log_mask = _hard(log_mask, mask_logits)
        log_mask = log_mask.masked_fill(axis.one_hot(label.target, logits), 0.0)
        masked = floored_logits(logits, log_mask, floor)
        target = label.target.expand(masked.shape[:-1])
        nll = cross_entropy(masked, target, axis)
    else:
        masked = floored_logits(logits, log_mask, floor)
        dropped = logits + F.logsigmoid(-mask_logits)
        nll = nll_of_each_class(masked, dropped, logits, axis) - math.log1p(floor)
    return nll if masked.ndim == logits.ndim else nll.mean(0)


def _hard(
    log_mask: Float[Tensor, "*shape"], mask_logits: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The logarithm of the mask that is 1 where the logit is above 0, with the relaxed gradient."""
    log_hard = CERTAIN * (mask_logits > 0.0).to(log_mask.dtype) - CERTAIN
    return log_mask + (log_hard - log_mask).detach()


def plugin_nll(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    label: Label,
    *,
    floor: float,
) -> Float[Tensor, "..."]:
    """Cross-entropy of what the plug-in predicts, the retain probability in the mask's place.

    As `masked_nll`, of the label's class `[*]`, or of each class `[*, K]`.
    """
    nll = -label.axis.log_softmax(gated_logits(logits, retain_logits, floor))
    return label.axis.pick(nll, label.target) if label.is_one_class else nll


def plugin_shares(
    plugin: Float[Tensor, "*shape"], *, share: float, focus: float
) -> Float[Tensor, "*shape"]:
    """The share of an objective that is the cross-entropy of the plug-in, less the surer it is.

    `share (1 - p_t)^focus`, p_t what the plug-in gives the target, held fixed.
    """
    unsure = -torch.expm1(-plugin.detach())
    return share * unsure**focus


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
    correction_logits: Float[Tensor, "*batch K"], label: Label, *, aux_prior: str | float
) -> Float[Tensor, "*batch"]:
    """Cross-entropy to the label of sigmoid(r + logit(pi)), pi a class's probability beforehand."""
    if aux_prior == "base_rate":
        num_classes = label.axis.num_classes(correction_logits)
        aux_prior = 1.0 / num_classes if num_classes > 1 else "label"
    if not isinstance(aux_prior, str):
        correction_logits = correction_logits + math.log(aux_prior) - math.log1p(-aux_prior)
    return label.split(-F.logsigmoid(correction_logits), -F.logsigmoid(-correction_logits))

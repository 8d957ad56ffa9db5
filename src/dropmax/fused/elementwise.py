"""The objective of a few instances and its gradient with respect to their scores, in one pass.

The formulas are those of `functional.dropmax_objective` for a label that is one class and a single
mask, with their derivatives written out. It is one function, so that torch.compile makes a few
loops of it that go over the classes with the scores in the cache.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dropmax.functional import ObjectiveOptions
from dropmax.fused.noise import logistics

SMALL_FLOOR = 1e-30
"""Below this floor the logarithm of a mask is computed without leaving logarithms."""


def scalars(options: ObjectiveOptions, num_classes: int) -> list[float]:
    """The numbers in the objective that may change from step to step.

    They are handed on as a tensor, for which nothing is compiled anew. The last is logit(pi) of
    `aux_prior`; the temperature is 1 where there is no noise.
    """
    log_pi, log_rest = options.aux_odds(num_classes)
    return [
        options.kl_weight,
        options.entropy_weight,
        options.aux_weight,
        1.0 if options.masks == "mean" else options.temperature,
        options.plugin_share,
        options.plugin_focus,
        log_pi - log_rest,
    ]


def objective_and_gradient(
    logits: Float[Tensor, "N K"],
    retain_logits: Float[Tensor, "N K"],
    correction_logits: Float[Tensor, "N K"] | None,
    target: Int[Tensor, " N"],
    factor: Float[Tensor, " N"],
    keys: Int[Tensor, "N 2"] | None,
    noise: Float[Tensor, "N K"] | None,
    *,
    scalars: Float[Tensor, " S"],
    floor: float,
    learned: bool,
    with_plugin: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """The terms of each instance, unweighted, and the gradients of the weighted total.

    With p = retain_logits + correction_logits, z = sigmoid((p + logistic noise) / temperature),
    pi the softmax under the mask and m = z + floor:

        d nll / d logits   = pi - [target]
        d nll / d p        = pi (1 - z) z / (m temperature)         of the rivals
        d KL  / d p        = g (1 - g) (p - retain_logits)          of the rivals
        d KL  / d retain_logits = rho - g, with g = 1 at the target
        d neg_entropy / d retain_logits = rho (1 - rho) retain_logits
        d aux / d correction_logits = sigmoid(correction_logits + aux_shift) - [target]

    Args:
        logits: Class scores.
        retain_logits: Logits of the prior.
        correction_logits: What makes the posterior's logits of the prior's; None for the prior.
        target: The class of each instance.
        factor: What the gradient of each instance is multiplied by.
        keys: Of the noise; None where the noise is given or there is none: z = g.
        noise: Uniforms in (0, 1), in the place of the keys.
        scalars: Those of the function `scalars`, in its order.
        floor: The weight of a dropped class.
        learned: Whether the correction is a score that is learned, with an aux term.
        with_plugin: Whether a share of the objective is the plug-in's cross-entropy.

    Returns:
        nll, kl, neg_entropy and aux `[N]`; and for each score that is learned the gradient `[N, K]`
        of the total times the factor.
    """
    kl_weight, entropy_weight, aux_weight, temperature, share, focus, aux_shift = scalars.unbind()
    dtype, num_classes = logits.dtype, logits.shape[-1]
    is_target = torch.arange(num_classes, device=logits.device) == target[:, None]
    indicator = is_target.to(dtype)
    posterior_logits = retain_logits
    if correction_logits is not None:
        posterior_logits = retain_logits + correction_logits
    mask_logits = posterior_logits
    if keys is not None:
        mask_logits = mask_logits + logistics(keys, num_classes, dtype)
    elif noise is not None:
        mask_logits = mask_logits + torch.logit(noise.to(dtype))
    mask_logits = (mask_logits / temperature).masked_fill(is_target, math.inf)
    mask = torch.sigmoid(mask_logits)
    masked = logits + _log_floored(mask, mask_logits, floor)
    log_total = torch.logsumexp(masked, -1)
    nll = log_total - _picked(logits, target) - math.log1p(floor)

    prior = _Sigmoids.of(retain_logits)
    rho, spread = prior.positive, prior.larger * prior.smaller
    shares = torch.zeros_like(nll)
    if with_plugin:
        plugin = logits + _log_floored(rho, retain_logits, floor)
        log_plugin_total = torch.logsumexp(plugin, -1)
        plugin_nll = log_plugin_total - _picked(plugin, target)
        shares = share * (-torch.expm1(-plugin_nll)) ** focus
        nll = (1.0 - shares) * nll + shares * plugin_nll
    kept = ((1.0 - shares) * factor)[:, None]
    neg_entropy = -(prior.log1p + retain_logits.abs() * prior.smaller).sum(-1)
    kl_of_target = (-retain_logits).clamp(min=0.0) + prior.log1p

    share_of_total = torch.exp(masked - log_total[:, None]) * kept
    to_logits = share_of_total - indicator * kept
    to_posterior = (
        share_of_total * (1.0 - mask) * _unfloored(mask, mask_logits, floor) / temperature
    )
    to_prior = entropy_weight * spread * retain_logits
    if correction_logits is None:
        kl = torch.where(is_target, kl_of_target, 0.0).sum(-1)
        to_prior = kept * (to_prior - kl_weight * indicator * (1.0 - rho)) + to_posterior
    else:
        posterior = _Sigmoids.of(posterior_logits)
        change = posterior_logits - retain_logits
        shift = retain_logits.clamp(min=0.0) - posterior_logits.clamp(min=0.0)
        rival_kl = posterior.positive * change + shift + prior.log1p - posterior.log1p
        kl = torch.where(is_target, kl_of_target, rival_kl).sum(-1)
        kept_for_certain = torch.where(is_target, 1.0, posterior.positive)
        to_prior = kept * (to_prior + kl_weight * (rho - kept_for_certain))
    if with_plugin:
        taken = (shares * factor)[:, None]
        to_plugin = (torch.exp(plugin - log_plugin_total[:, None]) - indicator) * taken
        to_logits = to_logits + to_plugin
        to_prior = to_prior + to_plugin * prior.negative * _unfloored(rho, retain_logits, floor)
    aux, gradients = torch.zeros_like(nll), [to_logits, to_prior]
    if correction_logits is not None and learned:
        shifted = correction_logits + aux_shift
        expected = _Sigmoids.of(shifted)
        softplus = shifted.clamp(min=0.0) + expected.log1p
        aux = (softplus - indicator * shifted).sum(-1)
        to_kl = posterior.larger * posterior.smaller * change * (1.0 - indicator)
        to_aux = torch.where(is_target, -expected.negative, expected.positive)
        gradients.append(to_posterior + kept * (kl_weight * to_kl + aux_weight * to_aux))
    rest = 1.0 - shares
    return [nll, rest * kl, rest * neg_entropy, rest * aux], gradients


class _Sigmoids(NamedTuple):
    """Of x: log(1 + exp(-|x|)), and the sigmoids of x and -x, of one exponential."""

    log1p: Tensor
    larger: Tensor
    smaller: Tensor
    positive: Tensor
    negative: Tensor

    @classmethod
    def of(cls, x: Float[Tensor, "N K"]) -> "_Sigmoids":
        small = torch.exp(-x.abs())
        larger = 1.0 / (1.0 + small)
        smaller = small * larger
        positive = torch.where(x >= 0.0, larger, smaller)
        return cls(
            torch.log1p(small), larger, smaller, positive, torch.where(x >= 0.0, smaller, larger)
        )


def _picked(x: Float[Tensor, "N K"], target: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    return x.gather(1, target[:, None]).squeeze(1)


def _log_floored(
    mask: Float[Tensor, "N K"], mask_logits: Float[Tensor, "N K"], floor: float
) -> Float[Tensor, "N K"]:
    """log(mask + floor), of the mask and its logits."""
    if floor >= SMALL_FLOOR:
        return torch.log(mask + floor)
    log_mask = F.logsigmoid(mask_logits)
    if floor == 0.0:
        return log_mask
    return torch.logaddexp(log_mask, torch.full_like(log_mask, math.log(floor)))


def _unfloored(
    mask: Float[Tensor, "N K"], mask_logits: Float[Tensor, "N K"], floor: float
) -> Float[Tensor, "N K"] | float:
    """mask / (mask + floor)."""
    if floor >= SMALL_FLOOR:
        return mask / (mask + floor)
    return 1.0 if floor == 0.0 else torch.sigmoid(F.logsigmoid(mask_logits) - math.log(floor))

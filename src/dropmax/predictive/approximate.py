"""What approximates the average over all masks: the plug-in, and samples."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check, bernoulli
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.masking import gated_logits, retained_logits


def plugin(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    *,
    floor: float = 1e-20,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch K"]:
    """Log-probabilities with the retain probability rho in place of the mask.

    `log_softmax(logits + log(rho + floor))`, rho = sigmoid(retain_logits).

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        floor: The weight that a class keeps at rho = 0, in [0, 1).
        axis: Where the classes live.

    Returns:
        Log-probabilities `[*, K]` in nats, in the dtype of `logits`.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Lee et al. 2018, prediction, and the authors' code.

    Examples:
        >>> import torch
        >>> from dropmax.predictive import plugin
        >>> plugin(torch.zeros(2), torch.tensor([50.0, 0.0])).exp()
        tensor([0.6667, 0.3333])
    """
    _check.class_tensors(logits, axis, retain_logits=retain_logits)
    _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
    gated = gated_logits(at_least_float32(logits), at_least_float32(retain_logits), floor)
    return axis.log_softmax(gated).to(logits.dtype)


@torch.no_grad()
def monte_carlo(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    *,
    num_samples: int,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch K"]:
    """Log of the mean softmax over sampled hard masks; without gradient.

    `log 1/S sum over s of p(y | z_s)`, z_s,k ~ Bernoulli(sigmoid(retain_logits_k)): the softmax
    over the retained classes, and the plain softmax where a mask drops every class. A class that
    no sample retains has log-probability -inf. One sample at a time is held in memory.

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        num_samples: The number S of masks.
        noise: Uniforms in (0, 1) `[S, *, K]`, or `[*, K]` for S = 1, float32 or float64; drawn
            sample by sample if None.
        generator: The source of the noise; the default one if None.
        axis: Where the classes live.

    Returns:
        Log-probabilities `[*, K]` in nats, in the dtype of `logits`.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Lee et al. 2018, prediction by Monte Carlo sampling, with the floor at its limit 0.

    Examples:
        >>> import torch
        >>> from dropmax.predictive import monte_carlo
        >>> noise = torch.tensor([[0.1, 0.9], [0.1, 0.1]])
        >>> monte_carlo(torch.zeros(2), torch.zeros(2), num_samples=2, noise=noise).exp()
        tensor([0.2500, 0.7500])
    """
    _check.class_tensors(logits, axis, retain_logits=retain_logits)
    _check.integer("num_samples", num_samples, low=1)
    dtype = logits.dtype
    logits, retain_logits = at_least_float32(logits), at_least_float32(retain_logits)
    options: dict[str, Any] = {"generator": generator, "axis": axis}
    if noise is not None:
        noise = bernoulli.uniforms_like(logits, noise, num_samples=num_samples, **options)
        noise = noise.reshape(num_samples, *logits.shape)

    log_sum = torch.full_like(logits, -math.inf)
    for sample in range(num_samples):
        uniforms = bernoulli.uniforms_like(logits, **options) if noise is None else noise[sample]
        mask = bernoulli.hard_mask(retain_logits, uniforms)
        dropped_all = axis.sum(mask.to(logits.dtype)) == 0
        retained = mask | dropped_all.unsqueeze(-1)
        log_probs = axis.log_softmax(retained_logits(logits, retained))
        log_sum = torch.logaddexp(log_sum, log_probs)
    return (log_sum - math.log(num_samples)).to(dtype)

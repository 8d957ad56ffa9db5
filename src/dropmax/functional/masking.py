"""What the masked softmaxes share: logits under a mask, and their cross-entropy."""

import math

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dropmax.axis import ClassAxis


def floored_logits(
    logits: Float[Tensor, "*batch K"], log_mask: Float[Tensor, "..."], floor: float
) -> Float[Tensor, "..."]:
    """Logits of the softmax whose exponentials are weighted by mask + floor.

    `logits + log(exp(log_mask) + floor)`: the paper's (z_k + eps) exp(o_k), as a logarithm.
    """
    log_floor = math.log(floor) if floor > 0.0 else -math.inf
    # logaddexp(log_mask, log_floor), of operations that are vectorized on the CPU
    gap = (log_mask - log_floor).abs()
    return logits + (log_mask.clamp(min=log_floor) - F.logsigmoid(gap))


def retained_logits(
    logits: Float[Tensor, "*batch K"], retained: Bool[Tensor, "*batch K"]
) -> Float[Tensor, "*batch K"]:
    """Logits of the softmax over the retained classes alone: -inf where a class is dropped."""
    return logits.masked_fill(~retained, -math.inf)


def cross_entropy(
    logits: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"], axis: ClassAxis
) -> Float[Tensor, "*batch"]:
    """Negative log-softmax at the target, in nats; logits of -inf are classes left out."""
    return -axis.pick(axis.log_softmax(logits), target)


def gated_logits(
    logits: Float[Tensor, "*batch K"], retain_logits: Float[Tensor, "*batch K"], floor: float
) -> Float[Tensor, "*batch K"]:
    """Logits of the softmax with the retain probability rho in place of a mask.

    `logits + log(rho + floor)`: the plug-in of the paper, and deterministic attention.
    """
    return floored_logits(logits, F.logsigmoid(retain_logits), floor)

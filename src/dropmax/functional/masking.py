"""What the masked softmaxes share: logits under a mask, and their cross-entropy."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
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


def nll_of_each_class(
    masked_logits: Float[Tensor, "*batch K"],
    dropped_logits: Float[Tensor, "*batch K"],
    logits: Float[Tensor, "*rows K"],
    axis: ClassAxis,
) -> Float[Tensor, "*batch K"]:
    """The masked cross-entropy if k were the target and so retained, of all k in one pass.

    `log(A + (1 - z_k) a_k) - logits_k`, from the logarithms of z_k a_k, whose sum A is, and of
    (1 - z_k) a_k; a = exp(logits).
    """
    (log_sum,) = axis.spread(logsumexp(masked_logits, axis).unsqueeze(-1))
    gap = (log_sum - dropped_logits).abs()
    return torch.maximum(log_sum, dropped_logits) - F.logsigmoid(gap) - logits


def logsumexp(x: Float[Tensor, "*batch K"], axis: ClassAxis) -> Float[Tensor, "*batch"]:
    """The log-sum-exp over classes; the least number there is, and no gradient, where all are -inf.

    So that what is added to it in logarithms stays as it is.
    """
    limits = torch.finfo(x.dtype)
    largest = axis.amax(x).clamp(min=limits.min)
    total = axis.sum((x - largest.unsqueeze(-1)).exp())
    return largest + total.clamp(min=limits.tiny).log()


def self_gated_logits(logits: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
    """Logits of the softmax in which the score of a class is its gate, too: sigsoftmax.

    `logits + log sigmoid(logits)`: `gated_logits` of the same logits, without a floor.
    """
    return logits + F.logsigmoid(logits)


def gated_logits(
    logits: Float[Tensor, "*batch K"], retain_logits: Float[Tensor, "*batch K"], floor: float
) -> Float[Tensor, "*batch K"]:
    """Logits of the softmax with the retain probability rho in place of a mask.

    `logits + log(rho + floor)`: the plug-in of the paper, and deterministic attention.
    """
    return floored_logits(logits, F.logsigmoid(retain_logits), floor)

"""What the label says of the masks, and the expected log-normalizer: from the same integral."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.predictive.quadrature import node_blocks, prepare, row_blocks


@torch.no_grad()
def mask_posterior(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    target_kept: bool = False,
    tolerance: float | None = None,
    num_nodes: int | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch K"]:
    """Logits of the exact posterior marginals `P(z_k = 1 | y = target)`; without gradient.

    Each is log P(z_k = 1, y = target) - log P(z_k = 0, y = target), both integrals over the same
    nodes, so that neither end saturates. The mask that drops every class counts among z_k = 0.

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        target: Class indices `[*]`.
        target_kept: Whether to condition on z_target = 1, too: the mask that drops every class is
            left out, and the target's logit is inf.
        tolerance: Relative error of both integrals, as in `exact`.
        num_nodes: As in `exact`.
        axis: Where the classes live.

    Returns:
        Posterior logits `[*, K]`, float32 at least; -inf for a class whose logit is -inf.

    Raises:
        ValueError: As `exact`, or if the target does not fit.

    Source:
        Ours, as `exact`.

    Examples:
        The label 0 says that class 1 was probably absent:

        >>> import torch
        >>> from dropmax.predictive import mask_posterior
        >>> logits = torch.zeros(2, dtype=torch.float64)
        >>> mask_posterior(logits, logits, torch.tensor(0)).sigmoid()
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    function = "mask_posterior"
    _check.boolean(function, "target_kept", target_kept)
    scores, gates, rule = prepare(
        function, logits, retain_logits, tolerance=tolerance, num_nodes=num_nodes, axis=axis
    )
    _check.class_target(function, target, logits, axis.num_classes(logits))
    target = target.long().reshape(-1)
    log_none = (axis.sum(F.logsigmoid(-gates)) + axis.pick(scores, target)).unsqueeze(-1)
    parts = []
    for rows in row_blocks(scores, axis):
        sums: list[Tensor] = []
        for block in node_blocks(scores, gates, rule, rows, axis):
            at_target = axis.pick(block.log_kept, target[rows, None].expand(block.u.shape))
            weight = (block.u + block.log_survival + at_target).unsqueeze(-1)
            terms = (block.log_kept, block.log_dropped, torch.zeros_like(weight))
            found = [(weight + term).logsumexp(1) for term in terms]
            if sums:
                found = [torch.logaddexp(*pair) for pair in zip(sums, found, strict=True)]
            sums = found
        scale = rule.step[rows].log() + axis.pick(scores[rows], target[rows])
        kept, dropped, at_all = (total + scale.unsqueeze(-1) for total in sums)
        if target_kept:
            rival, own = kept - dropped, torch.full_like(at_all, math.inf)
        else:
            none = log_none[rows]
            rival, own = kept - torch.logaddexp(dropped, none), at_all - none
        parts.append(torch.where(axis.one_hot(target[rows], kept), own, rival))
    posterior_logits = torch.cat(parts)
    return posterior_logits.reshape(logits.shape)


@torch.no_grad()
def expected_log_normalizer(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    *,
    target: Tensor | None = None,
    tolerance: float | None = None,
    num_nodes: int | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """E log A over all hard masks, A = sum_k z_k exp(logits_k); without gradient.

    The mask that drops every class counts as the one that keeps all: it is the plain softmax. With
    a target, that class is always kept. By Frullani's integral, with F(s) = E exp(-A s) and P0 the
    probability that every class is dropped:

        E[log A; A > 0] = integral over s > 0 of ((1 - P0) exp(-s) - (F(s) - P0)) / s ds

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        target: Class indices `[*]` of classes that are kept, or None.
        tolerance: Absolute error in nats before rounding; the default is that of `exact`.
        num_nodes: As in `exact`.
        axis: Where the classes live.

    Returns:
        E log A `[*]` in nats, float32 at least.

    Raises:
        ValueError: As `exact`, or if the target does not fit.

    Source:
        Ours: Frullani's integral and independence of the masks.

    Examples:
        >>> import torch
        >>> from dropmax.predictive import expected_log_normalizer
        >>> logits = torch.zeros(2, dtype=torch.float64)
        >>> print(f"{expected_log_normalizer(logits, logits):.5f} = log(2) / 2")
        0.34657 = log(2) / 2
    """
    function = "expected_log_normalizer"
    scores, gates, rule = prepare(
        function, logits, retain_logits, tolerance=tolerance, num_nodes=num_nodes, axis=axis
    )
    if target is not None:
        _check.class_target(function, target, logits, axis.num_classes(logits))
        gates = gates.masked_fill(axis.one_hot(target.long().reshape(-1), gates), math.inf)
    none = axis.sum(F.logsigmoid(-gates)).exp()
    parts = []
    for rows in row_blocks(scores, axis):
        total = torch.zeros_like(none[rows])
        for block in node_blocks(scores, gates, rule, rows, axis):
            dropped = none[rows, None]
            some = (1.0 - dropped) * torch.exp(-block.u.exp())
            total = total + (some - (block.log_survival.exp() - dropped)).sum(1)
        parts.append(total * rule.step[rows])
    integral = torch.cat(parts)
    largest = axis.amax(at_least_float32(logits).reshape(scores.shape))
    return (largest - axis.amax(scores) + integral).reshape(logits.shape[:-1])

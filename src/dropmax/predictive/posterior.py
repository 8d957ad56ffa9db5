"""What the label says of the masks, and the expected log-normalizer: from the same integral."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.predictive.quadrature import Part, blocks, log_dropped, log_kept, parts


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
        Posterior logits `[*, K]`, float32 at least; -inf for a class whose logit is -inf, NaN where
        that class is the target, which then has no probability.

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
    _check.boolean("target_kept", target_kept)
    found = [
        _mask_odds(part, target_kept, axis)
        for part in parts(
            logits,
            retain_logits,
            target,
            tolerance=tolerance,
            num_nodes=num_nodes,
            axis=axis,
        )
    ]
    return torch.cat(found).reshape(logits.shape)


def _mask_odds(part: Part, target_kept: bool, axis: ClassAxis) -> Tensor:
    """log P(z_k = 1, y) - log P(z_k = 0, y) `[n, K]`."""
    assert part.target is not None
    sums: list[Tensor] = []
    for block in blocks(part, axis):
        kept = log_kept(block)
        at_target = axis.pick(kept, part.target.unsqueeze(-1).expand(block.u.shape))
        weight = (block.u + block.log_survival + at_target).unsqueeze(-1)
        terms = (kept, log_dropped(block), torch.zeros_like(weight))
        found = [(weight + term).logsumexp(1) for term in terms]
        if sums:
            found = [torch.logaddexp(*pair) for pair in zip(sums, found, strict=True)]
        sums = found
    log_step = part.step.log().unsqueeze(-1)
    kept, dropped, at_all = (total + log_step for total in sums)
    if target_kept:
        rival, own = kept - dropped, torch.full_like(at_all, math.inf)
    else:
        none = axis.sum(F.logsigmoid(-part.retain_logits)).unsqueeze(-1)
        rival, own = kept - torch.logaddexp(dropped, none), at_all - none
    return torch.where(axis.one_hot(part.target, kept), own, rival)


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
        E log A `[*]` in nats, float32 at least; -inf where the logit of the target is.

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
    found = []
    for part in parts(
        logits,
        retain_logits,
        target,
        tolerance=tolerance,
        num_nodes=num_nodes,
        axis=axis,
    ):
        gates = part.retain_logits
        if part.target is not None:
            gates = gates.masked_fill(axis.one_hot(part.target, gates), math.inf)
        none = axis.sum(F.logsigmoid(-gates)).exp().unsqueeze(-1)
        total = torch.zeros_like(part.step)
        for block in blocks(part._replace(retain_logits=gates), axis):
            some = (1.0 - none) * torch.exp(-block.u.exp())
            total = total + (some - (block.log_survival.exp() - none)).sum(1)
        expected = total * part.step - axis.amax(part.logits)
        if part.target is not None:
            absent = axis.pick(part.logits, part.target) == -math.inf
            expected = expected.masked_fill(absent, -math.inf)
        found.append(expected)
    return torch.cat(found).reshape(logits.shape[:-1]) + axis.amax(at_least_float32(logits))

"""The exact predictive: the average over all 2^K hard masks, as one integral."""

from functools import reduce
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax.axis import LOCAL, ClassAxis
from dropmax.predictive.quadrature import Block, Part, Rule, blocks, log_kept, parts


def exact(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    *,
    tolerance: float | None = None,
    num_nodes: int | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch K"]:
    """Log-probabilities averaged over all hard masks, z_k ~ Bernoulli(rho_k), without sampling.

    With a_k = exp(logits_k), rho = sigmoid(retain_logits) and P0 = prod_k (1 - rho_k):

        p_t = rho_t a_t integral over s > 0 of exp(-a_t s)
                  prod over k != t of (1 - rho_k + rho_k exp(-a_k s)) ds  +  P0 softmax(logits)_t

    The last term is the mask that drops every class. A class of logit -inf is left out, as if it
    were not there. Time is nodes x instances x classes, memory instances x classes, forward and
    backward.

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        tolerance: Relative error that a probability may have before rounding; 1e-6 if None in
            float64, else 1e-4. The nodes are counted from the data, which on a GPU waits for it;
            within the tolerance a result depends on the instances beside it.
        num_nodes: The number of nodes, for compiled and exported code and where nothing may wait;
            `tolerance` then sets the range alone, and `error_bound` says what the error is.
        axis: Where the classes live.

    Returns:
        Log-probabilities `[*, K]` in nats, in the dtype of `logits`.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit, if logits are so far apart
            that 10,000 nodes are not enough, or if num_nodes is None in compiled code.

    Source:
        Ours: 1/A = integral of exp(-A s), and independence of the masks.

    Examples:
        >>> import torch
        >>> from dropmax.predictive import exact
        >>> logits, retain_logits = torch.zeros(2, dtype=torch.float64), torch.tensor([50.0, 0.0])
        >>> exact(logits, retain_logits.double()).exp()
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    found = [
        part.logits + _log_mass(part, axis)
        for part in parts(
            logits, retain_logits, tolerance=tolerance, num_nodes=num_nodes, axis=axis
        )
    ]
    return torch.cat(found).reshape(logits.shape).to(logits.dtype)


def log_marginal(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    tolerance: float | None = None,
    num_nodes: int | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """The log-likelihood of the target, averaged over all hard masks: `exact` at the target.

    Cheaper than `exact`, and what to maximize for training on the exact likelihood.

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        target: Class indices `[*]`.
        tolerance: As in `exact`.
        num_nodes: As in `exact`.
        axis: Where the classes live.

    Returns:
        Log-likelihood `[*]` in nats, float32 at least.

    Raises:
        ValueError: As `exact`, or if the target does not fit.

    Source:
        Ours, as `exact`.

    Examples:
        >>> import torch
        >>> from dropmax.predictive import log_marginal
        >>> logits = torch.zeros(2, dtype=torch.float64)
        >>> log_marginal(logits, logits, torch.tensor(1)).exp()
        tensor(0.5000, dtype=torch.float64)
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
        assert part.target is not None
        found.append(axis.pick(part.logits, part.target) + _log_mass(part, axis))
    return torch.cat(found).reshape(logits.shape[:-1])


def _log_mass(part: Part, axis: ClassAxis) -> Tensor:
    """log(p_k / a_k) of every class `[n, K]`, or of the target `[n]` where the part has one."""
    result = _LogMass.apply(  # type: ignore[no-untyped-call]
        *part, axis
    )
    assert isinstance(result, Tensor)
    return result


@no_type_check  # torch.compile traces it, which checks at run time would hinder
class _LogMass(torch.autograd.Function):
    """log of `integral of s sigmoid(retain_logits_k - a_k s) prod_j f_j(s) du + P0`.

    With w_t(u) the share of a node in the integral of class t, G_t the gradient that comes and
    s_k = sigmoid(retain_logits_k - a_k s), the backward pass sums over nodes

        pull_k = G_k w_k (1 - s_k) + s_k sum_t G_t w_t

    whose integral, less rho_k sum_t G_t, is the gradient of retain_logits_k, and with -a_k s under
    the integral that of logits_k. It computes the factors anew: plain autograd would keep every
    node.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor,
        retain_logits: Tensor,
        step: Tensor,
        target: Tensor | None,
        rule: Rule,
        axis: ClassAxis,
    ) -> Tensor:
        part = Part(logits, retain_logits, step, target, rule)
        found = (_log_integrand(block, target, axis).logsumexp(1) for block in blocks(part, axis))
        log_sum = reduce(torch.logaddexp, found)
        log_none = axis.sum(F.logsigmoid(-retain_logits))
        return torch.logaddexp(log_sum + _like(step.log(), log_sum), _like(log_none, log_sum))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.rule, ctx.axis = inputs
        ctx.save_for_backward(*tensors, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, retain_logits, step, target, log_mass = ctx.saved_tensors
        part, axis = Part(logits, retain_logits, step, target, ctx.rule), ctx.axis
        # a class without mass has -inf here, and its share must be 0, not NaN
        log_mass = log_mass.clamp(min=torch.finfo(log_mass.dtype).min)
        log_scale = (_like(step.log(), log_mass) - log_mass).unsqueeze(1)
        grad_logits, grad_retain = torch.zeros_like(logits), torch.zeros_like(logits)
        for block in blocks(part, axis):
            log_share = _log_integrand(block, target, axis) + log_scale
            share = grad.unsqueeze(1) * log_share.exp()
            kept = log_kept(block).exp()
            if target is None:
                pull = share * (1.0 - kept) + axis.sum(share).unsqueeze(-1) * kept
            else:
                is_target = axis.one_hot(target, logits).unsqueeze(1)
                pull = share.unsqueeze(-1) * kept.masked_fill(is_target, 1.0)
            grad_logits = grad_logits - (pull * block.rate).sum(1)
            grad_retain = grad_retain + pull.sum(1)
        total = axis.sum(grad) if target is None else grad
        grad_retain = grad_retain - retain_logits.sigmoid() * total.unsqueeze(-1)
        return grad_logits, grad_retain, None, None, None, None


def _log_integrand(block: Block, target: Tensor | None, axis: ClassAxis) -> Tensor:
    """The integrand's logarithm, of every class `[n, Q, K]` or of the target `[n, Q]`."""
    common = block.u + block.log_survival
    if target is None:
        return log_kept(block).add_(common.unsqueeze(-1))
    return common + axis.pick(log_kept(block), target.unsqueeze(-1).expand(block.u.shape))


def _like(x: Tensor, other: Tensor) -> Tensor:
    """`x` [n], shaped to go with `other`, [n] or [n, K]."""
    return x.unsqueeze(-1) if other.ndim > 1 else x

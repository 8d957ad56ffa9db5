"""The exact predictive: the average over all 2^K hard masks, as one integral."""

from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax.axis import LOCAL, ClassAxis
from dropmax.predictive.quadrature import Block, Rule, node_blocks, prepare, row_blocks


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
            float64, else 1e-4. The nodes are counted from the data, which on a GPU waits for it.
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
    scores, gates, rule = prepare(
        "exact", logits, retain_logits, tolerance=tolerance, num_nodes=num_nodes, axis=axis
    )
    log_probs = scores + _log_mass(scores, gates, rule, None, axis)
    return log_probs.reshape(logits.shape).to(logits.dtype)


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
    scores, gates, rule = prepare(
        "log_marginal", logits, retain_logits, tolerance=tolerance, num_nodes=num_nodes, axis=axis
    )
    _check.class_target("log_marginal", target, logits, axis.num_classes(logits))
    target = target.long().reshape(-1)
    log_probs = axis.pick(scores, target) + _log_mass(scores, gates, rule, target, axis)
    return log_probs.reshape(logits.shape[:-1])


def _log_mass(
    logits: Tensor, retain_logits: Tensor, rule: Rule, target: Tensor | None, axis: ClassAxis
) -> Tensor:
    """log(p_k / a_k) of log-softmax logits: of every class `[N, K]`, or of the target `[N]`."""
    result = _LogMass.apply(  # type: ignore[no-untyped-call]
        logits, retain_logits, rule.step, rule.left, rule.num_nodes, target, axis
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
        left: float,
        num_nodes: int,
        target: Tensor | None,
        axis: ClassAxis,
    ) -> Tensor:
        rule = Rule(step, left, num_nodes)
        parts = []
        for rows in row_blocks(logits, axis):
            log_sum: Tensor | None = None
            for block in node_blocks(logits, retain_logits, rule, rows, axis):
                found = _log_integrand(block, target, rows, axis).logsumexp(1)
                log_sum = found if log_sum is None else torch.logaddexp(log_sum, found)
            assert log_sum is not None
            log_none = axis.sum(F.logsigmoid(-retain_logits[rows]))
            log_step, log_none = (_like(x, log_sum) for x in (step[rows].log(), log_none))
            parts.append(torch.logaddexp(log_sum + log_step, log_none))
        return torch.cat(parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, retain_logits, step, ctx.left, ctx.num_nodes, target, ctx.axis = inputs
        ctx.save_for_backward(logits, retain_logits, step, target, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, retain_logits, step, target, log_mass = ctx.saved_tensors
        rule, axis = Rule(step, ctx.left, ctx.num_nodes), ctx.axis
        # a class without mass has -inf here, and its share must be 0, not NaN
        log_mass = log_mass.clamp(min=torch.finfo(log_mass.dtype).min)
        grad_logits, grad_retain = [], []
        for rows in row_blocks(logits, axis):
            each, log_scale = grad[rows], _like(step[rows].log(), grad[rows]) - log_mass[rows]
            to_logits, to_retain = (torch.zeros_like(logits[rows]) for _ in range(2))
            for block in node_blocks(logits, retain_logits, rule, rows, axis):
                log_share = _log_integrand(block, target, rows, axis) + log_scale.unsqueeze(1)
                share = each.unsqueeze(1) * log_share.exp()
                kept = block.log_kept.exp()
                if target is None:
                    pull = share * (1.0 - kept) + axis.sum(share).unsqueeze(-1) * kept
                else:
                    is_target = axis.one_hot(target[rows], logits[rows]).unsqueeze(1)
                    pull = share.unsqueeze(-1) * kept.masked_fill(is_target, 1.0)
                to_logits = to_logits - (pull * block.rate).sum(1)
                to_retain = to_retain + pull.sum(1)
            total = axis.sum(each) if target is None else each
            grad_logits.append(to_logits)
            grad_retain.append(to_retain - retain_logits[rows].sigmoid() * total.unsqueeze(-1))
        return torch.cat(grad_logits), torch.cat(grad_retain), None, None, None, None, None


def _log_integrand(block: Block, target: Tensor | None, rows: slice, axis: ClassAxis) -> Tensor:
    """The integrand's logarithm, of every class `[n, Q, K]` or of the target `[n, Q]`."""
    common = block.u + block.log_survival
    if target is None:
        return common.unsqueeze(-1) + block.log_kept
    return common + axis.pick(block.log_kept, target[rows, None].expand(block.u.shape))


def _like(x: Tensor, other: Tensor) -> Tensor:
    """`x` [n], shaped to go with `other`, [n] or [n, K]."""
    return x.unsqueeze(-1) if other.ndim > 1 else x

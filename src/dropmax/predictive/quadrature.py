"""The one integral behind the exact predictive, and the trapezoid rule that evaluates it.

With a_k = exp(logits_k), logits shifted so that sum_k a_k = 1, and s = exp(u), every average over
the 2^K masks is an integral over u of products of the factors

    f_k(u) = E exp(-z_k a_k s) = 1 - rho_k + rho_k exp(-a_k s)

The integrands are smooth, may have up to K bumps, and vanish on both sides: the trapezoid rule
converges geometrically in its step, whatever the logits and the gates. It runs over blocks of
nodes, so that no tensor of all nodes and classes is ever held.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.predictive.bound import cuts, left_cut_error, right_cut_error, trapezoid_error

MAX_NODES = 10_000
"""More nodes than that are refused: logits some 5,000 nats apart."""

BLOCK_ELEMENTS = (3 * 2**11, 2**16)
"""A block, instances x nodes x classes, has a sixth of the elements of all scores, within these
limits: its temporaries stay in the cache, and are no more than the scores together."""

DEVICE_BLOCK_ELEMENTS = 2**24
"""The same elsewhere than on the CPU, where starting a kernel costs more than memory."""

TRACED_NODES = 8
"""Nodes of a block in compiled code, which does not know how many instances there are."""

_LOG_RATE_LIMIT = 60.0
"""exp(-exp(60)) is 0: rates are cut there, before they overflow."""


class Rule(NamedTuple):
    """Where the nodes of some instances lie: u_j = step j - left, j = 1 ... num_nodes.

    Attributes:
        left: How far left of 0 the range begins.
        num_nodes: How many they are.
        block_elements: Instances x nodes x classes of a block, at most.
    """

    left: float
    num_nodes: int
    block_elements: int


class Part(NamedTuple):
    """Some of the instances.

    Attributes:
        logits: Log-softmax of the class scores `[n, K]`, float32 at least.
        retain_logits: Of the retain probabilities `[n, K]`; -inf where the logit is: a class whose
            logit is -inf is deleted.
        step: The distance of two nodes `[n]`.
        target: Class indices `[n]`, or None.
        rule: What is the same for all of them.
    """

    logits: Tensor
    retain_logits: Tensor
    step: Tensor
    target: Tensor | None
    rule: Rule


def parts(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    target: Tensor | None = None,
    *,
    tolerance: float | None,
    num_nodes: int | None,
    axis: ClassAxis,
) -> Iterator[Part]:
    """The instances in parts of which a block of nodes is cheap to hold; checked.

    Nodes are counted from the data where `num_nodes` is None. Compiled code gets one part.
    """
    _check.class_tensors(logits, axis, retain_logits=retain_logits)
    num_classes = axis.num_classes(logits)
    if target is not None:
        _check.class_target(target, logits, num_classes)
        target = target.long().reshape(-1)
    flat, gates = (
        at_least_float32(x).flatten(0, -2) if x.ndim > 1 else at_least_float32(x).unsqueeze(0)
        for x in (logits, retain_logits)
    )
    tolerance = _tolerance(tolerance, flat.dtype)
    low, high = BLOCK_ELEMENTS
    elements = high
    tensors = [flat, gates] if target is None else [flat, gates, target]
    split = [tensors]
    if not torch.compiler.is_compiling():
        elements = min(max(len(flat) * num_classes // 6, low), high)
        if flat.device.type != "cpu":
            elements = DEVICE_BLOCK_ELEMENTS
        size = max(elements // num_classes, 1)
        split = [list(rows) for rows in zip(*(torch.split(x, size) for x in tensors), strict=True)]
    for scores, gate, *targets in split:
        scores = axis.log_softmax(scores)
        gate = gate.masked_fill(scores == -math.inf, -math.inf)
        step, left, count = _nodes(scores, tolerance, num_nodes, axis)
        rule = Rule(left, count, elements)
        yield Part(scores, gate, step, targets[0] if targets else None, rule)


def _tolerance(tolerance: float | None, dtype: torch.dtype) -> float:
    """The tolerance that was asked for, or the default of a dtype."""
    if tolerance is None:
        return 1e-6 if dtype == torch.float64 else 1e-4
    _check.number("tolerance", tolerance, low=1e-15, high=0.5, open_low=True, open_high=True)
    return tolerance


@torch.no_grad()
def _nodes(
    logits: Tensor, tolerance: float, num_nodes: int | None, axis: ClassAxis
) -> tuple[Tensor, float, int]:
    """Step `[n]`, left end and number of the nodes for log-softmax logits `[n, K]`."""
    step, left, right = cuts(tolerance)
    lowest = -axis.amax(-logits.masked_fill(logits == -math.inf, 0.0))
    width = left + right - lowest
    if num_nodes is None:
        num_nodes = _count(width, step)
    else:
        _check.integer("num_nodes", num_nodes, low=1)
    return width / num_nodes, left, num_nodes


def _count(width: Tensor, step: float) -> int:
    """The nodes that the widest range needs."""
    if not _check.concrete(width):
        got = _check.Verbatim("None in compiled, traced or transformed code")
        remedy = "pass num_nodes=128; error_bound says what that gives"
        _check.fail("num_nodes", "be given", got, remedy)
    if width.numel() == 0:
        return 1
    widest = float(width.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).max())
    num_nodes = max(math.ceil(widest / step), 1)
    if num_nodes > MAX_NODES:
        got = _check.Verbatim(f"a range of {widest:.0f} nats, {num_nodes} nodes")
        must = f"be so close together that {MAX_NODES} nodes are enough"
        remedy = "allow a larger tolerance or give num_nodes, where the function takes them"
        _check.fail("logits", must, got, remedy)
    return num_nodes


class Block(NamedTuple):
    """The factors at some nodes of some instances.

    Attributes:
        u: The nodes `[n, Q]`.
        rate: a_k s `[n, Q, K]`.
        log_silent: log of rho_k exp(-a_k s) `[n, Q, K]`: retained, and its clock of rate a_k has
            not rung by s.
        log_not_rho: log of 1 - rho_k `[n, 1, K]`.
        log_factor: log f_k `[n, Q, K]`, the logarithm of the sum of the two.
        log_survival: sum over k of log f_k `[n, Q]`.
    """

    u: Tensor
    rate: Tensor
    log_silent: Tensor
    log_not_rho: Tensor
    log_factor: Tensor
    log_survival: Tensor


def log_kept(block: Block) -> Tensor:
    """log of rho_k exp(-a_k s) / f_k `[n, Q, K]`: z_k = 1, given that no clock has rung by s."""
    return block.log_silent - block.log_factor


def log_dropped(block: Block) -> Tensor:
    """log of (1 - rho_k) / f_k `[n, Q, K]`."""
    return block.log_not_rho - block.log_factor


def blocks(part: Part, axis: ClassAxis) -> Iterator[Block]:
    """The factors of a part, a block of nodes after the other."""
    logits, retain_logits = part.logits.unsqueeze(1), part.retain_logits.unsqueeze(1)
    log_rho, log_not_rho = F.logsigmoid(retain_logits), F.logsigmoid(-retain_logits)
    rho = retain_logits.sigmoid()
    size = TRACED_NODES
    if not torch.compiler.is_compiling():
        size = max(part.rule.block_elements // max(len(logits) * axis.num_classes(logits), 1), 1)
    for first in range(1, part.rule.num_nodes + 1, size):
        last = min(first + size, part.rule.num_nodes + 1)
        index = torch.arange(first, last, dtype=logits.dtype, device=logits.device)
        u = part.step.unsqueeze(-1) * index - part.rule.left
        rate = (logits + u.unsqueeze(-1)).clamp(max=_LOG_RATE_LIMIT).exp_()
        log_silent = log_rho - rate
        log_factor = _log_factor(rho * torch.expm1(-rate), log_silent, log_not_rho)
        yield Block(u, rate, log_silent, log_not_rho, log_factor, axis.sum(log_factor))


def _log_factor(change: Tensor, log_silent: Tensor, log_not_rho: Tensor) -> Tensor:
    """log f `[n, Q, K]` from f - 1 and from the logarithms of its summands.

    Near 0 it is log1p(f - 1), of which many classes may be summed; where f is below a half it is
    the log-sum-exp of its summands, which do not underflow.
    """
    near = change > -0.5
    gap = (log_silent - log_not_rho).abs_().neg_().exp_()
    tail = torch.log1p(torch.where(near, change, gap))
    return torch.where(near, tail, torch.maximum(log_not_rho, log_silent).add_(tail))


def error_bound(
    logits: Float[Tensor, "*batch K"],
    *,
    num_nodes: int,
    tolerance: float | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """The proven bound on the relative error of `exact` and `log_marginal` with so many nodes.

    The sum of what the trapezoid rule and the two cuts of its range may be off, for each instance:
    `2 sum over n >= 1 of |Gamma(1 + 2 pi i n / h)| + exp(-L) h / (1 - exp(-h)) + exp(-exp(R))`,
    h the step, L and R the margins of the range, whatever the retain probabilities. Rounding comes
    on top.

    Args:
        logits: Class scores `[*, K]`.
        num_nodes: Nodes of the rule.
        tolerance: Of the range, as in `exact`.
        axis: Where the classes live.

    Returns:
        Relative error of probabilities `[*]`, in the dtype of `logits` and float32 at least.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Source:
        Ours: Poisson summation, see the documentation's page on the exact predictive.

    Examples:
        >>> import torch
        >>> from dropmax.predictive import error_bound
        >>> logits = torch.tensor([5.0, 0.0, -5.0], dtype=torch.float64)
        >>> print(f"{error_bound(logits, num_nodes=64):.0e}")
        6e-07
    """
    _check.integer("num_nodes", num_nodes, low=1)
    _check.class_tensors(logits, axis)
    scores = axis.log_softmax(at_least_float32(logits.detach()))
    tolerance = _tolerance(tolerance, scores.dtype)
    step, left, _ = _nodes(scores, tolerance, num_nodes, axis)
    right = right_cut_error(cuts(tolerance).right)
    return trapezoid_error(step) + left_cut_error(step, left) + right

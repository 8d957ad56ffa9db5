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
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis

MAX_NODES = 10_000
"""More nodes than that are refused: logits some 5,000 nats apart."""

BLOCK_ELEMENTS = 2**16
"""Elements of a block, instances x nodes x classes: temporaries that stay in the cache."""

TRACED_NODES = 8
"""Nodes of a block in compiled and traced code, whose batch is not known."""

_LOG_RATE_LIMIT = 60.0
"""exp(-exp(60)) is 0: rates are cut there, before they overflow."""


class Cuts(NamedTuple):
    """What a tolerance asks for.

    Attributes:
        step: The largest step of the rule.
        left: The range begins so many nats left of 0, ...
        right: ... and ends so many right of the smallest logit's.
    """

    step: float
    left: float
    right: float


def trapezoid_error(step: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The relative error of the trapezoid rule on exp(u - exp(u)), an upper bound for every mask.

    `2 sum over n >= 1 of |Gamma(1 + 2 pi i n / step)|`, by Poisson summation, where
    |Gamma(1 + iy)|^2 = pi y / sinh(pi y); about `4 pi / sqrt(step) exp(-pi^2 / step)`. Infinity
    where the step is above 20 nats: no digit is right then.
    """
    order = torch.arange(1, 65, dtype=step.dtype, device=step.device)
    z = 2.0 * math.pi**2 * order / step.unsqueeze(-1)
    log_square = (2.0 * z).log() - z - torch.log1p(-torch.exp(-2.0 * z))
    return (2.0 * (0.5 * log_square).exp().sum(-1)).masked_fill(step > 20.0, math.inf)


def left_cut_error(step: Float[Tensor, "*batch"], left: float) -> Float[Tensor, "*batch"]:
    """The relative weight of the nodes at `-left` and left of it, an upper bound."""
    return math.exp(-left) * step / -torch.expm1(-step)


def right_cut_error(right: float) -> float:
    """The relative weight of the nodes more than `right` beyond the smallest logit's, at most."""
    return math.exp(-math.exp(right))


def cuts(tolerance: float) -> Cuts:
    """Step and range whose three errors sum to less than the tolerance.

    A fifth to the rule, by its leading term, two fifths to the left cut, a fifth to the right one.
    """
    step = 0.5
    for _ in range(30):
        step = math.pi**2 / math.log(20.0 * math.pi / (tolerance * math.sqrt(step)))
    left = math.log(2.5 / tolerance * step / -math.expm1(-step))
    return Cuts(step, left, math.log(math.log(5.0 / tolerance)))


class Rule(NamedTuple):
    """The nodes of each instance: u_j = step j - left, j = 1 ... num_nodes."""

    step: Tensor
    left: float
    num_nodes: int


def default_tolerance(dtype: torch.dtype) -> float:
    """1e-6 in float64, else 1e-4."""
    return 1e-6 if dtype == torch.float64 else 1e-4


def prepare(
    function: str,
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    *,
    tolerance: float | None,
    num_nodes: int | None,
    axis: ClassAxis,
) -> tuple[Tensor, Tensor, Rule]:
    """Log-softmax of the logits and gates, both `[N, K]` in float32 at least, and their rule.

    A class whose logit is -inf is deleted: its gate is closed. Nodes are counted from the data
    where `num_nodes` is None.
    """
    _check.class_tensors(function, logits, retain_logits=retain_logits)
    num_classes = logits.shape[-1]
    logits = axis.log_softmax(at_least_float32(logits).reshape(-1, num_classes))
    retain_logits = at_least_float32(retain_logits).reshape(-1, num_classes)
    retain_logits = retain_logits.masked_fill(logits == -math.inf, -math.inf)
    return logits, retain_logits, _rule(function, logits, tolerance, num_nodes, axis)


@torch.no_grad()
def _rule(
    function: str, logits: Tensor, tolerance: float | None, num_nodes: int | None, axis: ClassAxis
) -> Rule:
    """The rule of log-softmax logits `[N, K]`."""
    if tolerance is None:
        tolerance = default_tolerance(logits.dtype)
    _check.number(
        function, "tolerance", tolerance, low=1e-15, high=0.5, open_low=True, open_high=True
    )
    step, left, right = cuts(tolerance)
    lowest = -axis.amax(-logits.masked_fill(logits == -math.inf, 0.0))
    width = left + right - lowest
    if num_nodes is None:
        num_nodes = _count(function, width, step)
    else:
        _check.integer(function, "num_nodes", num_nodes, low=1)
    return Rule(width / num_nodes, left, num_nodes)


def _count(function: str, width: Tensor, step: float) -> int:
    """The nodes that the widest range needs."""
    if not _check.concrete(width):
        got = _check.Verbatim("None in compiled, traced or transformed code")
        remedy = "pass num_nodes=128; error_bound says what that gives"
        _check.fail(function, "num_nodes", "be given", got, remedy)
    if width.numel() == 0:
        return 1
    widest = float(width.max().nan_to_num(posinf=0.0))
    num_nodes = max(math.ceil(widest / step), 1)
    if num_nodes > MAX_NODES:
        got = _check.Verbatim(f"a range of {widest:.0f} nats, {num_nodes} nodes")
        must = f"be so close together that {MAX_NODES} nodes are enough"
        remedy = "pass a larger tolerance or num_nodes, or predict with plugin"
        _check.fail(function, "logits", must, got, remedy)
    return num_nodes


class Block(NamedTuple):
    """The factors at some nodes of some instances.

    Attributes:
        u: The nodes `[n, Q]`.
        rate: a_k s `[n, Q, K]`.
        log_survival: sum over k of log f_k `[n, Q]`.
        log_kept: log of rho_k exp(-a_k s) / f_k `[n, Q, K]`, the probability that z_k = 1 where
            the clock of rate sum_k z_k a_k has not rung by s.
        log_dropped: log of (1 - rho_k) / f_k `[n, Q, K]`.
    """

    u: Tensor
    rate: Tensor
    log_survival: Tensor
    log_kept: Tensor
    log_dropped: Tensor


def row_blocks(logits: Tensor, axis: ClassAxis) -> Iterator[slice]:
    """Instances of log-softmax logits `[N, K]` in parts; all at once in traced code."""
    if torch.compiler.is_compiling():
        yield slice(None)
        return
    rows = max(BLOCK_ELEMENTS // axis.num_classes(logits), 1)
    for start in range(0, max(len(logits), 1), rows):
        yield slice(start, start + rows)


def node_blocks(
    logits: Tensor, retain_logits: Tensor, rule: Rule, rows: slice, axis: ClassAxis
) -> Iterator[Block]:
    """The factors of some instances, a block of nodes after the other."""
    logits, retain_logits = logits[rows, None], retain_logits[rows, None]
    log_rho, log_not_rho = F.logsigmoid(retain_logits), F.logsigmoid(-retain_logits)
    size = TRACED_NODES
    if not torch.compiler.is_compiling():
        size = max(BLOCK_ELEMENTS // max(len(logits) * axis.num_classes(logits), 1), 1)
    for first in range(1, rule.num_nodes + 1, size):
        last = min(first + size, rule.num_nodes + 1)
        index = torch.arange(first, last, dtype=logits.dtype, device=logits.device)
        u = rule.step[rows, None] * index - rule.left
        rate = (logits + u.unsqueeze(-1)).clamp(max=_LOG_RATE_LIMIT).exp()
        margin = retain_logits - rate
        softplus = torch.log1p(torch.exp(-margin.abs()))
        # log f = log((1 - rho) + rho exp(-rate)), exact where either summand underflows
        log_factor = torch.maximum(log_not_rho, log_rho - rate) + softplus
        yield Block(
            u,
            rate,
            axis.sum(log_factor),
            margin.clamp(max=0.0) - softplus,
            (-margin).clamp(max=0.0) - softplus,
        )


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
    _check.integer("error_bound", "num_nodes", num_nodes, low=1)
    gates = torch.zeros_like(logits)
    _, _, rule = prepare(
        "error_bound", logits, gates, tolerance=tolerance, num_nodes=num_nodes, axis=axis
    )
    right = cuts(default_tolerance(rule.step.dtype) if tolerance is None else tolerance).right
    bound = trapezoid_error(rule.step) + left_cut_error(rule.step, rule.left)
    bound = bound + right_cut_error(right)
    return bound.reshape(logits.shape[:-1])

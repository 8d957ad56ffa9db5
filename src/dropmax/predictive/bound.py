"""What the trapezoid rule may be off, and the step and range that keep a tolerance."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


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

    A fifth to the rule, two to the left cut, one to the right cut; the last is kept, as the step is
    chosen by the leading term of its error.
    """
    step = 0.5
    for _ in range(30):
        step = math.pi**2 / math.log(20.0 * math.pi / (tolerance * math.sqrt(step)))
    left = math.log(2.5 / tolerance * step / -math.expm1(-step))
    return Cuts(step, left, math.log(math.log(5.0 / tolerance)))

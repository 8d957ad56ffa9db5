"""Sets of classes that hold the true one with a chosen probability, whatever the model."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL


class ConformalSets(NamedTuple):
    """Split conformal sets, fitted on held-out instances.

    Attributes:
        level: The coverage that was asked for, in (0, 1).
        threshold: Classes whose score is at most this are in the set.
    """

    level: float
    threshold: float

    def sets(
        self,
        log_probs: Float[Tensor, "N K"],
        *,
        generator: torch.Generator | None = None,
    ) -> Bool[Tensor, "N K"]:
        """Which classes are in the set of each instance `[N, K]`; a set may be empty.

        Args:
            log_probs: What the sets were fitted on, of new instances `[N, K]`.
            generator: The source of the randomisation; the default one if None.
        """
        return class_scores(log_probs, generator=generator) <= self.threshold


def fit_conformal(
    log_probs: Float[Tensor, "N K"],
    target: Int[Tensor, " N"],
    *,
    level: float = 0.9,
    generator: torch.Generator | None = None,
) -> ConformalSets:
    """Fit sets of classes that hold the true one with a chosen probability.

    A set has the most probable classes, down to a threshold. The score of class k is the
    probability of all more probable classes and a random part of its own: the sum of p_j over
    p_j > p_k, plus u p_k. The threshold is the ceil(level (N + 1)) / N quantile of the scores of
    the true classes on held-out instances. A set then holds the true class of a new instance with
    a probability of at least `level`, and at most level + 1 / (N + 1).

    Args:
        log_probs: Log-probabilities `[N, K]` of held-out instances: by the plug-in, which uses the
            gate, by the class scores alone (`scores.logits.log_softmax(-1)`), by the exact
            predictive, or by another model.
        target: Their classes `[N]`.
        level: The probability to hold the true class, in (0, 1).
        generator: The source of the random part; the default one if None.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Source:
        Romano et al. 2020, "Classification with Valid and Adaptive Coverage".

    Examples:
        >>> import torch
        >>> from dropmax.analysis import fit_conformal
        >>> generator = torch.Generator().manual_seed(0)
        >>> log_probs = torch.randn(3_000, 10, generator=generator).mul(2.0).log_softmax(-1)
        >>> target = torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(1)
        >>> conformal = fit_conformal(log_probs[:1_500], target[:1_500], generator=generator)
        >>> sets = conformal.sets(log_probs[1_500:], generator=generator)
        >>> abs(sets.gather(1, target[1_500:, None]).float().mean().item() - 0.9) < 0.03
        True
    """
    return sets_at(level, scores_of_target(log_probs, target, generator=generator))


def scores_of_target(
    log_probs: Float[Tensor, "N K"],
    target: Int[Tensor, " N"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " N"]:
    """The scores `[N]` of the true classes, in order: all that sets of any level are fitted to.

    Raises:
        ValueError: If a shape, dtype or value does not fit.
    """
    _check_rows(log_probs)
    _check.class_target(target, log_probs, log_probs.shape[-1])
    scores = class_scores(log_probs, generator=generator)
    return LOCAL.pick(scores, target.long()).sort().values


def sets_at(level: float, scores: Float[Tensor, " N"]) -> ConformalSets:
    """The sets of a level by the ordered scores `[N]` of true classes.

    Raises:
        ValueError: If the level is not in (0, 1).
    """
    _check.number("level", level, low=0.0, high=1.0, open_low=True, open_high=True)
    rank = math.ceil(level * (len(scores) + 1))
    return ConformalSets(level, math.inf if rank > len(scores) else scores[rank - 1].item())


def class_scores(
    log_probs: Float[Tensor, "N K"], *, generator: torch.Generator | None = None
) -> Float[Tensor, "N K"]:
    """The probability of the more probable classes, and a random part of the class's own.

    Raises:
        ValueError: If a shape, dtype or value does not fit.
    """
    _check_rows(log_probs)
    device = log_probs.device if generator is None else generator.device
    uniforms = torch.rand(len(log_probs), 1, generator=generator, device=device)
    probs = at_least_float32(log_probs).exp()
    ordered, order = probs.sort(dim=-1, descending=True)
    above = ordered.cumsum(-1) - ordered
    own = uniforms.to(log_probs.device) * ordered
    return torch.empty_like(probs).scatter_(-1, order, above + own)


def _check_rows(log_probs: Tensor) -> None:
    _check.class_tensors(log_probs)
    if log_probs.ndim != 2:
        _check.fail("log_probs", "be rows [N, K]", log_probs, "flatten the batch axes")
    if log_probs.isnan().any():
        _check.fail("log_probs", "hold numbers", log_probs, "leave out what is NaN")

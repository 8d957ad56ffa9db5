"""Which instances of a batch count in its loss, and how much."""

from typing import NamedTuple, no_type_check

import torch
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import ClassAxis
from dropmax.functional.objective import Objective

REDUCTIONS = ("none", "mean", "sum")

IGNORE_INDEX = -100
"""The class index of an instance that does not count, as in torch."""


@no_type_check  # torch.compile makes one, which checks at run time would hinder
class Instances(NamedTuple):
    """The instances of a batch: their labels, and their weights in sum and mean.

    Attributes:
        target: Class indices `[*]`, 0 in the place of ignore_index, or probabilities `[*, K]`.
        ignored: Which do not count `[*]`, whatever their loss; None where all do.
        sample_weight: What the objective of an instance is multiplied by `[*]`; ones if None.
        divisor: What the mean divides by: the sum of all weights, or the number where none is.
    """

    target: Tensor
    ignored: Tensor | None
    sample_weight: Tensor | None
    divisor: Tensor

    @classmethod
    def of(
        cls,
        target: Tensor,
        logits: Tensor,
        *,
        weight: Tensor | None,
        ignore_index: int,
        sample_weight: Tensor | None,
        axis: ClassAxis,
    ) -> "Instances":
        """The instances in the arguments of a loss of logits `[*, K]`, checked."""
        if sample_weight is not None:
            _check.sample_weight(sample_weight, logits)
        dtype = at_least_float32(logits).dtype
        counts = torch.ones(logits.shape[:-1], dtype=dtype, device=logits.device)
        ignored = None
        if isinstance(target, Tensor) and target.is_floating_point():
            where = "where target holds class probabilities"
            _check.default("ignore_index", ignore_index, IGNORE_INDEX, where)
        else:
            _check.class_indices(target, logits)
            _check.integer("ignore_index", ignore_index)
            target = target.long()  # or the index would wrap around in a narrow dtype
            ignored = target == ignore_index
            target = target.masked_fill(ignored, 0)
            _check.class_target(target, logits, axis.num_classes(logits))
            if weight is not None:
                _check.class_weight(weight, logits)
                counts = axis.pick(weight.to(dtype).expand(logits.shape), target)
            counts = counts.masked_fill(ignored, 0.0)
        if sample_weight is not None:
            sample_weight = sample_weight.to(dtype)
            counts = counts * sample_weight
            weightless = sample_weight == 0.0
            ignored = weightless if ignored is None else ignored | weightless
        return cls(target, ignored, sample_weight, counts.sum())

    def reduced(self, objective: Objective, reduction: str) -> Objective:
        """The objective of each instance, weighted; or their sum or mean, 0 where none counts."""
        return Objective(*(self.reduced_term(term, reduction) for term in objective))

    def factors(self, reduction: str) -> Tensor:
        """What each instance's objective is multiplied by in a sum or a mean `[*]`."""
        counts = self.sample_weight
        if counts is None:
            like = self.target[..., 0] if self.target.is_floating_point() else self.target
            counts = torch.ones_like(like, dtype=self.divisor.dtype)
        if self.ignored is not None:
            counts = counts.masked_fill(self.ignored, 0.0)
        return counts if reduction == "sum" else counts / self._mean_divisor()

    def _mean_divisor(self) -> Tensor:
        return torch.where(self.divisor > 0.0, self.divisor, 1.0)

    def reduced_term(self, term: Tensor, reduction: str) -> Tensor:
        """A term of each instance `[*]`, weighted; or the sum or mean of it."""
        if self.ignored is not None:
            term = term.masked_fill(self.ignored, 0.0)
        if self.sample_weight is not None:
            term = term * self.sample_weight
        if reduction == "none":
            return term
        total = term.sum()
        if reduction == "sum":
            return total
        return total / self._mean_divisor()

"""What the label says of an instance: its class or the probabilities of classes, weighted."""

from typing import NamedTuple, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis


@no_type_check  # torch.compile makes one, which checks at run time would hinder
class Label(NamedTuple):
    """A label y, over which every loss is an expectation.

    With probabilities w of the classes (1 at one of them where the label is an index) and class
    weights W, v_k = W_k w_k is the mass of class k.

    Attributes:
        target: Class indices `[*]`, int64, or the masses of the classes `[*, K]`.
        weight: Class weights `[K]`; ones if None.
        smoothing: The share e of the label that the nll spreads over all classes.
        axis: Where the classes live.
    """

    target: Tensor
    weight: Tensor | None = None
    smoothing: float = 0.0
    axis: ClassAxis = LOCAL

    @classmethod
    def of(
        cls,
        target: Tensor,
        logits: Float[Tensor, "*batch K"],
        *,
        weight: Tensor | None,
        label_smoothing: float,
        axis: ClassAxis,
    ) -> "Label":
        """The label in the arguments of a loss of `logits`, checked."""
        _check.label(target, logits, axis.num_classes(logits))
        _check.number("label_smoothing", label_smoothing, low=0.0, high=1.0)
        dtype = at_least_float32(logits).dtype
        if weight is not None:
            _check.class_weight(weight, logits)
            weight = weight.to(dtype)
        target = target.to(dtype) if target.is_floating_point() else target.long()
        if weight is not None and target.is_floating_point():
            target = target * weight
        return cls(target, weight, label_smoothing, axis)

    @property
    def is_index(self) -> bool:
        """Whether the label names one class."""
        return not self.target.is_floating_point()

    @property
    def is_one_class(self) -> bool:
        """Whether the nll, too, is that of one class alone."""
        return self.is_index and self.smoothing == 0.0

    def masses(self, like: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
        """The masses v_k of the classes, in the shape of `like`."""
        if not self.is_index:
            return self.target
        one_hot = self.axis.one_hot(self.target, like).to(like.dtype)
        return one_hot if self.weight is None else one_hot * self.weight

    def expected(self, of_class: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """sum over k of v_k x_k, from what x is where class k is the target."""
        if self.is_index:
            target = self.target.expand(of_class.shape[:-1])
            return self.scaled(self.axis.pick(of_class, target))
        impossible = of_class.isinf() & (self.target == 0.0)
        return self.axis.sum(self.target * of_class.masked_fill(impossible, 0.0))

    def scaled(self, of_any: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """x sum over k of v_k, for an x that is the same whatever class is the target."""
        if not self.is_index:
            return of_any * self.axis.sum(self.target)
        if self.weight is None:
            return of_any
        weight = self.axis.pick(self.weight.expand(*self.target.shape, -1), self.target)
        return of_any.masked_fill(weight == 0.0, 0.0) * weight

    def split(
        self, of_target: Float[Tensor, "*batch K"], of_rival: Float[Tensor, "*batch K"]
    ) -> Float[Tensor, "*batch"]:
        """sum over k of v_k a_k + (sum over j != k of v_j) b_k: each class target or rival."""
        if self.is_index:
            is_target = self.axis.one_hot(self.target, of_target)
            return self.scaled(self.axis.sum(torch.where(is_target, of_target, of_rival)))
        rest = self.axis.sum(self.target).unsqueeze(-1) - self.target
        return self.axis.sum(self.target * of_target + rest * of_rival)

    def nll(self, nll_of_class: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """sum over k of W_k ((1 - e) w_k + e/K) nll_k.

        The smoothing spreads nothing to a class that cannot be (nll infinite: logit -inf).
        """
        expected = self.expected(nll_of_class)
        if self.smoothing == 0.0:
            return expected
        spread = nll_of_class.masked_fill(nll_of_class.isinf(), 0.0)
        if self.weight is not None:
            spread = spread * self.weight
        share = self.smoothing / self.axis.num_classes(nll_of_class)
        return (1.0 - self.smoothing) * expected + share * self.axis.sum(spread)

    def reduced(self, nll: Float[Tensor, "..."]) -> Float[Tensor, "*batch"]:
        """The label's nll, from that of its class `[*]` where it is one, else of every class."""
        return self.scaled(nll) if self.is_one_class else self.nll(nll)

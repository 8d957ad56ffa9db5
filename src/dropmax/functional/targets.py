"""The arguments and the value of a loss: labels, instances that count, the objective."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.errors import DropmaxAttributeError, DropmaxTypeError

REDUCTIONS = ("none", "mean", "sum")

IGNORE_INDEX = -100
"""The class index of an instance that does not count, as in torch."""


_OF_TOTAL = ("backward", "detach", "item", "mean", "sum")


class Objective(NamedTuple):
    """A loss and its terms, in nats; `total` is their sum and a term that is absent is zeros.

    The total may be negative: `neg_entropy` lies between 0 and -log 2 for each class, times its
    weight. Watch `nll` to see how well the classes are told apart.

    Attributes:
        total: What is minimized: call `objective.total.backward()`.
        nll: Negative log-likelihood of the target under the sampled masks.
        kl: KL divergence from the posterior of the masks to their prior.
        neg_entropy: Negative entropy of the prior, which keeps it from collapsing; never above 0.
        aux: Cross-entropy of the correction to the label.
    """

    total: Tensor
    nll: Tensor
    kl: Tensor
    neg_entropy: Tensor
    aux: Tensor

    @classmethod
    def of_terms(cls, nll: Tensor, kl: Tensor, neg_entropy: Tensor, aux: Tensor) -> "Objective":
        """The objective whose total is the sum of these terms."""
        return cls(nll + kl + neg_entropy + aux, nll, kl, neg_entropy, aux)

    @classmethod
    def of_nll(cls, nll: Tensor) -> "Objective":
        """The objective that has no term but the negative log-likelihood."""
        absent = torch.zeros_like(nll)
        return cls(nll, nll, absent, absent, absent)

    def __getattr__(self, name: str) -> NoReturn:
        if name not in _OF_TOTAL:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        call = f"objective.total.{name}()"
        _check.meant(f"Objective.{name}", call, DropmaxAttributeError, "an Objective")

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        name = getattr(func, "__name__", str(func))
        _check.meant(name, "objective.total", DropmaxTypeError, "an Objective")


def _refuse(_objective: Objective, *_others: object) -> NoReturn:
    _check.meant("arithmetic", "objective.total", DropmaxTypeError, "an Objective")


for _operation in ("add", "sub", "mul", "truediv"):  # a tuple would be joined, or repeated
    setattr(Objective, f"__{_operation}__", _refuse)
    setattr(Objective, f"__r{_operation}__", _refuse)
for _operation in ("neg", "pow", "float"):
    setattr(Objective, f"__{_operation}__", _refuse)


@no_type_check  # torch.compile makes one, which checks at run time would hinder
class Label(NamedTuple):
    """A label y, over which every loss is an expectation.

    With probabilities w of the classes (1 at one of them where the label is an index) and class
    weights W, v_k = W_k w_k is the mass of class k. The functions of `functional` take a label in
    the place of a target.

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
        target: "Tensor | Label",
        logits: Float[Tensor, "*batch K"],
        *,
        weight: Tensor | None,
        label_smoothing: float,
        axis: ClassAxis,
        checked: bool = False,
    ) -> "Label":
        """The label in the arguments of a loss of `logits`; a label as it is.

        Args:
            target: Class indices `[*]`, or probabilities `[*, K]` of all classes.
            logits: Scores `[*, K]` of the classes of this process.
            weight: Weights `[K]` of all classes.
            label_smoothing: The share that the nll spreads over all classes.
            axis: Where the classes live.
            checked: Whether the target is known to be class indices.
        """
        if isinstance(target, Label):
            where = "where target is a Label, which has its own"
            _check.unused({"weight": weight}, where)
            _check.default("label_smoothing", label_smoothing, 0.0, where)
            return target
        num_classes = axis.num_classes(logits)
        if not checked:
            _check.label(target, logits, num_classes)
        _check.number("label_smoothing", label_smoothing, low=0.0, high=1.0)
        dtype = at_least_float32(logits).dtype
        if weight is not None:
            _check.class_weight(weight, logits, num_classes)
            weight = weight.to(dtype)
        if not target.is_floating_point():
            return cls(target.long(), weight, label_smoothing, axis)
        target = target.to(dtype) if weight is None else target.to(dtype) * weight
        target = axis.shard(target)
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
        return one_hot if self.weight is None else one_hot * self.axis.shard(self.weight)

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
        weight = self.weight[self.target]
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
            spread = spread * self.axis.shard(self.weight)
        share = self.smoothing / self.axis.num_classes(nll_of_class)
        return (1.0 - self.smoothing) * expected + share * self.axis.sum(spread)

    def reduced(self, nll: Float[Tensor, "..."]) -> Float[Tensor, "*batch"]:
        """The label's nll, from that of its class `[*]` where it is one, else of every class."""
        return self.scaled(nll) if self.is_one_class else self.nll(nll)


@no_type_check  # as below
def axis_of(target: Tensor | Label, axis: ClassAxis) -> ClassAxis:
    """Where the classes live, which a label knows."""
    return target.axis if isinstance(target, Label) else axis


@no_type_check  # torch.compile makes one, which checks at run time would hinder
class Instances(NamedTuple):
    """The instances of a batch: their labels, and their weights in sum and mean.

    Attributes:
        target: Class indices `[*]`, 0 in the place of ignore_index, or probabilities `[*, K]`.
        ignored: Which do not count `[*]`, whatever their loss; None where all do.
        sample_weight: What the objective of an instance is multiplied by `[*]`; ones if None.
        divisor: What the mean divides by: the sum of all weights, or their number if none is given.
    """

    target: Tensor
    ignored: Tensor | None
    sample_weight: Tensor | None
    divisor: Tensor | int

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
        counts = ignored = None
        if isinstance(target, Tensor) and target.is_floating_point():
            where = "where target holds class probabilities"
            _check.default("ignore_index", ignore_index, IGNORE_INDEX, where)
        else:
            _check.class_indices(target, logits)
            _check.integer("ignore_index", ignore_index)
            target = target.long()  # or the index would wrap around in a narrow dtype
            num_classes = axis.num_classes(logits)
            if 0 <= ignore_index < num_classes or not _check.is_within(target, num_classes):
                ignored = target == ignore_index
                target = target.masked_fill(ignored, 0)
                _check.class_target(target, logits, num_classes)
            if weight is not None:
                _check.class_weight(weight, logits, num_classes)
                counts = weight.to(dtype)[target]
            if ignored is not None:
                counts = torch.ones_like(target, dtype=dtype) if counts is None else counts
                counts = counts.masked_fill(ignored, 0.0)
        if sample_weight is not None:
            sample_weight = sample_weight.to(dtype)
            counts = sample_weight if counts is None else counts * sample_weight
            weightless = sample_weight == 0.0
            ignored = weightless if ignored is None else ignored | weightless
        divisor = max(logits.shape[:-1].numel(), 1) if counts is None else counts.sum()
        return cls(target, ignored, sample_weight, divisor)

    def reduced(self, objective: Objective, reduction: str) -> Objective:
        """The objective of each instance, weighted; or their sum or mean, 0 where none counts."""
        total = self.reduced_terms(objective.total, reduction)
        if objective.total is objective.nll:
            return Objective.of_nll(total)
        return Objective(total, *self.reduced_terms(torch.stack(objective[1:]), reduction))

    def factors(self, reduction: str, dtype: torch.dtype) -> Tensor:
        """What each instance's objective is multiplied by in a sum or a mean `[*]`."""
        counts = self.sample_weight
        if counts is None:
            counts = torch.ones(self._shape, dtype=dtype, device=self.target.device)
        if self.ignored is not None:
            counts = counts.masked_fill(self.ignored, 0.0)
        if reduction == "mean":
            counts = counts / (
                self.divisor
                if isinstance(self.divisor, int)
                else torch.where(self.divisor > 0.0, self.divisor, 1.0)
            )
        return counts

    @property
    def _shape(self) -> torch.Size:
        return self.target.shape[:-1] if self.target.is_floating_point() else self.target.shape

    def reduced_terms(self, terms: Tensor, reduction: str) -> Tensor:
        """Terms of each instance `[..., *]`, weighted; or the sums or means of them `[...]`."""
        if self.ignored is not None:
            terms = terms.masked_fill(self.ignored, 0.0)
        if self.sample_weight is not None:
            terms = terms * self.sample_weight
        if reduction == "none":
            return terms
        axes = len(self._shape)
        terms = terms.flatten(-axes) if axes else terms.unsqueeze(-1)
        if reduction == "sum":
            return terms.sum(-1)
        if isinstance(self.divisor, int):
            return terms.mean(-1) if terms.shape[-1] else terms.sum(-1)
        return terms.sum(-1) / torch.where(self.divisor > 0.0, self.divisor, 1.0)

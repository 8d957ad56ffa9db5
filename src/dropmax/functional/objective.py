"""A loss and its terms."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from torch import Tensor

from dropmax import _check
from dropmax.errors import DropmaxAttributeError, DropmaxTypeError

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

"""What a head computes from features, and what is said to those who take it for logits."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from dropmax import _check
from dropmax.errors import DropmaxAttributeError, DropmaxTypeError

_ANSWER = "head.log_probs(scores).argmax(-1)"
_PROBABILITIES = "head.log_probs(scores).exp()"
_LOSS = "dropmax.Criterion(model)(scores, target)"

MEANT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("argmax", "max", "topk"), _ANSWER),
        **dict.fromkeys(("softmax", "sigmoid", "exp"), _PROBABILITIES),
        "log_softmax": "head.log_probs(scores)",
        **dict.fromkeys(("cross_entropy", "nll_loss"), _LOSS),
        "backward": f"{_LOSS}.backward()",
        **{
            name: f"scores.logits.{name}; metrics of other packages take head.log_probs(scores)"
            for name in ("shape", "ndim", "dtype", "device")
        },
        **{name: f"scores.logits.{name}()" for name in ("size", "dim", "detach", "cpu")},
        "to": "model.to(device), and scores.logits.to(...) for a branch of the scores",
    }
)
"""What is asked of scores as if they were logits, and the call that gives it."""


class Scores(NamedTuple):
    """What a head computes from features, each `[*, K]`; a branch that a head lacks is None.

    These are not logits. The answer is `head.log_probs(scores).argmax(-1)`, and the loss is
    `head.loss(scores, target)`. If you use them as a tensor, an error says so and names the call.

    Attributes:
        logits: Class scores, as those of an ordinary linear classifier.
        retain_logits: Logits of the prior probability that a class is retained.
        correction_logits: What the label adds to the posterior's logits; used by the loss alone.
    """

    logits: Tensor
    retain_logits: Tensor | None = None
    correction_logits: Tensor | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> "Scores":
        """The scores with a function applied to each of their branches."""
        logits, *others = self
        return Scores(function(logits), *(None if x is None else function(x) for x in others))

    @classmethod
    def joined(cls, parts: Iterable["Scores"]) -> "Scores":
        """The scores of several batches as those of one, joined along the first axis."""

        def of_all(branch: tuple[Tensor | None, ...]) -> Tensor | None:
            return None if branch[0] is None else torch.cat([x for x in branch if x is not None])

        logits, *others = zip(*parts, strict=True)
        return cls(torch.cat(logits), *map(of_all, others))

    def __getattr__(self, name: str) -> NoReturn:
        if name not in MEANT:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        _check.meant(f"Scores.{name}", MEANT[name], DropmaxAttributeError)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        name = getattr(func, "__name__", str(func))
        call = MEANT.get(name, "head.log_probs(scores), which are ordinary logits")
        _check.meant(name, call, DropmaxTypeError)

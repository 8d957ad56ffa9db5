"""Training a model with the loss of its head."""

import torch
from torch import Tensor, nn

from dropmax import _check
from dropmax.functional.targets import IGNORE_INDEX, REDUCTIONS
from dropmax.heads import Scores
from dropmax.wrap.find import find_head


class Criterion(nn.Module):
    """The loss function of a model's head: `criterion(model(x), y) -> scalar`.

    Use it in place of `nn.CrossEntropyLoss(...)`: it has the same options and takes the same kinds
    of target. It has no parameters of its own. It reads the head's options at each call, so you
    may change them during training.

    Args:
        model: A module that contains exactly one `Head`.
        weight: Class weights `[K]`, at least 0. They are a buffer: `criterion.to(device)` moves
            them.
        ignore_index: Instances with this class index do not count.
        label_smoothing: The share of the label that the nll spreads over all classes, in [0, 1];
            the head's own if None.
        reduction: "mean", "sum" or "none", as `Head.loss` takes it.

    Raises:
        ValueError: If there is no head or more than one, or an option does not fit.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> import dropmax
        >>> from dropmax import Criterion
        >>> model = nn.Sequential(nn.Flatten(), dropmax.make_head("dropmax", 16, 5))
        >>> criterion = Criterion(model, weight=torch.tensor([1.0, 1.0, 1.0, 1.0, 4.0]))
        >>> criterion(model(torch.randn(8, 4, 4)), torch.arange(8) % 5).backward()
    """

    weight: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        *,
        weight: Tensor | None = None,
        ignore_index: int = IGNORE_INDEX,
        label_smoothing: float | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if label_smoothing is not None:
            _check.number("label_smoothing", label_smoothing, low=0.0, high=1.0)
        _check.integer("ignore_index", ignore_index)
        _check.choice("reduction", reduction, REDUCTIONS)
        head = find_head(model)
        if weight is not None:
            like = torch.empty(0, head.out_features, device=getattr(weight, "device", None))
            _check.class_weight(weight, like, like.shape[-1])
        self._head = (head,)  # in a tuple: the head stays the model's submodule alone
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def forward(
        self, scores: Scores, target: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The objective of scores `[*, K]` in nats: `[]`, or `[*]` where reduction is "none".

        Args:
            scores: What the model returned.
            target: Class indices `[*]`, or class probabilities `[*, K]`.
            sample_weight: Weights of the instances `[*]`.
        """
        (head,) = self._head
        return head.loss(
            scores,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
            sample_weight=sample_weight,
        ).total

    def extra_repr(self) -> str:
        return f"{self._head[0]!r}, reduction={self.reduction!r}"

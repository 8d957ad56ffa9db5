"""The softmax head: linear map and cross-entropy."""

from typing import Any

import torch
from torch import Tensor

from dropmax.functional import Objective, softmax_loss
from dropmax.heads.base import Head, nll_only
from dropmax.heads.scores import Scores


class SoftmaxHead(Head):
    """Linear classifier trained with cross-entropy: `nn.Linear` + `nn.CrossEntropyLoss`.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        bias: Whether the map has a bias.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: If an argument does not fit.

    Examples:
        >>> import torch
        >>> from dropmax.heads import SoftmaxHead
        >>> head = SoftmaxHead(16, 5, label_smoothing=0.1)
        >>> scores = head(torch.randn(8, 16))
        >>> head.loss(scores, torch.zeros(8, dtype=torch.long)).total.shape
        torch.Size([])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            num_classes,
            label_smoothing=label_smoothing,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def _objective(
        self,
        scores: Scores,
        target: Tensor,
        label: dict[str, Any],
        noise: Tensor | None,  # noqa: ARG002
        generator: torch.Generator | None,  # noqa: ARG002
    ) -> Objective:
        return nll_only(softmax_loss(scores.logits, target, **label))

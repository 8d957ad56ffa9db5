"""The sparsemax head: linear map and sparsemax loss."""

import math
from typing import Any

import torch
from torch import Tensor

from dropmax.functional import Objective, sparsemax, sparsemax_loss
from dropmax.heads.base import Head, nll_only
from dropmax.heads.scores import Scores


class SparsemaxHead(Head):
    """Linear classifier trained with the sparsemax loss (Martins & Astudillo 2016).

    Its probabilities are those of `functional.sparsemax`: many are exactly 0, and their
    log-probability is -inf. The objective's `nll` holds the sparsemax loss, which is no likelihood.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        label_smoothing: The share of the label that the loss spreads over all classes, in [0, 1].
        bias: Whether the map has a bias.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: If an argument does not fit.

    Examples:
        >>> import torch
        >>> from dropmax.heads import SparsemaxHead
        >>> head = SparsemaxHead(16, 5)
        >>> head.log_probs(head(torch.randn(8, 16))).shape
        torch.Size([8, 5])
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
        return nll_only(sparsemax_loss(scores.logits, target, **label))

    def _plugin(self, scores: Scores) -> Tensor:
        probs = sparsemax(scores.logits, axis=self.axis)
        inside = probs > 0
        log_probs = torch.where(inside, torch.where(inside, probs, 1.0).log(), -math.inf)
        return log_probs.to(scores.logits.dtype)

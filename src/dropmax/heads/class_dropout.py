"""The class-dropout head: linear map and cross-entropy under masks of a fixed rate."""

from typing import Any

import torch
from torch import Tensor

from dropmax import _check
from dropmax.functional import Objective, class_dropout_loss
from dropmax.heads.base import Head, nll_only
from dropmax.heads.scores import Scores


class ClassDropoutHead(Head):
    """Linear classifier whose rivals are dropped at a fixed rate; it predicts with softmax.

    The control of DropMax: random sub-problems, nothing learned about which.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        retain_prob: The probability with which a rival is retained, in (0, 1].
        label_smoothing: The share of the label that the nll spreads over all classes, in [0, 1].
        bias: Whether the map has a bias.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: If an argument does not fit.

    Examples:
        >>> import torch
        >>> from dropmax.heads import ClassDropoutHead
        >>> head = ClassDropoutHead(16, 5, retain_prob=0.8)
        >>> head.loss(head(torch.randn(8, 16)), torch.arange(8) % 5).total.shape
        torch.Size([])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        retain_prob: float = 0.5,
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
        _check.number("retain_prob", retain_prob, low=0.0, high=1.0, open_low=True)
        self.retain_prob = retain_prob

    def _objective(
        self,
        scores: Scores,
        target: Tensor,
        label: dict[str, Any],
        noise: Tensor | None,
        generator: torch.Generator | None,
    ) -> Objective:
        return nll_only(
            class_dropout_loss(
                scores.logits,
                target,
                retain_prob=self.retain_prob,
                noise=noise,
                generator=generator,
                **label,
            )
        )

    def options(self) -> dict[str, Any]:
        return {**super().options(), "retain_prob": self.retain_prob}

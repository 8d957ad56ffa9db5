"""The attention head: a learned gate that multiplies the exponentials, without masks."""

from typing import Any

import torch
from torch import Tensor

from dropmax import _check, predictive
from dropmax.functional import Objective, attention_loss
from dropmax.heads.base import Head, nll_only, required
from dropmax.heads.scores import Scores


class AttentionHead(Head):
    """Softmax whose exponentials are multiplied by a learned retain probability.

    The deterministic half of DropMax: the same gate, trained by cross-entropy alone. It predicts
    with what it trains.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        floor: The weight that a class keeps at retain probability 0, in [0, 1).
        label_smoothing: The share of the label that the nll spreads over all classes, in [0, 1].
        bias: Whether the maps have biases.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: If an argument does not fit.

    Examples:
        >>> import torch
        >>> from dropmax.heads import AttentionHead
        >>> head = AttentionHead(16, 5)
        >>> head.log_probs(head(torch.randn(8, 16))).exp().sum(-1)
        tensor([1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000],
               grad_fn=<SumBackward1>)
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        floor: float = 1e-20,
        label_smoothing: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            num_classes,
            branches=("retain",),
            label_smoothing=label_smoothing,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
        self.floor = floor

    def _objective(
        self,
        scores: Scores,
        target: Tensor,
        label: dict[str, Any],
        noise: Tensor | None,  # noqa: ARG002
        generator: torch.Generator | None,  # noqa: ARG002
    ) -> Objective:
        return nll_only(
            attention_loss(
                scores.logits,
                required(scores.retain_logits),
                target,
                floor=self.floor,
                **label,
            )
        )

    def _plugin(self, scores: Scores) -> Tensor:
        return predictive.plugin(
            scores.logits, required(scores.retain_logits), floor=self.floor, axis=self.axis
        )

    def options(self) -> dict[str, Any]:
        return {**super().options(), "floor": self.floor}

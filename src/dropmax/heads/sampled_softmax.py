"""The sampled-softmax head: linear map and cross-entropy against a random part of the rivals."""

from typing import Any

import torch
from torch import Tensor

from dropmax import _check
from dropmax.functional import Objective, sampled_softmax_loss
from dropmax.heads.base import Head, nll_only
from dropmax.heads.scores import Scores


class SampledSoftmaxHead(Head):
    """Linear classifier trained with sampled softmax (Jean et al. 2015); it predicts with softmax.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        sampled_share: The share of the K - 1 rivals that is drawn for an instance, in (0, 1].
        log_proposal: Log-probabilities `[K]` with which rivals are drawn, up to a constant; uniform
            if None. Given, it is part of the state dict.
        label_smoothing: The share of the label that the nll spreads over all classes, in [0, 1].
        bias: Whether the map has a bias.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: If an argument does not fit.

    Examples:
        >>> import torch
        >>> from dropmax.heads import SampledSoftmaxHead
        >>> head = SampledSoftmaxHead(16, 5, sampled_share=0.25)
        >>> head.loss(head(torch.randn(8, 16)), torch.arange(8) % 5).total.shape
        torch.Size([])
    """

    log_proposal: Tensor | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        sampled_share: float = 0.5,
        log_proposal: Tensor | None = None,
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
        _check.number("sampled_share", sampled_share, low=0.0, high=1.0, open_low=True)
        if log_proposal is not None:
            log_proposal = torch.as_tensor(log_proposal, device=self.weight.device)
            _check.log_proposal(log_proposal, self.weight.T)
        self.sampled_share = sampled_share
        self.register_buffer("log_proposal", log_proposal)

    def _objective(
        self,
        scores: Scores,
        target: Tensor,
        label: dict[str, Any],
        noise: Tensor | None,
        generator: torch.Generator | None,
    ) -> Objective:
        return nll_only(
            sampled_softmax_loss(
                scores.logits,
                target,
                sampled_share=self.sampled_share,
                log_proposal=self.log_proposal,
                noise=noise,
                generator=generator,
                **label,
            )
        )

    def options(self) -> dict[str, Any]:
        proposal = "uniform" if self.log_proposal is None else "given"
        return {**super().options(), "sampled_share": self.sampled_share, "log_proposal": proposal}

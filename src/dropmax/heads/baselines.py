"""The heads that DropMax is compared with, each one class: those of the paper, and three more."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dropmax import _check
from dropmax.functional import (
    Label,
    Objective,
    as_softmax_loss,
    attention_loss,
    class_dropout_loss,
    one_vs_rest_loss,
    sampled_softmax_loss,
    sigsoftmax_loss,
    softmax_loss,
    sparsemax,
    sparsemax_loss,
)
from dropmax.functional.masking import self_gated_logits
from dropmax.heads.base import Head, required
from dropmax.heads.gated import GatedHead
from dropmax.heads.scores import Scores


class SoftmaxHead(Head):
    """Linear classifier trained with cross-entropy: `nn.Linear` + `nn.CrossEntropyLoss`.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

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

    def objective(self, scores: Scores, label: Label, **_random: Any) -> Objective:
        return Objective.of_nll(softmax_loss(scores.logits, label))


class SparsemaxHead(Head):
    """Linear classifier trained with the sparsemax loss (Martins & Astudillo 2016).

    Its probabilities are those of `functional.sparsemax`: many are exactly 0, and their
    log-probability is -inf. The objective's `nll` holds the sparsemax loss, which is no likelihood.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

    Raises:
        ValueError: If an argument does not fit.

    Examples:
        >>> import torch
        >>> from dropmax.heads import SparsemaxHead
        >>> head = SparsemaxHead(16, 5)
        >>> head.log_probs(head(torch.randn(8, 16))).shape
        torch.Size([8, 5])
    """

    def objective(self, scores: Scores, label: Label, **_random: Any) -> Objective:
        return Objective.of_nll(sparsemax_loss(scores.logits, label))

    def _plugin(self, scores: Scores) -> Tensor:
        probs = sparsemax(scores.logits, axis=self.axis)
        inside = probs > 0
        log_probs = torch.where(inside, torch.where(inside, probs, 1.0).log(), -math.inf)
        return log_probs.to(scores.logits.dtype)


class SampledSoftmaxHead(Head):
    """Linear classifier trained with sampled softmax (Jean et al. 2015); it predicts with softmax.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        sampled_share: The share of the K - 1 rivals that is drawn for an instance, in (0, 1].
        log_proposal: Log-probabilities `[K]` with which rivals are drawn, up to a constant; uniform
            if None. Given, it is part of the state dict.
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

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
        **shared: Any,
    ) -> None:
        super().__init__(in_features, num_classes, **shared)
        _check.number("sampled_share", sampled_share, low=0.0, high=1.0, open_low=True)
        if log_proposal is not None:
            log_proposal = torch.as_tensor(log_proposal, device=self.weight.device)
            _check.log_proposal(log_proposal, self.weight, num_classes)
        self.sampled_share = sampled_share
        self.register_buffer("log_proposal", log_proposal)

    def objective(self, scores: Scores, label: Label, **random: Any) -> Objective:
        options: dict[str, Any] = {
            "sampled_share": self.sampled_share,
            "log_proposal": self.log_proposal,
        }
        return Objective.of_nll(sampled_softmax_loss(scores.logits, label, **options, **random))

    def options(self) -> dict[str, Any]:
        proposal = "uniform" if self.log_proposal is None else "given"
        return {**super().options(), "sampled_share": self.sampled_share, "log_proposal": proposal}


class ClassDropoutHead(Head):
    """Linear classifier whose rivals are dropped at a fixed rate; it predicts with softmax.

    The control of DropMax: random sub-problems, nothing learned about which.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        retain_prob: The probability with which a rival is retained, in (0, 1].
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

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
        self, in_features: int, num_classes: int, *, retain_prob: float = 0.5, **shared: Any
    ) -> None:
        super().__init__(in_features, num_classes, **shared)
        _check.number("retain_prob", retain_prob, low=0.0, high=1.0, open_low=True)
        self.retain_prob = retain_prob

    def objective(self, scores: Scores, label: Label, **random: Any) -> Objective:
        nll = class_dropout_loss(scores.logits, label, retain_prob=self.retain_prob, **random)
        return Objective.of_nll(nll)

    def options(self) -> dict[str, Any]:
        return {**super().options(), "retain_prob": self.retain_prob}


class AttentionHead(GatedHead):
    """Softmax whose exponentials are multiplied by a learned retain probability.

    The deterministic half of DropMax: the same gate, trained by cross-entropy alone. It predicts
    with what it trains.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        floor: The weight that a class keeps at retain probability 0, in [0, 1).
        **gate: gate_rank and retain_bias_init, as in `GatedHead`, and those of `Head`.

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

    predictive_methods = ("plugin",)

    def __init__(
        self, in_features: int, num_classes: int, *, floor: float = 1e-20, **gate: Any
    ) -> None:
        super().__init__(in_features, num_classes, **gate)
        _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
        self.floor = floor

    def objective(self, scores: Scores, label: Label, **_random: Any) -> Objective:
        retain_logits = required(scores.retain_logits)
        return Objective.of_nll(
            attention_loss(scores.logits, retain_logits, label, floor=self.floor)
        )

    def options(self) -> dict[str, Any]:
        return {**super().options(), "floor": self.floor}


class SigSoftmaxHead(Head):
    """Softmax whose exponentials are multiplied by the sigmoid of the score (Kanai et al. 2018).

    The plug-in of DropMax with the gate tied to the score: retain_logits = logits. It predicts
    with what it trains, and unlike softmax it depends on a shift of the logits.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

    Raises:
        ValueError: If an argument does not fit.

    Source:
        Kanai et al. 2018, "Sigsoftmax: Reanalysis of the Softmax Bottleneck", arXiv 1805.10829.

    Examples:
        >>> import torch
        >>> from dropmax.heads import SigSoftmaxHead
        >>> head = SigSoftmaxHead(16, 5)
        >>> head.loss(head(torch.randn(8, 16)), torch.arange(8) % 5).total.shape
        torch.Size([])
    """

    def objective(self, scores: Scores, label: Label, **_random: Any) -> Objective:
        return Objective.of_nll(sigsoftmax_loss(scores.logits, label))

    def _plugin_logits(self, scores: Scores) -> Tensor:
        return self_gated_logits(super()._plugin_logits(scores))


class ASSoftmaxHead(Head):
    """Linear classifier whose far less probable rivals are dropped; it predicts with softmax.

    A deterministic counterpart of DropMax's masks: which rivals stay follows from the scores and
    the label, and nothing is learned about it.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        delta: How far below the target's the probability of a rival is at which it is dropped, in
            (0, 1]; 1 is softmax.
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

    Raises:
        ValueError: If an argument does not fit.

    Source:
        Lv et al. 2025, "Adaptive Sparse Softmax", arXiv 2508.03175.

    Examples:
        >>> import torch
        >>> from dropmax.heads import ASSoftmaxHead
        >>> head = ASSoftmaxHead(16, 5, delta=0.2)
        >>> head.loss(head(torch.randn(8, 16)), torch.arange(8) % 5).total.shape
        torch.Size([])
    """

    def __init__(
        self, in_features: int, num_classes: int, *, delta: float = 0.1, **shared: Any
    ) -> None:
        super().__init__(in_features, num_classes, **shared)
        _check.number("delta", delta, low=0.0, high=1.0, open_low=True)
        self.delta = delta

    def objective(self, scores: Scores, label: Label, **_random: Any) -> Objective:
        return Objective.of_nll(as_softmax_loss(scores.logits, label, delta=self.delta))

    def options(self) -> dict[str, Any]:
        return {**super().options(), "delta": self.delta}


class OneVsRestHead(Head):
    """K binary classifiers, each class against all others, whose sigmoids are normalized.

    It predicts sigmoid(logits_k) / sum over j of sigmoid(logits_j). The objective's `nll` holds
    the sum of K binary cross-entropies, which is no likelihood of what it predicts.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

    Raises:
        ValueError: If an argument does not fit.

    Source:
        Rifkin & Klautau 2004, "In Defense of One-Vs-All Classification"; with the logistic loss
        as in Padhy et al. 2020, arXiv 2007.05134.

    Examples:
        >>> import torch
        >>> from dropmax.heads import OneVsRestHead
        >>> head = OneVsRestHead(16, 5)
        >>> head.log_probs(head(torch.randn(8, 16))).exp().sum(-1).allclose(torch.ones(8))
        True
    """

    def objective(self, scores: Scores, label: Label, **_random: Any) -> Objective:
        return Objective.of_nll(one_vs_rest_loss(scores.logits, label))

    def _plugin_logits(self, scores: Scores) -> Tensor:
        return F.logsigmoid(super()._plugin_logits(scores))

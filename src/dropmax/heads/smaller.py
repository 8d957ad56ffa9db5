"""Smaller machines: DropMax without noise, and without maps of the gate."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dropmax import _check
from dropmax.functional import Label, Objective, label_objective
from dropmax.heads.base import Head, Map, required
from dropmax.heads.gated import GatedHead, gated_plugin
from dropmax.heads.scores import Scores

SHIFT = 2.0
"""The retain logit of all classes at first, where the gate is tied to the score."""


class _LabelPosterior(Head):
    """A head with a gate whose objective is `functional.label_objective`, and its options."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        kl_weight: float = 1.0,
        entropy_weight: float = 1.0,
        floor: float = 1e-20,
        **shared: Any,
    ) -> None:
        super().__init__(in_features, num_classes, **shared)
        self.kl_weight = kl_weight
        self.entropy_weight = entropy_weight
        self.floor = floor

    def objective(self, scores: Scores, label: Label, **_random: Any) -> Objective:
        retain_logits = required(scores.retain_logits)
        raw = label_objective(scores.logits, retain_logits, label, floor=self.floor)
        return raw._replace(total=Objective.of_terms(*self.weighted(raw)[1:]).total)

    def weighted(self, raw: Objective) -> Objective:
        kl, neg_entropy = self.kl_weight * raw.kl, self.entropy_weight * raw.neg_entropy
        return raw._replace(kl=kl, neg_entropy=neg_entropy)

    def _plugin_logits(self, scores: Scores) -> Tensor:
        return gated_plugin(scores, self.floor, self.axis)

    def options(self) -> dict[str, Any]:
        own = ("kl_weight", "entropy_weight", "floor")
        return super().options() | {name: getattr(self, name) for name in own}


def _option(name: str, **limits: Any) -> property:
    """An option of the objective as an attribute of the head, which is checked when it is set."""

    def set_option(head: Head, value: float) -> None:
        _check.number(name, value, low=0.0, **limits)
        vars(head)[f"_{name}"] = value

    return property(lambda head: vars(head)[f"_{name}"], set_option)


for _name, _limits in (
    ("kl_weight", {}),
    ("entropy_weight", {}),
    ("floor", {"high": 1.0, "open_high": True}),
):
    setattr(_LabelPosterior, _name, _option(_name, **_limits))


class DropMaxLabelHead(_LabelPosterior, GatedHead):
    """DropMax without noise: two maps, and the label itself as the posterior of the masks.

    The plug-in is trained by its cross-entropy, and the gate also by two terms: to retain the
    target and drop the rivals, and to stay undecided. It predicts with what it trains. The options
    may be set during training: `head.kl_weight = step / steps`.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        kl_weight: Weight of the KL term, at least 0.
        entropy_weight: Weight of the negative-entropy term, at least 0.
        floor: The weight that a class keeps at retain probability 0, in [0, 1).
        **shared: gate_rank and retain_bias_init, as in `GatedHead`, and those of `Head`.

    Raises:
        ValueError: If an argument does not fit.

    Source:
        Ours: `dropmax.functional.label_objective`.

    Examples:
        >>> import torch
        >>> from dropmax.heads import DropMaxLabelHead
        >>> head = DropMaxLabelHead(16, 5, kl_weight=0.5)
        >>> head.loss(head(torch.randn(8, 16)), torch.arange(8) % 5).total.backward()
    """

    predictive_methods = ("plugin",)


class DropMaxTiedHead(_LabelPosterior):
    """DropMax without a map of the gate: its logits are a line in the scores, a logits + b.

    The objective and the predictions are those of `DropMaxLabelHead`. The gate adds two scalars to
    a linear classifier, `gate_scale [1]` and `gate_shift [1]`, which are 0 and 2 at first: then it
    predicts as softmax does. The gate of a class of logit -inf is that of logit 0.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        kl_weight: Weight of the KL term, at least 0; may be set in training, as the next.
        entropy_weight: Weight of the negative-entropy term, at least 0.
        floor: The weight that a class keeps at retain probability 0, in [0, 1).
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

    Raises:
        ValueError: If an argument does not fit.

    Source:
        Ours: `dropmax.functional.label_objective`.

    Examples:
        >>> import torch
        >>> from dropmax.heads import DropMaxTiedHead
        >>> head = DropMaxTiedHead(16, 5)
        >>> scores = head(torch.randn(8, 16))
        >>> head.log_probs(scores).allclose(scores.logits.log_softmax(-1), atol=1e-6)
        True
    """

    branches = ("retain",)

    gate_scale: nn.Parameter
    gate_shift: nn.Parameter

    def __init__(self, in_features: int, num_classes: int, **options: Any) -> None:
        super().__init__(in_features, num_classes, **options)
        self.gate_scale = nn.Parameter(self.weight.new_zeros(1))
        self.gate_shift = nn.Parameter(self.weight.new_full((1,), SHIFT))

    def reset_parameters(self) -> None:
        """Start anew: Glorot-uniform weights, zero biases, and the gate of the constructor."""
        super().reset_parameters()
        nn.init.zeros_(self.gate_scale)
        nn.init.constant_(self.gate_shift, SHIFT)

    def gate_parameters(self) -> list[nn.Parameter]:
        """The two scalars of the gate, which weight decay spares."""
        return [self.gate_scale, self.gate_shift]

    def _scores(self, maps: Iterable[Map]) -> Scores:
        scores = super()._scores(maps)
        return scores._replace(retain_logits=self._gate(scores.logits))

    def _gate(self, logits: Tensor) -> Tensor:
        """The retain logits; of a masked class as of logit 0, or 0 * -inf would be NaN."""
        own = (required(one) for one in self._local("gate_scale", "gate_shift"))
        scale, shift = self.axis.spread(*own)
        finite = torch.where(logits.isneginf(), 0.0, logits)
        return (scale * finite + shift).to(logits.dtype)

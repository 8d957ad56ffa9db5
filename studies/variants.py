"""Heads that studies alone ask for: variants of "which part", and DropMax's earlier default."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from dropmax import _check, bernoulli
from dropmax._check import at_least_float32
from dropmax.functional import Label, Objective
from dropmax.functional.dropmax import (
    corrected_logits,
    correction_aux,
    mask_kl,
    masked_nll,
    plugin_nll,
    prior_neg_entropy,
)
from dropmax.functional.masking import floored_logits
from dropmax.heads import DropMaxHead, Head, Scores, register_head
from dropmax.heads.base import required
from dropmax.report import names as report

EARLIER = "dropmax_earlier"
NAMES: Mapping[str, str] = MappingProxyType({**report.NAMES, EARLIER: "DropMax, earlier default"})
"""By how a head is asked for, what pages call it."""


class _Variant(DropMaxHead):
    """DropMax whose objective is put together here: for class indices, and one relaxed mask.

    Raises:
        ValueError: If other masks are asked for, or a share of the plug-in.
    """

    def _change(self, **options: Any) -> None:
        super()._change(**options)
        read = {"masks": "relaxed", "num_samples": 1, "plugin_share": 0.0}
        for option, value in read.items():
            if (got := getattr(self.objective_options, option)) != value:
                _check.fail(option, f"be {value!r} in a variant", got, "take preset=paper")

    def objective(self, scores: Scores, label: Label, **random: Any) -> Objective:
        options, axis = self.objective_options, self.axis
        logits = at_least_float32(scores.logits)
        retain_logits = at_least_float32(required(scores.retain_logits))
        correction_logits = at_least_float32(required(scores.correction_logits))
        noise = options.noise_of(logits, **random, axis=axis)
        posterior_logits = corrected_logits(retain_logits, correction_logits)
        return options.totaled(
            self.nll(logits, retain_logits, correction_logits, label, noise),
            self.kl(posterior_logits, retain_logits, label),
            prior_neg_entropy(retain_logits, label),
            correction_aux(correction_logits, label, options),
        )

    @property
    def can_fuse(self) -> bool:
        """Its fused loss would be that of DropMax."""
        return False

    def nll(
        self,
        logits: Tensor,
        retain_logits: Tensor,
        correction_logits: Tensor,
        label: Label,
        noise: Tensor | None,
    ) -> Tensor:
        raise NotImplementedError

    def kl(self, posterior_logits: Tensor, retain_logits: Tensor, label: Label) -> Tensor:
        return mask_kl(posterior_logits, retain_logits, label)


class PluginNllHead(_Variant):
    """The nll is that of the plug-in: the masks train the gate alone, by KL and correction."""

    def nll(
        self,
        logits: Tensor,
        retain_logits: Tensor,
        correction_logits: Tensor,  # noqa: ARG002
        label: Label,
        noise: Tensor | None,  # noqa: ARG002
    ) -> Tensor:
        plugin = plugin_nll(logits, retain_logits, label, floor=self.objective_options.floor)
        return label.reduced(plugin)


class DrawnTargetHead(_Variant):
    """The mask of the target is drawn as those of its rivals, and its KL is theirs."""

    def nll(
        self,
        logits: Tensor,
        retain_logits: Tensor,
        correction_logits: Tensor,
        label: Label,
        noise: Tensor | None,
    ) -> Tensor:
        options = self.objective_options
        assert noise is not None
        posterior_logits = corrected_logits(retain_logits, correction_logits)
        mask_logits = bernoulli.relaxed_mask_logits(posterior_logits, noise, options.temperature)
        masked = floored_logits(logits, F.logsigmoid(mask_logits), options.floor)
        return label.reduced(self.axis.cross_entropy(masked, label.target))

    def kl(self, posterior_logits: Tensor, retain_logits: Tensor, label: Label) -> Tensor:
        return label.scaled(self.axis.sum(bernoulli.kl(posterior_logits, retain_logits)))


class SeeingGateHead(_Variant):
    """The gate is trained by the nll, too, which does not hold the posterior's copy of it fixed."""

    def nll(
        self,
        logits: Tensor,
        retain_logits: Tensor,
        correction_logits: Tensor,
        label: Label,
        noise: Tensor | None,
    ) -> Tensor:
        posterior_logits = retain_logits + correction_logits
        nll = masked_nll(logits, posterior_logits, label, noise, self.objective_options)
        return label.reduced(nll)


class EarlierDefaultHead(DropMaxHead):
    """DropMax with the options that were its default until the study "defaults" chose others."""

    def __init__(self, in_features: int, num_classes: int, **options: Any) -> None:
        few = min(1.0, 10 / num_classes)
        strength = 4.0 * few**1.6
        earlier: dict[str, Any] = {"kl_weight": strength, "entropy_weight": strength}
        if few == 1.0:
            earlier |= {"aux_prior": "base_rate"}
        else:
            earlier |= {"aux_weight": few, "plugin_share": 1.0 - few, "plugin_focus": 1.0}
        super().__init__(in_features, num_classes, **{"preset": "paper", **earlier, **options})


VARIANTS: dict[str, type[Head]] = {
    EARLIER: EarlierDefaultHead,
    "dropmax_plugin_nll": PluginNllHead,
    "dropmax_drawn_target": DrawnTargetHead,
    "dropmax_seeing_gate": SeeingGateHead,
}


def register_variants(asked: Iterable[str]) -> None:
    """Give those of these heads their names that are among the heads of a study."""
    names = {head.partition(":")[0] for head in asked}
    for name in names & VARIANTS.keys():
        register_head(name, VARIANTS[name])

"""The DropMax head: three linear maps and the variational objective."""

from typing import Any

import torch
from torch import Tensor

from dropmax import _check, predictive
from dropmax._precision import at_least_float32
from dropmax.functional import Objective, dropmax_objective
from dropmax.functional.computed_posterior import (
    analytic_posterior,
    computed_posterior_objective,
)
from dropmax.functional.label import Label
from dropmax.functional.terms import corrected_logits, prior_neg_entropy
from dropmax.heads.base import required
from dropmax.heads.fused import OF_OBJECTIVE, FusedHead
from dropmax.heads.scores import Scores
from dropmax.heads.settings import WEIGHTS, Settings, settle

NUM_NODES = 128
"""Nodes of the integrals in training: a relative error below 1e-4 for logits 70 nats apart."""


class DropMaxHead(FusedHead):
    """Softmax whose classes are dropped per instance with learned probabilities.

    The head of Lee et al. 2018. It learns, besides the class scores, with which probability each
    class stays in the softmax of an instance (`retain_weight`), and from the label how that
    probability changes when the label is known (`correction_weight`). It predicts with the
    retain probability in place of the mask ("plugin"), with sampled masks ("monte_carlo"), or with
    the average over all masks ("exact").

    `kl_weight`, `entropy_weight`, `aux_weight`, `temperature`, `plugin_share` and
    `plugin_focus` may be set during training.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        preset: Where the options come from that are None: "default", which depends on the number
            of classes, or "paper", the method as published; functions in `dropmax.heads.PRESETS`.
        objective: "variational", or "marginal": the exact log-likelihood under all masks, with no
            sample, no KL and no aux term, and so none of their options.
        posterior: What training draws the masks from. "learned": the prior with a learned
            correction; "prior" (the paper's q = p): the prior itself; "exact": the marginals of
            the exact posterior; "analytic": the prior with its first-order correction in closed
            form. The last three have no correction branch and no aux term. With "exact" and
            "analytic" class probabilities and label smoothing cost K times as much as indices.
        aux_prior: The probability of a class beforehand to which the correction is relative:
            "label" (1/2, as the authors have it), "base_rate" (1/K), or a number in (0, 1).
        kl_weight: Weight of the KL term.
        entropy_weight: Weight of the negative-entropy term; None is 0 for "marginal".
        aux_weight: Weight of the aux term.
        masks: How training makes masks of the posterior's probabilities: "relaxed" samples,
            "straight_through": hard samples with the relaxed ones' gradient, or "mean": the
            probabilities themselves, without noise.
        temperature: Of the relaxed masks, above 0.
        floor: The weight of a dropped class, in [0, 1).
        num_samples: Masks per instance and step.
        plugin_share: The share of the objective, in [0, 1), that is the plug-in's cross-entropy.
        plugin_focus: An exponent: the share is multiplied by (1 - p_t)^plugin_focus, p_t what the
            plug-in gives the target.
        num_nodes: Nodes of the integral that the "marginal" objective and the "exact" posterior
            evaluate at each step; None is 128 there. `dropmax.predictive.error_bound` says what
            they give: below 1e-4 for logits 70 nats apart, 0.5 % for 150 and 15 % for 300, where
            the likelihood may exceed 1; pass more nodes there.
        gate_rank: The rank r of the retain and correction maps, which then share `gate_weight
            [r, D]`: less time and memory with very many classes. None is full rank.
        retain_bias_init: Initial retain bias; above 0 the classes start retained.
        label_smoothing: The share of the label that the nll spreads over all classes, in [0, 1].
        bias: Whether the maps have biases.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: If an argument does not fit, or is for something that the objective lacks.

    Examples:
        >>> import torch
        >>> from dropmax.heads import DropMaxHead
        >>> head = DropMaxHead(16, 5)
        >>> scores = head(torch.randn(8, 16))
        >>> head.loss(scores, torch.arange(8) % 5).total.backward()
        >>> head.log_probs(scores, method="monte_carlo", num_samples=10).shape
        torch.Size([8, 5])
    """

    predictive_methods = ("plugin", "monte_carlo", "exact")

    posterior: str | None
    aux_prior: str | float | None
    kl_weight: float | None
    entropy_weight: float
    aux_weight: float | None
    masks: str | None
    temperature: float | None
    num_samples: int | None
    plugin_share: float | None
    plugin_focus: float | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        preset: str = "default",
        objective: str = "variational",
        posterior: str | None = None,
        aux_prior: str | float | None = None,
        kl_weight: float | None = None,
        entropy_weight: float | None = None,
        aux_weight: float | None = None,
        masks: str | None = None,
        temperature: float | None = None,
        floor: float = 1e-20,
        num_samples: int | None = None,
        plugin_share: float | None = None,
        plugin_focus: float | None = None,
        num_nodes: int | None = None,
        gate_rank: int | None = None,
        retain_bias_init: float = 0.0,
        label_smoothing: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        given = Settings(
            posterior=posterior,
            aux_prior=aux_prior,
            kl_weight=kl_weight,
            entropy_weight=entropy_weight,
            aux_weight=aux_weight,
            masks=masks,
            temperature=temperature,
            num_samples=num_samples,
            plugin_share=plugin_share,
            plugin_focus=plugin_focus,
        )
        settings = settle(preset, num_classes, objective, given)
        integrates = objective == "marginal" or settings.posterior == "exact"
        if not integrates:
            _check.unused({"num_nodes": num_nodes}, "where training integrates nothing")
        elif num_nodes is not None:
            _check.integer("num_nodes", num_nodes, low=1)
        _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
        _check.number("retain_bias_init", retain_bias_init)
        if not bias and retain_bias_init != 0.0:
            must = "be 0 where bias is False"
            _check.fail("retain_bias_init", must, retain_bias_init, "leave the biases on")
        super().__init__(
            in_features,
            num_classes,
            branches=("retain", "correction") if settings.posterior == "learned" else ("retain",),
            gate_rank=gate_rank,
            retain_bias_init=retain_bias_init,
            label_smoothing=label_smoothing,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.objective = objective
        self.floor = floor
        self.num_nodes = NUM_NODES if integrates and num_nodes is None else num_nodes
        for setting, value in settings._asdict().items():
            setattr(self, setting, value)

    def _check_weights(
        self,
    ) -> None:
        """The weights are still numbers of at least 0, as a schedule leaves them."""
        absent = {"kl_weight"} if self.objective == "marginal" else set()
        absent |= set() if self.posterior == "learned" else {"aux_weight"}
        for weight in WEIGHTS:
            value = getattr(self, weight)
            if weight in absent:
                _check.unused({weight: value}, "where there is no such term")
            else:
                _check.number(weight, value, low=0.0)

    @torch.no_grad()
    def posterior_logits(self, scores: Scores, target: Tensor) -> Tensor | None:
        self._check_scores(scores, self.branches)
        _check.class_target(target, scores.logits, self.axis.num_classes(scores.logits))
        retain_logits = required(scores.retain_logits)
        if self.posterior in ("exact", "analytic"):
            return self._computed_posterior(scores.logits, retain_logits, target)
        if self.objective == "marginal":
            return None
        return corrected_logits(at_least_float32(retain_logits), scores.correction_logits)

    @torch.no_grad()
    def _computed_posterior(self, logits: Tensor, retain_logits: Tensor, target: Tensor) -> Tensor:
        """The logits of the "exact" or the "analytic" posterior."""
        if self.posterior == "exact":
            return predictive.mask_posterior(
                logits,
                retain_logits,
                target,
                target_kept=True,
                num_nodes=self.num_nodes,
                axis=self.axis,
            )
        return analytic_posterior(logits, retain_logits, target, axis=self.axis)

    def _objective(
        self,
        scores: Scores,
        target: Tensor,
        label: dict[str, Any],
        noise: Tensor | None,
        generator: torch.Generator | None,
    ) -> Objective:
        self._check_weights()
        logits, retain_logits = scores.logits, required(scores.retain_logits)
        options = self._options(OF_OBJECTIVE) | {"noise": noise, "generator": generator}
        if self.posterior in ("learned", "prior"):
            correction_logits = scores.correction_logits
            return dropmax_objective(
                logits, retain_logits, correction_logits, target, **options, **label
            )
        checked = Label.of(target, logits, **label)
        if self.objective == "marginal":
            return self._marginal(logits, retain_logits, checked)
        return computed_posterior_objective(
            self._computed_posterior, logits, retain_logits, checked, **options
        )

    def _marginal(self, logits: Tensor, retain_logits: Tensor, label: Label) -> Objective:
        """The exact likelihood, and the entropy of the prior beside it."""
        logits, retain_logits = at_least_float32(logits), at_least_float32(retain_logits)
        options: dict[str, Any] = {"num_nodes": self.num_nodes, "axis": self.axis}
        if label.is_one_class:
            log_prob = predictive.log_marginal(logits, retain_logits, label.target, **options)
            nll = label.scaled(-log_prob)
        else:
            nll = label.nll(-predictive.exact(logits, retain_logits, **options))
        absent = torch.zeros_like(nll)
        return Objective.of_terms(nll, absent, prior_neg_entropy(retain_logits, label), absent)

    def weighted(self, raw: Objective) -> Objective:
        return Objective.of_terms(
            raw.nll,
            raw.kl if self.kl_weight is None else self.kl_weight * raw.kl,
            self.entropy_weight * raw.neg_entropy,
            raw.aux if self.aux_weight is None else self.aux_weight * raw.aux,
        )

    def log_probs(
        self,
        scores: Scores,
        *,
        method: str = "plugin",
        num_samples: int | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        tolerance: float | None = None,
        num_nodes: int | None = None,
    ) -> Tensor:
        sampling: dict[str, Any] = {
            "num_samples": num_samples,
            "noise": noise,
            "generator": generator,
        }
        nodes: dict[str, Any] = {"tolerance": tolerance, "num_nodes": num_nodes}
        if method not in ("monte_carlo", "exact"):
            return super().log_probs(scores, method=method, **sampling, **nodes)
        self._check_scores(scores, ("retain",))
        retain_logits = required(scores.retain_logits)
        if method == "exact":
            _check.unused(sampling, "for method 'exact'")
            return predictive.exact(scores.logits, retain_logits, **nodes, axis=self.axis)
        _check.unused(nodes, "for method 'monte_carlo'")
        if num_samples is None:
            must = "be given for method 'monte_carlo'"
            _check.fail("num_samples", must, None, "pass a number of masks")
        return predictive.monte_carlo(scores.logits, retain_logits, **sampling, axis=self.axis)

    def _plugin(self, scores: Scores) -> Tensor:
        return predictive.plugin(
            scores.logits, required(scores.retain_logits), floor=self.floor, axis=self.axis
        )

    def options(self) -> dict[str, Any]:
        names = (
            "objective",
            *Settings._fields,
            "floor",
            "num_nodes",
            "gate_rank",
            "retain_bias_init",
        )
        return {**super().options(), **{name: getattr(self, name) for name in names}}

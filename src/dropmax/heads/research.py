"""Heads for research: DropMax with what its variational objective only approximates."""

from typing import Any

import torch
from torch import Tensor

from dropmax import _check, predictive
from dropmax._check import at_least_float32
from dropmax.axis import ClassAxis
from dropmax.functional import Label, Objective
from dropmax.functional.dropmax import prior_neg_entropy
from dropmax.functional.posterior import analytic_posterior, computed_posterior_objective
from dropmax.heads.base import required
from dropmax.heads.dropmax import DropMaxHead
from dropmax.heads.gated import GatedHead
from dropmax.heads.scores import Scores

NUM_NODES = 128
"""Nodes of the integrals in training: a relative error below 1e-4 for logits 70 nats apart."""


class MarginalHead(GatedHead):
    """DropMax trained on its exact log-likelihood under all masks: no sample, no KL, no aux term.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        entropy_weight: Weight of the negative-entropy term, at least 0; may be set in training.
        num_nodes: Nodes of the integral of each instance. `dropmax.predictive.error_bound` says
            what they give: below 1e-4 for logits 70 nats apart, 0.5 % for 150 and 15 % for 300,
            where the likelihood may exceed 1; pass more nodes there.
        floor: The weight of a dropped class in the plug-in, in [0, 1).
        **gate: gate_rank and retain_bias_init, as in `GatedHead`, and those of `Head`.

    Raises:
        ValueError: If an argument does not fit.

    Source:
        Ours: the integral of `dropmax.predictive.exact`.

    Examples:
        >>> import torch
        >>> from dropmax.heads import MarginalHead
        >>> head = MarginalHead(16, 5, entropy_weight=0.1)
        >>> head.loss(head(torch.randn(8, 16)), torch.arange(8) % 5).total.backward()
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        entropy_weight: float = 0.0,
        num_nodes: int = NUM_NODES,
        floor: float = 1e-20,
        **gate: Any,
    ) -> None:
        super().__init__(in_features, num_classes, **gate)
        _check.number("entropy_weight", entropy_weight, low=0.0)
        _check.integer("num_nodes", num_nodes, low=1)
        _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
        self.entropy_weight = entropy_weight
        self.num_nodes = num_nodes
        self.floor = floor

    def objective(self, scores: Scores, label: Label, **_random: Any) -> Objective:
        """The exact likelihood, and the entropy of the prior beside it."""
        logits = at_least_float32(scores.logits)
        retain_logits = at_least_float32(required(scores.retain_logits))
        options: dict[str, Any] = {"num_nodes": self.num_nodes, "axis": self.axis}
        if label.is_one_class:
            log_prob = predictive.log_marginal(logits, retain_logits, label.target, **options)
            nll = label.scaled(-log_prob)
        else:
            nll = label.nll(-predictive.exact(logits, retain_logits, **options))
        absent, neg_entropy = torch.zeros_like(nll), prior_neg_entropy(retain_logits, label)
        return Objective(nll + self.entropy_weight * neg_entropy, nll, absent, neg_entropy, absent)

    def weighted(self, raw: Objective) -> Objective:
        return raw._replace(neg_entropy=self.entropy_weight * raw.neg_entropy)

    def options(self) -> dict[str, Any]:
        own = ("entropy_weight", "num_nodes", "floor")
        return super().options() | {name: getattr(self, name) for name in own}


class ComputedPosteriorHead(DropMaxHead):
    """DropMax whose masks are drawn from a posterior that is computed and not learned.

    It has no correction branch and no aux term. Class probabilities and label smoothing cost K
    times as much as class indices.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        posterior: "exact": the marginals of the exact posterior; "analytic": the prior with its
            first-order correction in closed form.
        num_nodes: Nodes of the integral of "exact", as in `MarginalHead`; None is 128 there.
        **options: As in `DropMaxHead`.

    Raises:
        ValueError: If an argument does not fit, or is for something that the objective lacks.

    Source:
        Ours: `dropmax.predictive.mask_posterior` and `dropmax.functional.analytic_correction`.

    Examples:
        >>> import torch
        >>> from dropmax.heads import ComputedPosteriorHead
        >>> head = ComputedPosteriorHead(16, 5, posterior="analytic")
        >>> head.loss(head(torch.randn(8, 16)), torch.arange(8) % 5).total.backward()
    """

    posteriors = ("exact", "analytic")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        posterior: str = "exact",
        num_nodes: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(in_features, num_classes, posterior=posterior, **options)
        if posterior != "exact":
            _check.unused({"num_nodes": num_nodes}, f"where posterior is {posterior!r}")
        elif num_nodes is None:
            num_nodes = NUM_NODES
        else:
            _check.integer("num_nodes", num_nodes, low=1)
        self.num_nodes = num_nodes

    def objective(self, scores: Scores, label: Label, **random: Any) -> Objective:
        logits, retain_logits = scores.logits, required(scores.retain_logits)
        options = self.objective_options
        noise = options.noise_of(logits, **random, axis=self.axis)
        raw = computed_posterior_objective(
            self._posterior, logits, retain_logits, label, options, noise
        )
        return options.totaled(*raw[1:])

    @torch.no_grad()
    def posterior_logits(self, scores: Scores, target: Tensor) -> Tensor | None:
        self._check_scores(scores, self.branches)
        _check.class_target(target, scores.logits, self.axis.num_classes(scores.logits))
        return self._posterior(
            scores.logits, required(scores.retain_logits), target, axis=self.axis
        )

    @torch.no_grad()
    def _posterior(
        self, logits: Tensor, retain_logits: Tensor, target: Tensor, *, axis: ClassAxis
    ) -> Tensor:
        """The logits of the masks, the class of each instance known."""
        if self.posterior == "analytic":
            return analytic_posterior(logits, retain_logits, target, axis=axis)
        options: dict[str, Any] = {"num_nodes": self.num_nodes, "axis": axis}
        return predictive.mask_posterior(logits, retain_logits, target, target_kept=True, **options)

    def options(self) -> dict[str, Any]:
        return super().options() | {"num_nodes": self.num_nodes}

"""The DropMax head: three linear maps and the variational objective."""

import torch
from torch import Tensor

from dropmax import _check, predictive
from dropmax.functional import Objective, dropmax_objective
from dropmax.functional.dropmax import AUX_PRIORS
from dropmax.heads.base import Head, Scores, required

POSTERIORS = {"learned": ("retain", "correction"), "prior": ("retain",)}


class DropMaxHead(Head):
    """Softmax whose classes are dropped per instance with learned probabilities.

    The head of Lee et al. 2018. It learns, besides the class scores, with which probability each
    class stays in the softmax of an instance (`retain_weight`), and from the label how that
    probability changes when the label is known (`correction_weight`). It predicts with the
    retain probability in place of the mask ("plugin") or with sampled masks ("monte_carlo").

    `kl_weight`, `entropy_weight`, `aux_weight` and `temperature` may be set during training.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        posterior: "learned" draws the masks from the corrected posterior; "prior" draws them from
            the prior (the paper's q = p) and has no correction branch.
        aux_prior: What the correction is regressed to: "label", as the authors do, or "base_rate".
        kl_weight: Weight of the KL term; None is 1.
        entropy_weight: Weight of the negative-entropy term; None is 1.
        aux_weight: Weight of the aux term; None is 1 where the objective has one.
        temperature: Of the relaxed masks, above 0.
        floor: The weight of a dropped class, in [0, 1).
        num_samples: Masks per instance and step.
        retain_bias_init: Initial retain bias; above 0 the classes start retained.
        bias: Whether the maps have biases.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: If an argument does not fit, or is a weight for a term that is absent.

    Examples:
        >>> import torch
        >>> from dropmax.heads import DropMaxHead
        >>> head = DropMaxHead(16, 5)
        >>> scores = head(torch.randn(8, 16))
        >>> head.loss(scores, torch.arange(8) % 5).total.backward()
        >>> head.log_probs(scores, method="monte_carlo", num_samples=10).shape
        torch.Size([8, 5])
    """

    predictive_methods = ("plugin", "monte_carlo")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        posterior: str = "learned",
        aux_prior: str = "label",
        kl_weight: float | None = None,
        entropy_weight: float | None = None,
        aux_weight: float | None = None,
        temperature: float = 0.1,
        floor: float = 1e-20,
        num_samples: int = 1,
        retain_bias_init: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        name = "DropMaxHead"
        _check.choice(name, "posterior", posterior, POSTERIORS)
        _check.choice(name, "aux_prior", aux_prior, AUX_PRIORS)
        if posterior == "prior":
            where = "where posterior is 'prior'"
            aux_option = None if aux_prior == "label" else aux_prior
            _check.unused(name, {"aux_weight": aux_weight, "aux_prior": aux_option}, where)
        _check.number(name, "temperature", temperature, low=0.0, open_low=True)
        _check.number(name, "floor", floor, low=0.0, high=1.0, open_high=True)
        _check.integer(name, "num_samples", num_samples, low=1)
        _check.number(name, "retain_bias_init", retain_bias_init)
        if not bias and retain_bias_init != 0.0:
            must = "be 0 where bias is False"
            _check.fail(name, "retain_bias_init", must, retain_bias_init, "leave the biases on")
        super().__init__(
            in_features,
            num_classes,
            branches=POSTERIORS[posterior],
            retain_bias_init=retain_bias_init,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.posterior = posterior
        self.aux_prior = aux_prior
        self.kl_weight = 1.0 if kl_weight is None else kl_weight
        self.entropy_weight = 1.0 if entropy_weight is None else entropy_weight
        self.aux_weight = 1.0 if aux_weight is None and posterior == "learned" else aux_weight
        self.temperature = temperature
        self.floor = floor
        self.num_samples = num_samples
        self._check_weights(name)

    def _check_weights(self, function: str) -> None:
        """The weights are numbers of at least 0: at the start, and as a schedule leaves them."""
        _check.number(function, "kl_weight", self.kl_weight, low=0.0)
        _check.number(function, "entropy_weight", self.entropy_weight, low=0.0)
        if self.posterior == "prior":
            _check.unused(function, {"aux_weight": self.aux_weight}, "where there is no aux term")
        else:
            _check.number(function, "aux_weight", self.aux_weight, low=0.0)

    def _objective(
        self,
        scores: Scores,
        target: Tensor,
        noise: Tensor | None,
        generator: torch.Generator | None,
    ) -> Objective:
        self._check_weights("DropMaxHead.loss")
        return dropmax_objective(
            scores.logits,
            required(scores.retain_logits),
            scores.correction_logits,
            target,
            temperature=self.temperature,
            floor=self.floor,
            aux_prior=self.aux_prior,
            noise=noise,
            generator=generator,
            num_samples=self.num_samples,
            axis=self.axis,
        )

    def weighted(self, raw: Objective) -> Objective:
        return Objective.of_terms(
            raw.nll,
            self.kl_weight * raw.kl,
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
    ) -> Tensor:
        if method != "monte_carlo":
            return super().log_probs(
                scores, method=method, num_samples=num_samples, noise=noise, generator=generator
            )
        function = "DropMaxHead.log_probs"
        self._check_scores(function, scores, ("retain",))
        if num_samples is None:
            must = "be given for method 'monte_carlo'"
            _check.fail(function, "num_samples", must, None, "pass a number of masks")
        return predictive.monte_carlo(
            scores.logits,
            required(scores.retain_logits),
            num_samples=num_samples,
            noise=noise,
            generator=generator,
            axis=self.axis,
        )

    def _plugin(self, scores: Scores) -> Tensor:
        return predictive.plugin(
            scores.logits, required(scores.retain_logits), floor=self.floor, axis=self.axis
        )

    def extra_repr(self) -> str:
        options = {
            "posterior": self.posterior,
            "aux_prior": self.aux_prior,
            "kl_weight": self.kl_weight,
            "entropy_weight": self.entropy_weight,
            "aux_weight": self.aux_weight,
            "temperature": self.temperature,
            "num_samples": self.num_samples,
        }
        return ", ".join([super().extra_repr(), *(f"{k}={v}" for k, v in options.items())])

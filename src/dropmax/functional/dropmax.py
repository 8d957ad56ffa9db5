"""The variational objective of DropMax: its options, its four terms, and what sums them."""

import math
from dataclasses import dataclass
from typing import no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check, bernoulli
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.masking import (
    floored_logits,
    gated_logits,
    nll_of_each_class,
)
from dropmax.functional.targets import Label, Objective, axis_of

CERTAIN = 1e4
"""Posterior logits are cut there: beyond, a class is retained or dropped for certain."""

MASKS = ("relaxed", "straight_through", "mean")
AUX_PRIORS = ("label", "base_rate")


@no_type_check  # integers are numbers here, and what does not fit has an error of its own
@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions:
    """What decides the objective of DropMax; checked when made, changed by `dataclasses.replace`.

    Attributes:
        masks: How training makes masks of the posterior's probabilities. "relaxed" samples,
            "straight_through": hard samples whose logarithms have the relaxed ones' gradient, for
            class indices alone, or "mean": the probabilities themselves, without noise.
        temperature: Of the relaxed masks, above 0; near 0 they are hard.
        floor: The weight of a dropped class, in [0, 1).
        num_samples: The number S of masks for each instance over which the nll is averaged.
        plugin_share: The share s of the objective, in [0, 1), that is the cross-entropy of the
            plug-in, p_k proportional to (rho_k + floor) exp(logits_k): it enters the nll, and what
            the masks have of it and the other terms are multiplied by 1 - s.
        plugin_focus: An exponent of at least 0: the share is multiplied by (1 - p_t)^plugin_focus,
            held fixed, so that instances the plug-in is sure of are left to the masks.
        aux_prior: A class's probability pi beforehand, in (0, 1), to which the correction is
            relative: sigmoid(r + logit(pi)) is regressed to the label. "label" is 1/2, as the
            authors have it; "base_rate" is 1/K, so that r = 0 where the label says nothing.
        kl_weight: What the KL term is multiplied by in a loss, at least 0.
        entropy_weight: What the negative entropy is multiplied by, at least 0.
        aux_weight: What the aux term is multiplied by, at least 0.

    Raises:
        ValueError: If a value does not fit.
        TypeError: If it is none of the kind.

    Examples:
        >>> from dataclasses import replace
        >>> from dropmax.functional import ObjectiveOptions
        >>> replace(ObjectiveOptions(temperature=0.5), kl_weight=0.1).kl_weight
        0.1
    """

    masks: str = "relaxed"
    temperature: float = 0.1
    floor: float = 1e-20
    num_samples: int = 1
    plugin_share: float = 0.0
    plugin_focus: float = 0.0
    aux_prior: str | float = "label"
    kl_weight: float = 1.0
    entropy_weight: float = 1.0
    aux_weight: float = 1.0

    def __post_init__(self) -> None:
        _check.choice("masks", self.masks, MASKS)
        _check.number("temperature", self.temperature, low=0.0, open_low=True)
        _check.number("floor", self.floor, low=0.0, high=1.0, open_high=True)
        _check.integer("num_samples", self.num_samples, low=1)
        _check.number("plugin_share", self.plugin_share, low=0.0, high=1.0, open_high=True)
        _check.number("plugin_focus", self.plugin_focus, low=0.0)
        _check.choice_or_number("aux_prior", self.aux_prior, AUX_PRIORS)
        for weight in ("kl_weight", "entropy_weight", "aux_weight"):
            _check.number(weight, getattr(self, weight), low=0.0)

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of kl, neg_entropy and aux."""
        return self.kl_weight, self.entropy_weight, self.aux_weight

    def weighted(self, raw: Objective) -> Objective:
        """The terms of an objective times their weights."""
        kl, entropy, aux = self.weights
        return Objective.of_terms(raw.nll, kl * raw.kl, entropy * raw.neg_entropy, aux * raw.aux)

    def totaled(self, nll: Tensor, kl: Tensor, neg_entropy: Tensor, aux: Tensor) -> Objective:
        """The objective of terms before their weights, whose total is the sum after them."""
        total = nll
        for term, weight in zip((kl, neg_entropy, aux), self.weights, strict=True):
            total = total + weight * term
        return Objective(total, nll, kl, neg_entropy, aux)

    def aux_odds(self, num_classes: int) -> tuple[float, float]:
        """log pi and log(1 - pi) of `aux_prior`; both 0 for "label", whose logit pi is 0."""
        pi = self.aux_prior
        if pi == "base_rate" and num_classes > 1:
            pi = 1.0 / num_classes
        return (0.0, 0.0) if isinstance(pi, str) else (math.log(pi), math.log1p(-pi))

    def noise_of(
        self,
        logits: Tensor,
        noise: Tensor | None,
        generator: torch.Generator | None,
        axis: ClassAxis,
    ) -> Tensor | None:
        """The uniforms of the masks, checked, or drawn where none are given."""
        if self.masks == "mean":
            return None
        samples = self.num_samples
        return bernoulli.uniforms_like(logits, noise, generator, num_samples=samples, axis=axis)


DEFAULTS = ObjectiveOptions()


def dropmax_objective(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    correction_logits: Float[Tensor, "*batch K"] | None,
    target: Tensor | Label,
    *,
    options: ObjectiveOptions = DEFAULTS,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    axis: ClassAxis = LOCAL,
) -> Objective:
    """The four terms of DropMax's variational objective, unweighted, per instance.

    With rho = sigmoid(retain_logits), r = sigmoid(correction_logits), the posterior
    g = sigmoid(stop_gradient(retain_logits) + correction_logits) and a relaxed mask z ~ g, z_t = 1:

        nll         = -log p(target | z),  p_k proportional to (z_k + floor) exp(logits_k)
        kl          = -log rho_t + sum over k != t of KL[Bern(g_k) || Bern(rho_k)]
        neg_entropy = sum over k of rho_k log rho_k + (1 - rho_k) log(1 - rho_k)
        aux         = -log r_t - sum over k != t of log(1 - r_k)

    Without correction (None) the posterior is the prior: masks are drawn from rho and
    differentiated through, the target is still retained, kl = -log rho_t and aux = 0.

    Where the label is not one class but probabilities w_k of the classes, weighted by W_k, each
    term is its expectation over the target t with v_k = W_k w_k, V = sum over k of v_k, the same
    noise, a = exp(logits) and A = sum over j of (z_j + floor) a_j:

        nll         = sum over t of v_t [log((A + (1 - z_t) a_t) / (1 + floor)) - logits_t]
        kl          = sum over k of v_k (-log rho_k) + (V - v_k) KL[Bern(g_k) || Bern(rho_k)]
        neg_entropy = V times the above
        aux         = - sum over k of v_k log r_k + (V - v_k) log(1 - r_k)

    Label smoothing e is of the nll alone, whose coefficients become W_k ((1 - e) w_k + e/K).

    Args:
        logits: Class scores `[*, K]`; a class of logit -inf is masked: no target, and no rival in
            the nll.
        retain_logits: Logits of the prior retain probabilities `[*, K]`.
        correction_logits: What the label adds to the posterior's logits `[*, K]`, or None.
        target: Class indices `[*]`, or class probabilities `[*, K]` of a floating-point dtype; or a
            `Label` of these, which has the next two and the axis.
        options: What decides the objective. Its weights are not applied here; `Head.loss` does.
        weight: Class weights W `[K]`, of at least 0; ones if None.
        label_smoothing: The share e of the label that the nll spreads over all classes, in [0, 1].
        noise: Uniforms in (0, 1), float32 or float64, `[*, K]`, or `[S, *, K]` for S samples > 1;
            drawn if None. Given noise, the result is deterministic.
        generator: The source of the noise; the default one if None.
        axis: Where the classes live.

    Returns:
        `Objective` of tensors `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Lee et al. 2018, the regularized variational objective, and the losses of the authors' code,
        whose values and gradients it has. "base_rate" is ours.

    Examples:
        >>> import torch
        >>> from dropmax.functional import dropmax_objective
        >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
        >>> objective = dropmax_objective(
        ...     logits, torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]),
        ...     noise=torch.tensor([[0.5, 0.9, 0.1]]),
        ... )
        >>> for name, term in objective._asdict().items():
        ...     print(f"{name:11} {term.item():7.4f}")
        total        0.8201
        nll          0.1269
        kl           0.6931
        neg_entropy -2.0794
        aux          2.0794
    """
    _check.class_tensors(logits, axis_of(target, axis), retain_logits=retain_logits)
    if correction_logits is not None:
        _check.class_tensors(logits, axis_of(target, axis), correction_logits=correction_logits)
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    noise = options.noise_of(at_least_float32(logits), noise, generator, label.axis)
    return corrected_objective(logits, retain_logits, correction_logits, label, options, noise)


def corrected_objective(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    correction_logits: Float[Tensor, "*batch K"] | None,
    label: Label,
    options: ObjectiveOptions,
    noise: Float[Tensor, "..."] | None,
) -> Objective:
    """`dropmax_objective` of checked tensors, the noise that of this process's classes."""
    retain_logits = at_least_float32(retain_logits)
    if correction_logits is not None:
        correction_logits = at_least_float32(correction_logits)
    posterior_logits = corrected_logits(retain_logits, correction_logits)
    return _objective(
        logits, retain_logits, posterior_logits, correction_logits, label, options, noise
    )


def posterior_objective(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    posterior_logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
    *,
    options: ObjectiveOptions = DEFAULTS,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    axis: ClassAxis = LOCAL,
) -> Objective:
    """`dropmax_objective` under a posterior that is given and not learned by a correction.

    Masks are drawn from `sigmoid(posterior_logits)`, the target retained; `kl` is that from this
    posterior to the prior, and `aux` is 0.

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the prior retain probabilities `[*, K]`.
        posterior_logits: Logits of the masks `[*, K]`; infinite ones are retained or dropped for
            certain, and that of a target index is not read. Gradients flow into them.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the same posterior for all.
        options: As in `dropmax_objective`, and so the five below.
        weight: Class weights `[K]`.
        label_smoothing: Of the nll.
        noise: Uniforms in (0, 1) `[*, K]`, or `[S, *, K]` for S samples > 1.
        generator: The source of the noise.
        axis: Where the classes live.

    Returns:
        `Objective` of tensors `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Lee et al. 2018, the regularized variational objective with any posterior.

    Examples:
        >>> import torch
        >>> from dropmax.functional import posterior_objective
        >>> logits, prior = torch.tensor([[2.0, 0.0, -1.0]]), torch.zeros(1, 3)
        >>> dropped = torch.full((1, 3), -torch.inf)
        >>> objective = posterior_objective(logits, prior, dropped, torch.tensor([0]))
        >>> print(f"{objective.kl.item():.4f} = 3 log 2")
        2.0794 = 3 log 2
    """
    _check.class_tensors(logits, axis_of(target, axis), retain_logits=retain_logits)
    if isinstance(posterior_logits, Tensor):
        posterior_logits = at_least_float32(posterior_logits)
    _check.class_tensors(
        at_least_float32(logits), axis_of(target, axis), posterior_logits=posterior_logits
    )
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    noise = options.noise_of(at_least_float32(logits), noise, generator, label.axis)
    return given_objective(logits, retain_logits, posterior_logits, label, options, noise)


def given_objective(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    posterior_logits: Float[Tensor, "*batch K"],
    label: Label,
    options: ObjectiveOptions,
    noise: Float[Tensor, "..."] | None,
) -> Objective:
    """`posterior_objective` of checked tensors, the noise that of this process's classes."""
    certain = posterior_logits.clamp(-CERTAIN, CERTAIN)
    return _objective(logits, at_least_float32(retain_logits), certain, None, label, options, noise)


def _objective(
    logits: Tensor,
    retain_logits: Tensor,
    posterior_logits: Tensor,
    correction_logits: Tensor | None,
    label: Label,
    options: ObjectiveOptions,
    noise: Tensor | None,
) -> Objective:
    """The objective under a posterior, from tensors that are checked."""
    if correction_logits is None:
        _check.default("aux_prior", options.aux_prior, "label", "where there is no correction")
    if options.masks == "straight_through" and not label.is_one_class:
        must = "not be 'straight_through' where the label is not one class"
        _check.fail("masks", must, options.masks, "pass class indices, without smoothing")
    logits = at_least_float32(logits)
    nll = masked_nll(logits, posterior_logits, label, noise, options)
    rest = label
    if options.plugin_share > 0.0:
        plugin = plugin_nll(logits, retain_logits, label, floor=options.floor)
        shares = plugin_shares(plugin, options)
        nll = (1.0 - shares) * nll + shares * plugin
        kept = 1.0 - (shares.unsqueeze(-1) if label.is_one_class else shares)
        rest = Label(label.masses(logits) * kept, axis=label.axis)
    aux = logits.new_zeros(logits.shape[:-1])
    if correction_logits is not None:
        aux = correction_aux(correction_logits, rest, options)
    return Objective.of_terms(
        label.reduced(nll),
        mask_kl(posterior_logits, retain_logits, rest),
        prior_neg_entropy(retain_logits, rest),
        aux,
    )


def corrected_logits(
    retain_logits: Float[Tensor, "*batch K"], correction_logits: Float[Tensor, "*batch K"] | None
) -> Float[Tensor, "*batch K"]:
    """Logits of the learned posterior: the prior's, held fixed, and the correction.

    The prior itself, with its gradient, where there is no correction (the paper's q = p).
    """
    if correction_logits is None:
        return retain_logits
    return retain_logits.detach() + correction_logits.to(retain_logits.dtype)


def masked_nll(
    logits: Float[Tensor, "*batch K"],
    posterior_logits: Float[Tensor, "*batch K"],
    label: Label,
    noise: Float[Tensor, "..."] | None,
    options: ObjectiveOptions,
) -> Float[Tensor, "..."]:
    """Cross-entropy under masks of the posterior, the target t retained, averaged over samples.

    `log((A + (1 - z_t) a_t) / (1 + floor)) - logits_t` with a = exp(logits) and A = sum over j of
    (z_j + floor) a_j; of the label's class `[*]`, or of each as the target `[*, K]`, as
    `Label.reduced` takes it. Without noise z is the posterior's probability.
    """
    axis = label.axis
    mask_logits = posterior_logits
    if noise is not None:
        mask_logits = bernoulli.relaxed_mask_logits(posterior_logits, noise, options.temperature)
    log_mask = F.logsigmoid(mask_logits)
    if label.is_one_class:
        if options.masks == "straight_through":
            log_mask = _hard(log_mask, mask_logits)
        log_mask = log_mask.masked_fill(axis.one_hot(label.target, logits), 0.0)
        masked = floored_logits(logits, log_mask, options.floor)
        target = label.target.expand(masked.shape[:-1])
        nll = axis.cross_entropy(masked, target)
    else:
        masked = floored_logits(logits, log_mask, options.floor)
        dropped = logits + F.logsigmoid(-mask_logits)
        nll = nll_of_each_class(masked, dropped, logits, axis) - math.log1p(options.floor)
    return nll if masked.ndim == logits.ndim else nll.mean(0)


def _hard(
    log_mask: Float[Tensor, "*shape"], mask_logits: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The logarithm of the mask that is 1 where the logit is above 0, with the relaxed gradient."""
    log_hard = CERTAIN * (mask_logits > 0.0).to(log_mask.dtype) - CERTAIN
    return log_mask + (log_hard - log_mask).detach()


def plugin_nll(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    label: Label,
    *,
    floor: float,
) -> Float[Tensor, "..."]:
    """Cross-entropy of what the plug-in predicts, the retain probability in the mask's place.

    As `masked_nll`, of the label's class `[*]`, or of each class `[*, K]`.
    """
    gated = gated_logits(logits, retain_logits, floor)
    if label.is_one_class:
        return label.axis.cross_entropy(gated, label.target)
    return -label.axis.log_softmax(gated)


def plugin_shares(
    plugin: Float[Tensor, "*shape"], options: ObjectiveOptions
) -> Float[Tensor, "*shape"]:
    """The share of an objective that is the cross-entropy of the plug-in, less the surer it is.

    `plugin_share (1 - p_t)^plugin_focus`, p_t what the plug-in gives the target, held fixed.
    """
    unsure = -torch.expm1(-plugin.detach())
    return options.plugin_share * unsure**options.plugin_focus


def mask_kl(
    posterior_logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    label: Label,
) -> Float[Tensor, "*batch"]:
    """KL divergence of the masks with the target retained: -log rho_t and the rivals' sum."""
    return label.split(-F.logsigmoid(retain_logits), bernoulli.kl(posterior_logits, retain_logits))


def prior_neg_entropy(
    retain_logits: Float[Tensor, "*batch K"], label: Label
) -> Float[Tensor, "*batch"]:
    """Negative entropy of the prior's masks."""
    return label.scaled(label.axis.sum(bernoulli.neg_entropy(retain_logits)))


def correction_aux(
    correction_logits: Float[Tensor, "*batch K"], label: Label, options: ObjectiveOptions
) -> Float[Tensor, "*batch"]:
    """Cross-entropy to the label of sigmoid(r + logit(pi)), pi a class's probability beforehand."""
    log_pi, log_rest = options.aux_odds(label.axis.num_classes(correction_logits))
    if log_pi != 0.0:
        correction_logits = correction_logits + log_pi - log_rest
    return binary_nll(correction_logits, label)


def binary_nll(logits: Float[Tensor, "*batch K"], label: Label) -> Float[Tensor, "*batch"]:
    """Sum over classes of a binary cross-entropy each: is this class the label?"""
    return label.split(-F.logsigmoid(logits), -F.logsigmoid(-logits))

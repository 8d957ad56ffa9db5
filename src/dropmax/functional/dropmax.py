"""The variational objective of DropMax."""

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check, bernoulli
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.label import Label
from dropmax.functional.objective import Objective
from dropmax.functional.ranges import check_ranges
from dropmax.functional.terms import (
    AUX_PRIORS,
    CERTAIN,
    corrected_logits,
    correction_aux,
    mask_kl,
    masked_nll,
    plugin_nll,
    plugin_shares,
    prior_neg_entropy,
)


def dropmax_objective(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    correction_logits: Float[Tensor, "*batch K"] | None,
    target: Tensor,
    *,
    masks: str = "relaxed",
    temperature: float = 0.1,
    floor: float = 1e-20,
    plugin_share: float = 0.0,
    plugin_focus: float = 0.0,
    aux_prior: str | float = "label",
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    num_samples: int = 1,
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
        target: Class indices `[*]`, or class probabilities `[*, K]` of a floating-point dtype.
        masks: "relaxed" ones z as above, "straight_through": hard ones whose logarithms have the
            relaxed ones' gradient, for class indices alone, or "mean": z = g, without noise.
        temperature: Of the relaxed masks, above 0; near 0 they are hard.
        floor: The weight of a dropped class, in [0, 1).
        plugin_share: The share s of the objective, in [0, 1), that is the cross-entropy of the
            plug-in, p_k proportional to (rho_k + floor) exp(logits_k): it enters the nll, and what
            the masks have of it and the other terms are multiplied by 1 - s.
        plugin_focus: An exponent of at least 0: the share is multiplied by (1 - p_t)^plugin_focus,
            held fixed, so that instances the plug-in is sure of are left to the masks.
        aux_prior: A class's probability pi beforehand, in (0, 1), to which the correction is
            relative: sigmoid(r + logit(pi)) is regressed to the label. "label" is 1/2, as the
            authors have it; "base_rate" is 1/K, so that r = 0 where the label says nothing.
        weight: Class weights W `[K]`, of at least 0; ones if None.
        label_smoothing: The share e of the label that the nll spreads over all classes, in [0, 1].
        noise: Uniforms in (0, 1), float32 or float64, `[*, K]`, or `[S, *, K]` for S samples > 1;
            drawn if None. Given noise, the result is deterministic.
        generator: The source of the noise; the default one if None.
        num_samples: The number S of masks over which nll is averaged.
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
    _check.class_tensors(logits, retain_logits=retain_logits)
    if correction_logits is not None:
        _check.class_tensors(logits, correction_logits=correction_logits)
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    _check.choice_or_number("aux_prior", aux_prior, AUX_PRIORS)
    if correction_logits is None and aux_prior != "label":
        must = "stay 'label' where correction_logits is None"
        _check.fail("aux_prior", must, aux_prior, "pass correction_logits, or leave it")
    retain_logits = at_least_float32(retain_logits)
    if correction_logits is not None:
        correction_logits = at_least_float32(correction_logits)
    return _objective(
        logits,
        retain_logits,
        corrected_logits(retain_logits, correction_logits),
        correction_logits,
        label,
        aux_prior=aux_prior,
        masks=masks,
        temperature=temperature,
        floor=floor,
        plugin_share=plugin_share,
        plugin_focus=plugin_focus,
        noise=noise,
        generator=generator,
        num_samples=num_samples,
    )


def posterior_objective(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    posterior_logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    masks: str = "relaxed",
    temperature: float = 0.1,
    floor: float = 1e-20,
    plugin_share: float = 0.0,
    plugin_focus: float = 0.0,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    num_samples: int = 1,
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
        masks: As in `dropmax_objective`, and so the ten below.
        temperature: Of the relaxed masks.
        floor: The weight of a dropped class.
        plugin_share: The share of the plug-in's cross-entropy.
        plugin_focus: The exponent by which it falls where the plug-in is sure.
        weight: Class weights `[K]`.
        label_smoothing: Of the nll.
        noise: Uniforms in (0, 1) `[*, K]`, or `[S, *, K]` for S samples > 1.
        generator: The source of the noise.
        num_samples: The number S of masks.
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
    _check.class_tensors(logits, retain_logits=retain_logits)
    if isinstance(posterior_logits, Tensor):
        posterior_logits = at_least_float32(posterior_logits)
    _check.class_tensors(at_least_float32(logits), posterior_logits=posterior_logits)
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    return _objective(
        logits,
        at_least_float32(retain_logits),
        posterior_logits.clamp(-CERTAIN, CERTAIN),
        None,
        label,
        aux_prior="label",
        masks=masks,
        temperature=temperature,
        floor=floor,
        plugin_share=plugin_share,
        plugin_focus=plugin_focus,
        noise=noise,
        generator=generator,
        num_samples=num_samples,
    )


def _objective(
    logits: Tensor,
    retain_logits: Tensor,
    posterior_logits: Tensor,
    correction_logits: Tensor | None,
    label: Label,
    *,
    aux_prior: str | float,
    masks: str,
    temperature: float,
    floor: float,
    plugin_share: float,
    plugin_focus: float,
    noise: Tensor | None,
    generator: torch.Generator | None,
    num_samples: int,
) -> Objective:
    """The objective under a posterior, from arguments whose shapes are checked."""
    check_ranges(
        masks=masks,
        temperature=temperature,
        floor=floor,
        num_samples=num_samples,
        plugin_share=plugin_share,
        plugin_focus=plugin_focus,
    )
    if masks == "straight_through" and not label.is_one_class:
        must = "not be 'straight_through' where the label is not one class"
        _check.fail("masks", must, masks, "pass class indices, without smoothing")
    logits = at_least_float32(logits)
    if masks == "mean":
        noise = None
    else:
        noise = bernoulli.uniforms_like(logits, noise, generator, num_samples=num_samples)
    nll = masked_nll(
        logits,
        posterior_logits,
        label,
        masks=masks,
        noise=noise,
        temperature=temperature,
        floor=floor,
    )
    rest = label
    if plugin_share > 0.0:
        plugin = plugin_nll(logits, retain_logits, label, floor=floor)
        shares = plugin_shares(plugin, share=plugin_share, focus=plugin_focus)
        nll = (1.0 - shares) * nll + shares * plugin
        kept = 1.0 - (shares.unsqueeze(-1) if label.is_one_class else shares)
        rest = Label(label.masses(logits) * kept, axis=label.axis)
    aux = torch.zeros_like(logits[..., 0])
    if correction_logits is not None:
        aux = correction_aux(correction_logits, rest, aux_prior=aux_prior)
    return Objective.of_terms(
        label.reduced(nll),
        mask_kl(posterior_logits, retain_logits, rest),
        prior_neg_entropy(retain_logits, rest),
        aux,
    )

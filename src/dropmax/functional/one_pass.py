"""The objective of DropMax for a label that is one class, in few passes over the scores.

The formulas are those of `dropmax_objective` with one mask an instance, each exponential and
logarithm computed once, and their derivatives written out. In compiled code they become a few
loops that go over the classes with the scores in the cache.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax._noise import logistics
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.dropmax import ObjectiveOptions, corrected_objective, dropmax_objective
from dropmax.functional.targets import Label, Objective

LEAST_FLOOR = 1e-30
"""Below this floor a sum over masked classes may underflow, and logarithms are needed."""

PART = 2**16
"""So many scores are gone over at a time on the CPU, where fresh memory costs more than sums."""


def is_in_one_pass(options: ObjectiveOptions, *, one_class: bool) -> bool:
    """Whether the formulas here are those of such options and labels."""
    single = options.num_samples == 1 and options.masks != "straight_through"
    return one_class and single and options.floor >= LEAST_FLOOR


class Numbers(NamedTuple):
    """The numbers in the terms: of Python, or tensors for which nothing is compiled anew.

    Attributes:
        temperature: Of the masks; 1 where there is no noise.
        share: Of the plug-in.
        focus: Of the plug-in.
        aux_shift: logit(pi) of `aux_prior`.
    """

    temperature: Any
    share: Any
    focus: Any
    aux_shift: Any

    @classmethod
    def of(cls, options: ObjectiveOptions, num_classes: int) -> "Numbers":
        log_pi, log_rest = options.aux_odds(num_classes)
        temperature = 1.0 if options.masks == "mean" else options.temperature
        return cls(temperature, options.plugin_share, options.plugin_focus, log_pi - log_rest)


class Kind(NamedTuple):
    """What of the formulas there is.

    Attributes:
        floor: The weight of a dropped class.
        learned: Whether the correction is a score that is learned, with an aux term.
        with_plugin: Whether a share of the objective is the plug-in's cross-entropy.
    """

    floor: float
    learned: bool
    with_plugin: bool

    @classmethod
    def of(cls, options: ObjectiveOptions, *, learned: bool) -> "Kind":
        return cls(options.floor, learned, options.plugin_share > 0.0)


class Sigmoids(NamedTuple):
    """Of x: rho = sigmoid(x), the smaller of rho and 1 - rho, and the larger one's logarithm."""

    rho: Tensor
    smaller: Tensor
    log_larger: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "Sigmoids":
        if torch.compiler.is_compiling():  # a choice costs nothing there, and an exponential does
            small = torch.exp(-x.abs())
            larger = 1.0 / (1.0 + small)
            smaller = small * larger
            return cls(torch.where(x >= 0.0, larger, smaller), smaller, -torch.log1p(small))
        smaller = x.abs().neg_().sigmoid_()
        return cls(torch.sigmoid(x), smaller, smaller.neg().log1p_())


class Kept(NamedTuple):
    """What the gradient needs of the terms.

    Attributes:
        exps: exp(logits) by that of the largest `[*, K]`.
        mask: z, 1 at the target `[*, K]`.
        rho: sigmoid(retain_logits) `[*, K]`.
        rho_smaller: The smaller of rho and 1 - rho `[*, K]`.
        g: Of the posterior `[*, K]`; None where that is the prior.
        g_smaller: The smaller of g and 1 - g `[*, K]`; None there.
        expected: sigmoid(correction_logits + aux_shift) `[*, K]`; None without an aux term.
        total: Sum over k of (z_k + floor) exps_k `[*, 1]`.
        plugin_total: Sum over k of (rho_k + floor) exps_k `[*, 1]`; None without a plug-in.
        shares: Of the plug-in `[*, 1]`; None without.
    """

    exps: Tensor
    mask: Tensor
    rho: Tensor
    rho_smaller: Tensor
    g: Tensor | None
    g_smaller: Tensor | None
    expected: Tensor | None
    total: Tensor
    plugin_total: Tensor | None
    shares: Tensor | None


@no_type_check  # torch.compile traces it, which checks at run time would hinder
def terms_of(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    correction_logits: Float[Tensor, "*batch K"] | None,
    target: Int[Tensor, "*batch"],
    logistics: Float[Tensor, "*batch K"] | None,
    numbers: Numbers,
    kind: Kind,
    axis: ClassAxis,
) -> tuple[list[Tensor], Kept]:
    """nll, kl, neg_entropy and aux of each instance `[*]`, unweighted, and what `pulled` needs.

    With x = retain_logits, p = x + correction_logits, softplus(x) = log(1 + exp(x)), and the mask
    z = sigmoid((p + logistics) / temperature), which is 1 at the target:

        nll         = log sum over k of (z_k + floor) exp(logits_k) - logits_t - log(1 + floor)
        kl          = softplus(-x_t) + sum over k != t of g_k (p_k - x_k) + softplus(x_k)
                      - softplus(p_k),  g = sigmoid(p)
        neg_entropy = sum over k of log larger_k - |x_k| smaller_k,  of sigmoid(x) and sigmoid(-x)
        aux         = softplus(-c_t) + sum over k != t of softplus(c_k),
                      c = correction_logits + aux_shift

    Where a share s of the objective is the plug-in's cross-entropy, the nll is (1 - s) nll + s
    plugin_nll and the other terms are multiplied by 1 - s.

    Args:
        logits: Class scores.
        retain_logits: Logits of the prior.
        correction_logits: What makes the posterior's logits of the prior's; None for the prior.
        target: The class of each instance.
        logistics: The noise of the masks; None where z = g.
        numbers: Those that may change from step to step.
        kind: What of the formulas there is.
        axis: Where the classes live, of which one maximum is taken and one sum of all summands.
    """
    shift = axis.amax(logits).unsqueeze(-1).clamp(min=torch.finfo(logits.dtype).min)
    exps = (logits - shift).exp_()
    prior, posterior, posterior_logits = Sigmoids.of(retain_logits), None, retain_logits
    if correction_logits is not None:
        posterior_logits = retain_logits + correction_logits
        posterior = Sigmoids.of(posterior_logits)
    if logistics is None:
        mask = (posterior or prior).rho.clone()
    else:
        mask = (posterior_logits + logistics).div_(numbers.temperature).sigmoid_()
    mask = axis.put(mask, target, 1.0)

    retain_of_target = axis.own(retain_logits, target)
    kl = (-retain_of_target).clamp(min=0.0) - axis.own(prior.log_larger, target)
    if posterior is not None:
        of_rivals = (posterior_logits - retain_logits).mul_(posterior.rho)
        of_rivals.add_(retain_logits.clamp(min=0.0)).sub_(posterior_logits.clamp(min=0.0))
        of_rivals.sub_(prior.log_larger).add_(posterior.log_larger)
        kl = axis.put(of_rivals, target, kl).sum(-1, keepdim=True)
    neg_entropy = prior.log_larger.sub_(retain_logits.abs().mul_(prior.smaller)).sum(-1, True)
    of_exps, of_mask = exps.sum(-1, keepdim=True), (exps * mask).sum(-1, keepdim=True)
    sums = [of_exps, of_mask, axis.own(logits, target), kl, neg_entropy]
    expected = plugin_total = shares = None
    if kind.learned:
        shifted = correction_logits + numbers.aux_shift
        correction = Sigmoids.of(shifted)
        expected = correction.rho
        softplus = shifted.clamp(min=0.0).sub_(correction.log_larger)
        of_target = (-axis.own(shifted, target)).clamp(min=0.0)
        of_target = of_target - axis.own(correction.log_larger, target)
        sums.append(axis.put(softplus, target, of_target).sum(-1, keepdim=True))
    if kind.with_plugin:
        sums += [(exps * prior.rho).sum(-1, keepdim=True), axis.own(prior.rho, target)]

    sum_exps, total, logit_of_target, kl, neg_entropy, *others = axis.total(sums)
    aux = others.pop(0) if kind.learned else torch.zeros_like(kl)
    total = total + kind.floor * sum_exps
    below = shift - logit_of_target
    nll = (total / (1.0 + kind.floor)).log() + below
    if kind.with_plugin:
        of_rho, rho_of_target = others
        plugin_total = of_rho + kind.floor * sum_exps
        plugin_nll = plugin_total.log() + below - (rho_of_target + kind.floor).log()
        shares = numbers.share * (-torch.expm1(-plugin_nll)) ** numbers.focus
        rest = 1.0 - shares
        nll = rest * nll + shares * plugin_nll
        kl, neg_entropy, aux = rest * kl, rest * neg_entropy, rest * aux
    of_posterior = (None, None) if posterior is None else posterior[:2]
    kept = Kept(exps, mask, *prior[:2], *of_posterior, expected, total, plugin_total, shares)
    return [term.squeeze(-1) for term in (nll, kl, neg_entropy, aux)], kept


@no_type_check
def pulled(
    factors: Sequence[Float[Tensor, "*batch 1"]],
    kept: Kept,
    retain_logits: Float[Tensor, "*batch K"],
    correction_logits: Float[Tensor, "*batch K"] | None,
    target: Int[Tensor, "*batch"],
    numbers: Numbers,
    kind: Kind,
    axis: ClassAxis,
) -> list[Tensor]:
    """The gradients of the scores: of the terms of `terms_of`, each times a factor an instance.

    With pi the softmax under z + floor and rho = sigmoid(retain_logits), at each class k:

        d nll         / d logits            = pi - [k = t]
        d nll         / d p                 = pi (1 - z) z / (z + floor) / temperature
        d kl          / d p                 = g (1 - g) (p - retain_logits),  0 at the target
        d kl          / d retain_logits     = rho - g,  with g = 1 at the target
        d neg_entropy / d retain_logits     = rho (1 - rho) retain_logits
        d aux         / d correction_logits = sigmoid(correction_logits + aux_shift) - [k = t]
        d plugin_nll  / d retain_logits     = (pi' - [k = t]) rho (1 - rho) / (rho + floor),
                                              pi' the softmax under rho + floor

    Args:
        factors: Of nll, kl, neg_entropy and aux.
        kept: What `terms_of` found.
        retain_logits: As there, and so the others.
        correction_logits: None for the prior.
        target: The class of each instance.
        numbers: Those of the terms.
        kind: What of the formulas there is.
        axis: Where the classes live, of which nothing is summed.

    Returns:
        Of logits, of retain_logits and, where it is learned, of correction_logits.
    """
    of_nll, of_kl, of_entropy, of_aux = factors
    of_masks = of_nll
    if kept.shares is not None:
        rest = 1.0 - kept.shares
        of_masks, of_kl, of_entropy, of_aux = (rest * x for x in factors)
    by_share = kept.exps * (of_masks / kept.total)
    retained = by_share * kept.mask
    to_mask = torch.addcmul(retained, retained, kept.mask, value=-1.0).div_(numbers.temperature)
    to_logits = retained.add_(by_share, alpha=kind.floor)
    spread = _spread(kept.rho_smaller)
    to_retain = (spread * retain_logits).mul_(of_entropy)
    absent = -(-axis.own(retain_logits, target)).sigmoid()  # rho - 1 at the target
    if kept.g is None:
        to_retain = axis.add(to_retain.add_(to_mask), target, of_kl * absent)
    else:
        surplus = axis.put(kept.rho - kept.g, target, absent)
        to_retain.addcmul_(surplus, of_kl)
    if kept.shares is not None:
        of_plugin = of_nll * kept.shares
        by_share = kept.exps * (of_plugin / kept.plugin_total)
        to_logits.addcmul_(by_share, kept.rho).add_(by_share, alpha=kind.floor)
        to_retain.addcmul_(by_share, spread)
        slope = axis.own(spread, target) / (axis.own(kept.rho, target) + kind.floor)
        to_retain = axis.add(to_retain, target, -of_plugin * slope)
    gradients = [axis.add(to_logits, target, -of_nll), to_retain]
    if kind.learned:
        to_kl = axis.put(_spread(kept.g_smaller).mul_(correction_logits), target, 0.0)
        to_correction = to_mask.addcmul_(to_kl, of_kl)
        to_correction.addcmul_(kept.expected, of_aux)
        gradients.append(axis.add(to_correction, target, -of_aux))
    return gradients


def _spread(smaller: Tensor) -> Tensor:
    """p (1 - p), the derivative of the sigmoid p, from the smaller of both."""
    return torch.addcmul(smaller, smaller, smaller, value=-1.0)


class _OnePass(torch.autograd.Function):
    """The objective of each instance; the gradients of its weighted total are made with it.

    Other gradients, those of a term and second ones, go through `dropmax_objective`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        options: ObjectiveOptions,
        axis: ClassAxis,
        noise: Tensor | None,
        target: Tensor,
        *scores: Tensor | None,
    ) -> tuple[Tensor, ...]:
        logits, _, correction_logits = scores
        assert logits is not None
        numbers = Numbers.of(options, axis.num_classes(logits))
        kind = Kind.of(options, learned=correction_logits is not None)
        found: list[Objective] = []
        made: list[list[Tensor]] = []
        for *part, indices, uniforms in _parts(axis, *scores, target, noise):
            drawn = None if uniforms is None else torch.logit(uniforms.to(logits.dtype))
            terms, kept = terms_of(*part, indices, drawn, numbers, kind, axis)
            found.append(options.totaled(*terms))
            if any(ctx.needs_input_grad):
                factors = [torch.full_like(kept.total, x) for x in (1.0, *options.weights)]
                made.append(pulled(factors, kept, *part[1:], indices, numbers, kind, axis))
        gradients = [_joined(parts, logits.shape) for parts in zip(*made, strict=True)]
        ctx.options, ctx.axis = options, axis
        ctx.save_for_backward(noise, target, *scores, *gradients)
        ctx.set_materialize_grads(False)
        return tuple(_joined(parts, target.shape) for parts in zip(*found, strict=True))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        noise, target, *others = ctx.saved_tensors
        scores, gradients = others[:3], others[3:]
        of_total, *of_terms = upstream
        if torch.is_grad_enabled() or any(factor is not None for factor in of_terms):
            label = Label(target, axis=ctx.axis)
            gradients = _by_autograd(scores, label, ctx.options, noise, upstream)
        elif of_total is not None:
            factor = of_total.unsqueeze(-1)
            gradients = [gradient * factor for gradient in gradients]
        absent = [None] * (len(scores) - len(gradients))
        return None, None, None, None, *gradients, *absent


class _Traced(torch.autograd.Function):
    """The terms of each instance for compiled code, whose compiler decides what is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        options: ObjectiveOptions,
        axis: ClassAxis,
        drawn: Tensor | None,
        target: Tensor,
        *scores: Tensor | None,
    ) -> tuple[Tensor, ...]:
        logits, _, correction_logits = scores
        assert logits is not None
        ctx.axis, ctx.numbers = axis, Numbers.of(options, axis.num_classes(logits))
        ctx.kind = Kind.of(options, learned=correction_logits is not None)
        terms, kept = terms_of(*scores, target, drawn, ctx.numbers, ctx.kind, axis)
        ctx.save_for_backward(target, *scores, *kept)
        return tuple(terms)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        target, *others = ctx.saved_tensors
        scores, kept = others[:3], Kept(*others[3:])
        factors = [factor.unsqueeze(-1) for factor in upstream]
        gradients = pulled(factors, kept, *scores[1:], target, ctx.numbers, ctx.kind, ctx.axis)
        absent = [None] * (len(scores) - len(gradients))
        return None, None, None, None, *gradients, *absent


def _parts(axis: ClassAxis, *tensors: Tensor | None) -> Iterator[tuple[Tensor | None, ...]]:
    """The same, a few instances at a time where that is faster."""
    logits = tensors[0]
    assert logits is not None
    if logits.device.type != "cpu" or axis is not LOCAL or logits.numel() <= PART:
        return iter((tensors,))
    rows = [None if x is None else x.reshape(-1, *x.shape[logits.ndim - 1 :]) for x in tensors]
    return in_parts(max(1, PART // logits.shape[-1]), *rows)


def in_parts(size: int, *tensors: Tensor | None) -> Iterator[tuple[Tensor | None, ...]]:
    """Tensors of instances `[N, ...]`, so many of them at a time; the first is not None."""
    assert tensors[0] is not None
    for start in range(0, max(len(tensors[0]), 1), size):
        yield tuple(None if x is None else x[start : start + size] for x in tensors)


def _joined(parts: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(shape)


def _by_autograd(
    scores: Any,
    label: Label,
    options: ObjectiveOptions,
    noise: Tensor | None,
    upstream: Sequence[Tensor | None],
) -> Sequence[Tensor | None]:
    """The gradients of the scores by that of each term, which can be differentiated again."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        logits, retain_logits, correction_logits = scores
        raw = corrected_objective(logits, retain_logits, correction_logits, label, options, noise)
        pairs = zip(options.totaled(*raw[1:]), upstream, strict=True)
        read = [(term, x) for term, x in pairs if x is not None and term.requires_grad]
        if not read:
            return [None] * len(scores)
        terms, factors = zip(*read, strict=True)
        learned = [score for score in scores if score is not None and score.requires_grad]
        found = iter(
            torch.autograd.grad(
                terms, learned, factors, create_graph=create_graph, materialize_grads=True
            )
        )
    return [next(found) if x is not None and x.requires_grad else None for x in scores]


def totaled_objective(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    correction_logits: Float[Tensor, "*batch K"] | None,
    label: Label,
    *,
    options: ObjectiveOptions,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Objective:
    """`dropmax_objective`, its total weighted, in one pass where that can be done.

    Code that torch.func transforms goes the plain way.
    """
    if not is_in_one_pass(options, one_class=label.is_one_class) or _check.is_transformed(logits):
        raw = dropmax_objective(
            logits,
            retain_logits,
            correction_logits,
            label,
            options=options,
            noise=noise,
            generator=generator,
        )
        return options.totaled(*raw[1:])
    _check.class_tensors(logits, label.axis, retain_logits=retain_logits)
    if correction_logits is not None:
        _check.class_tensors(logits, label.axis, correction_logits=correction_logits)
    logits, retain_logits = at_least_float32(logits), at_least_float32(retain_logits)
    if correction_logits is not None:
        correction_logits = at_least_float32(correction_logits)
    given = label.target, logits, retain_logits, correction_logits
    if torch.compiler.is_compiling():
        drawn = _logistics(logits, options, noise, generator, label.axis)
        traced = _Traced.apply(options, label.axis, drawn, *given)  # type: ignore[no-untyped-call]
        return options.totaled(*(label.scaled(term) for term in traced))
    noise = options.noise_of(logits, noise, generator, label.axis)
    terms = _OnePass.apply(options, label.axis, noise, *given)  # type: ignore[no-untyped-call]
    return Objective(*(label.scaled(term) for term in terms))


def _logistics(
    like: Tensor,
    options: ObjectiveOptions,
    noise: Tensor | None,
    generator: torch.Generator | None,
    axis: ClassAxis,
) -> Tensor | None:
    """The noise of the masks; where none is given, by a hash, of which a compiler makes a loop."""
    if noise is None and options.masks != "mean":
        _check.random_source(noise, generator, like.device)
        keys = axis.keys(like.shape[:-1], like.device, generator)
        return logistics(keys, like.shape[-1], like.dtype, axis.first)
    noise = options.noise_of(like, noise, generator, axis)
    return None if noise is None else torch.logit(noise.to(like.dtype))

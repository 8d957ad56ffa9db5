"""The objective of a few instances and its gradient with respect to their scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropmax._check import at_least_float32
from dropmax._noise import logistics, uniforms
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional import (
    Label,
    Objective,
    ObjectiveOptions,
    analytic_correction,
)
from dropmax.functional.dropmax import corrected_objective
from dropmax.functional.one_pass import Kind, Numbers, in_parts, is_in_one_pass, pulled, terms_of
from dropmax.functional.posterior import analytic_posterior, computed_posterior_objective
from dropmax.fused.compiled import Compiled


def part_of(count: int, device: torch.device, *, exchanges: bool) -> int:
    """So many of the scores of a map are gone over at a time, about, with what lies in between.

    A CPU's caches hold them, unless processes wait for one another in each part. On a GPU what lies
    in between takes less memory than the scores do.
    """
    if device.type != "cpu":
        return max(2**22, count // 8)
    return 2**20 if exchanges else 2**18


def _over_the_scores(
    logits: Tensor,
    retain_logits: Tensor,
    correction_logits: Tensor | None,
    target: Tensor,
    factor: Tensor,
    keys: Tensor | None,
    noise: Tensor | None,
    *,
    weights: Tensor,
    numbers: Tensor,
    kind: Kind,
    axis: ClassAxis,
) -> list[Tensor]:
    """The terms of `terms_of`; the gradients of their weighted sum are written over the scores."""
    scores = logits, retain_logits, correction_logits
    drawn = None if noise is None else torch.logit(noise.to(logits.dtype))
    if keys is not None:
        drawn = logistics(keys, logits.shape[-1], logits.dtype, axis.first)
    these = Numbers(*numbers.unbind())
    terms: list[Tensor]
    terms, kept = terms_of(*scores, target, drawn, these, kind, axis)
    factor = factor.unsqueeze(-1)
    factors = [factor, *(weight * factor for weight in weights.unbind())]
    gradients = pulled(factors, kept, *scores[1:], target, these, kind, axis)
    for score, gradient in zip(scores, gradients, strict=False):
        assert score is not None
        score.copy_(gradient)
    return terms


in_one_pass = Compiled(_over_the_scores)


def _in_parts(*tensors: Tensor | None, axis: ClassAxis, **options: Any) -> list[Tensor]:
    """The same a few instances at a time, so that what lies in between is small."""
    (logits, *_) = tensors
    assert logits is not None
    num_classes = axis.most_classes(logits.shape[-1])
    count = len(logits) * num_classes
    size = max(1, part_of(count, logits.device, exchanges=axis is not LOCAL) // num_classes)
    parts = in_parts(size, *tensors)
    found = [in_one_pass(*part, of=count, axis=axis, **options) for part in parts]
    return [torch.cat(term) for term in zip(*found, strict=True)]


def _numbers(values: Sequence[float], like: Tensor) -> Tensor:
    """A tensor of them on the device, which is not waited for as in a copy."""
    return torch.stack([like.new_full((), value) for value in values])


class Settings(NamedTuple):
    """What is the same for all instances, and where the classes live."""

    options: ObjectiveOptions
    posterior: str
    label_smoothing: float
    axis: ClassAxis


class Chunk(NamedTuple):
    """A few instances: their labels, what their gradients are multiplied by, their noise.

    Attributes:
        target: Class indices `[N]`, or probabilities `[N, K]` of all classes.
        factor: Of the gradients `[N]`.
        weight: Weights `[K]` of all classes; ones if None.
        keys: Of the noise `[N, 2]`, or `[S, N, 2]`; None where it is given or there is none.
        noise: Uniforms `[N, K]`, or `[S, N, K]`, of the classes of this process.
    """

    target: Tensor
    factor: Tensor
    weight: Tensor | None
    keys: Tensor | None
    noise: Tensor | None


def objective_of(
    scores: Sequence[Tensor], chunk: Chunk, settings: Settings, *, differentiates: bool
) -> tuple[Objective, Sequence[Tensor]]:
    """The weighted objective of each instance `[N]`, and the gradients of scores `[N, K]`.

    In one pass where the label is one class and there is one mask, else by autograd through
    `functional`. The scores are not to be read afterwards, nor the gradients where they are not
    asked for.
    """
    options = settings.options
    one_class = not chunk.target.is_floating_point() and settings.label_smoothing == 0.0
    if is_in_one_pass(options, one_class=one_class):
        return _in_one_pass(scores, chunk, settings)
    return _by_autograd(scores, chunk, settings, differentiates)


def _in_one_pass(
    scores: Sequence[Tensor], chunk: Chunk, settings: Settings
) -> tuple[Objective, Sequence[Tensor]]:
    options, posterior, _, axis = settings
    gradients = [at_least_float32(branch) for branch in scores]  # what they become
    logits, retain_logits, *correction = gradients
    if posterior == "analytic":
        correction = [analytic_correction(logits, retain_logits, chunk.target, axis=axis)]
    factor = chunk.factor.to(logits.dtype)
    weight = None if chunk.weight is None else chunk.weight[chunk.target].to(logits.dtype)
    mean = options.masks == "mean"
    terms = _in_parts(
        logits,
        retain_logits,
        correction[0] if correction else None,
        chunk.target,
        factor if weight is None else factor * weight,
        None if mean else chunk.keys,
        None if mean else chunk.noise,
        weights=_numbers(options.weights, logits),
        numbers=_numbers(Numbers.of(options, axis.num_classes(logits)), logits),
        kind=Kind.of(options, learned=posterior == "learned"),
        axis=axis,
    )
    if weight is not None:
        terms = [term.masked_fill(weight == 0.0, 0.0) * weight for term in terms]
    return options.weighted(Objective.of_terms(*terms)), gradients


def _by_autograd(
    scores: Sequence[Tensor], chunk: Chunk, settings: Settings, differentiates: bool
) -> tuple[Objective, Sequence[Tensor]]:
    options, posterior, label_smoothing, axis = settings
    leaves = [at_least_float32(branch.detach()) for branch in scores]
    if differentiates:
        leaves = [leaf.requires_grad_() for leaf in leaves]
    logits, retain_logits, *correction = leaves
    noise = chunk.noise
    if chunk.keys is not None:
        noise = uniforms(chunk.keys, logits.shape[-1], logits.dtype, axis.first)
    label = Label.of(
        chunk.target, logits, weight=chunk.weight, label_smoothing=label_smoothing, axis=axis
    )
    with torch.set_grad_enabled(differentiates):
        if posterior == "analytic":
            raw = computed_posterior_objective(
                analytic_posterior,
                logits,
                retain_logits,
                label,
                options,
                noise,
            )
        else:
            correction_logits = correction[0] if correction else None
            raw = corrected_objective(
                logits, retain_logits, correction_logits, label, options, noise
            )
        weighted = options.weighted(raw)
        total = weighted.total.masked_fill(chunk.factor == 0.0, 0.0)
    gradients = torch.autograd.grad(total, leaves, chunk.factor) if differentiates else ()
    return Objective(*(term.detach() for term in weighted)), gradients

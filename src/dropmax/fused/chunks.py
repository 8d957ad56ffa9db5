"""The objective of a few instances and its gradient with respect to their scores."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL
from dropmax.functional import Objective, dropmax_objective
from dropmax.functional.computed_posterior import (
    analytic_posterior,
    computed_posterior_objective,
)
from dropmax.functional.correction import analytic_correction
from dropmax.functional.label import Label
from dropmax.fused.compiled import Compiled
from dropmax.fused.elementwise import Scalars, objective_and_gradient
from dropmax.fused.noise import uniforms

PART = 2**18
"""So many scores of each map are gone over at a time, about, with what lies in between."""


def _over_the_scores(
    logits: Tensor,
    retain_logits: Tensor,
    correction_logits: Tensor | None,
    *arguments: Any,
    **options: Any,
) -> list[Tensor]:
    """The terms of `objective_and_gradient`; its gradients are written over the scores."""
    scores = logits, retain_logits, correction_logits
    terms, gradients = objective_and_gradient(*scores, *arguments, **options)
    for score, gradient in zip(scores, gradients, strict=False):
        assert score is not None
        score.copy_(gradient)
    return terms


in_one_pass = Compiled(_over_the_scores)


def _in_parts(*tensors: Tensor | None, scalars: Tensor, **options: Any) -> list[Tensor]:
    """The same a few instances at a time, so that what lies in between is small."""
    (logits, *_) = tensors
    assert logits is not None
    size = max(1, PART // logits.shape[-1])
    parts = [
        in_one_pass(*part, scalars=scalars, of=logits.numel(), **options)
        for part in zip(*(_split(tensor, size, len(logits)) for tensor in tensors), strict=True)
    ]
    return [torch.cat(term) for term in zip(*parts, strict=True)]


def _split(tensor: Tensor | None, size: int, count: int) -> Sequence[Tensor | None]:
    return [None] * max(1, math.ceil(count / size)) if tensor is None else torch.split(tensor, size)


class Options(NamedTuple):
    """What decides the objective, by the names of `dropmax_objective` and `DropMaxHead`."""

    posterior: str
    masks: str
    temperature: float
    floor: float
    num_samples: int
    plugin_share: float
    plugin_focus: float
    aux_prior: str | float
    kl_weight: float
    entropy_weight: float
    aux_weight: float
    label_smoothing: float

    def weighted(self, raw: Objective) -> Objective:
        """The terms times their weights."""
        kl, entropy, aux = self.kl_weight, self.entropy_weight, self.aux_weight
        return Objective.of_terms(raw.nll, kl * raw.kl, entropy * raw.neg_entropy, aux * raw.aux)

    def aux_shift(self, num_classes: int) -> float:
        """The logit of a class's probability beforehand, as the aux term takes it."""
        if self.aux_prior == "base_rate":
            return -math.log(num_classes - 1) if num_classes > 1 else 0.0
        if isinstance(self.aux_prior, str):
            return 0.0
        return math.log(self.aux_prior) - math.log1p(-self.aux_prior)


class Chunk(NamedTuple):
    """A few instances: their labels, what their gradients are multiplied by, their noise.

    Attributes:
        target: Class indices `[N]` or probabilities `[N, K]`.
        factor: Of the gradients `[N]`.
        class_weight: `[K]`; ones if None.
        keys: Of the noise `[N, 2]`, or `[S, N, 2]`; None where it is given or there is none.
        noise: Uniforms `[N, K]`, or `[S, N, K]`.
    """

    target: Tensor
    factor: Tensor
    class_weight: Tensor | None
    keys: Tensor | None
    noise: Tensor | None


def objective_of(
    scores: Sequence[Tensor], chunk: Chunk, options: Options, *, differentiates: bool
) -> tuple[Objective, Sequence[Tensor]]:
    """The weighted objective of each instance `[N]`, and the gradients of scores `[N, K]`.

    In one pass where the label is one class and there is one mask, else by autograd through
    `functional`. The scores are not to be read afterwards, nor the gradients where they are not
    asked for.
    """
    one_class = not chunk.target.is_floating_point() and options.label_smoothing == 0.0
    if one_class and options.num_samples == 1 and options.masks != "straight_through":
        return _in_one_pass(scores, chunk, options)
    return _by_autograd(scores, chunk, options, differentiates)


def _in_one_pass(
    scores: Sequence[Tensor], chunk: Chunk, options: Options
) -> tuple[Objective, Sequence[Tensor]]:
    gradients = [at_least_float32(branch) for branch in scores]  # what they become
    logits, retain_logits, *correction = gradients
    learned = options.posterior == "learned"
    if options.posterior == "analytic":
        correction = [analytic_correction(logits, retain_logits, chunk.target)]
    weight = (
        None if chunk.class_weight is None else chunk.class_weight[chunk.target].to(logits.dtype)
    )
    mean = options.masks == "mean"
    scalars = Scalars(
        options.kl_weight,
        options.entropy_weight,
        options.aux_weight,
        1.0 if mean else options.temperature,
        options.plugin_share,
        options.plugin_focus,
        options.aux_shift(logits.shape[-1]),
    )
    terms = _in_parts(
        logits,
        retain_logits,
        correction[0] if correction else None,
        chunk.target,
        chunk.factor if weight is None else chunk.factor * weight,
        None if mean else chunk.keys,
        None if mean else chunk.noise,
        scalars=logits.new_tensor(scalars),
        floor=options.floor,
        learned=learned,
        with_plugin=options.plugin_share > 0.0,
    )
    if weight is not None:
        terms = [term.masked_fill(weight == 0.0, 0.0) * weight for term in terms]
    return options.weighted(Objective.of_terms(*terms)), gradients


def _by_autograd(
    scores: Sequence[Tensor], chunk: Chunk, options: Options, differentiates: bool
) -> tuple[Objective, Sequence[Tensor]]:
    leaves = [at_least_float32(branch.detach()) for branch in scores]
    if differentiates:
        leaves = [leaf.requires_grad_() for leaf in leaves]
    logits, retain_logits, *correction = leaves
    noise = chunk.noise
    if chunk.keys is not None:
        noise = uniforms(chunk.keys, logits.shape[-1], logits.dtype)
    shared: dict[str, Any] = {
        "masks": options.masks,
        "temperature": options.temperature,
        "floor": options.floor,
        "plugin_share": options.plugin_share,
        "plugin_focus": options.plugin_focus,
        "num_samples": options.num_samples,
        "noise": noise,
    }
    label: dict[str, Any] = {
        "weight": chunk.class_weight,
        "label_smoothing": options.label_smoothing,
    }
    with torch.set_grad_enabled(differentiates):
        if options.posterior == "analytic":
            checked = Label.of(chunk.target, logits, **label, axis=LOCAL)
            raw = computed_posterior_objective(
                analytic_posterior,
                logits,
                retain_logits,
                checked,
                generator=None,
                **shared,
            )
        else:
            raw = dropmax_objective(
                logits,
                retain_logits,
                correction[0] if correction else None,
                chunk.target,
                aux_prior=options.aux_prior if correction else "label",
                **shared,
                **label,
            )
        weighted = options.weighted(raw)
        total = weighted.total.masked_fill(chunk.factor == 0.0, 0.0)
    gradients = torch.autograd.grad(total, leaves, chunk.factor) if differentiates else ()
    return Objective(*(term.detach() for term in weighted)), gradients

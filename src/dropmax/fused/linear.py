"""The linear maps and the objective of DropMax in one, over chunks of instances."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL
from dropmax.functional import Objective
from dropmax.functional.instances import IGNORE_INDEX, Instances
from dropmax.fused.arguments import checked_options, checked_parameters
from dropmax.fused.chunks import Chunk, Options, objective_of
from dropmax.fused.noise import draw_keys

CHUNK = 2**22
"""So many scores of each map are held at a time, about."""
FEWEST = 16
"""Instances of a chunk at least: fewer would read the weights too often."""


class Parameters(NamedTuple):
    """The maps, the biases and the gate's maps None where there is none; in one dtype."""

    weight: Tensor
    bias: Tensor | None
    retain_weight: Tensor
    retain_bias: Tensor | None
    correction_weight: Tensor | None
    correction_bias: Tensor | None


class Batch(NamedTuple):
    """The instances `[N]`: labels, weights in the total, and noise, as `Chunk` explains them."""

    target: Tensor
    class_weight: Tensor | None
    keys: Tensor | None
    noise: Tensor | None

    def chunk(self, rows: slice, factor: Tensor) -> Chunk:
        keys = None if self.keys is None else self.keys[..., rows, :]
        noise = None if self.noise is None else self.noise[..., rows, :]
        return Chunk(self.target[rows], factor[rows], self.class_weight, keys, noise)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def linear_dropmax_objective(
    features: Float[Tensor, "*batch D"],
    weight: Float[Tensor, "K D"],
    bias: Float[Tensor, " K"] | None,
    retain_weight: Float[Tensor, "K D"],
    retain_bias: Float[Tensor, " K"] | None,
    correction_weight: Float[Tensor, "K D"] | None,
    correction_bias: Float[Tensor, " K"] | None,
    target: Tensor,
    *,
    posterior: str = "learned",
    masks: str = "relaxed",
    temperature: float = 0.1,
    floor: float = 1e-20,
    num_samples: int = 1,
    plugin_share: float = 0.0,
    plugin_focus: float = 0.0,
    aux_prior: str | float = "label",
    kl_weight: float = 1.0,
    entropy_weight: float = 1.0,
    aux_weight: float = 1.0,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Objective:
    """`dropmax_objective` of the linear maps of features, without ever holding their scores.

    The maps are done and differentiated a few instances at a time, so that the memory needed
    beyond weights and gradients does not grow with their number. The values and gradients are those
    of the maps followed by `DropMaxHead.loss`, under the same noise.

    Args:
        features: `[*, D]`, in a dtype like the maps' or under autocast.
        weight: The map to class scores `[K, D]`.
        bias: `[K]`, or None.
        retain_weight: The map to retain logits.
        retain_bias: Its bias.
        correction_weight: The map to the correction of the posterior "learned"; else None.
        correction_bias: Its bias.
        target: Class indices `[*]`, or class probabilities `[*, K]`.
        posterior: "learned", "prior" or "analytic", as in `DropMaxHead`.
        masks: As in `dropmax_objective`, and so the six below.
        temperature: Of the relaxed masks.
        floor: The weight of a dropped class.
        num_samples: The number S of masks.
        plugin_share: The share of the plug-in's cross-entropy.
        plugin_focus: The exponent by which it falls where the plug-in is sure.
        aux_prior: A class's probability beforehand.
        kl_weight: What the KL term is multiplied by.
        entropy_weight: What the negative entropy is multiplied by.
        aux_weight: What the aux term is multiplied by.
        class_weight: Weights of the classes `[K]`.
        label_smoothing: Of the nll.
        ignore_index: Instances of this class index do not count.
        reduction: "mean", "sum" or "none", as in `Head.loss`; "none" computes everything once more
            in the backward pass.
        sample_weight: Weights of the instances `[*]`.
        noise: Uniforms in (0, 1) `[*, K]`, or `[S, *, K]` for S samples > 1. If None each is a
            hash of its class and of two random numbers, drawn for the instance.
        generator: The source of these numbers; the default one if None.

    Returns:
        `Objective` of weighted terms in nats, float32 at least. Only `total` carries a gradient.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Lee et al. 2018, the objective; the scheme after Cut Cross-Entropy, Wijmans et al. 2024.

    Examples:
        >>> import torch
        >>> from dropmax.fused import linear_dropmax_objective
        >>> features = torch.randn(8, 16)
        >>> maps = [torch.zeros(5, 16, requires_grad=True) for _ in range(3)]
        >>> weight, retain_weight, correction_weight = maps
        >>> objective = linear_dropmax_objective(
        ...     features, weight, None, retain_weight, None, correction_weight, None,
        ...     torch.arange(8) % 5,
        ... )
        >>> objective.total.backward()
        >>> weight.grad.shape
        torch.Size([5, 16])
    """
    function = "linear_dropmax_objective"
    parameters = Parameters(
        weight, bias, retain_weight, retain_bias, correction_weight, correction_bias
    )
    checked_parameters(function, features, parameters._asdict(), posterior)
    options = Options(
        posterior=posterior,
        masks=masks,
        temperature=temperature,
        floor=floor,
        num_samples=num_samples,
        plugin_share=plugin_share,
        plugin_focus=plugin_focus,
        aux_prior=aux_prior,
        kl_weight=kl_weight,
        entropy_weight=entropy_weight,
        aux_weight=aux_weight,
        label_smoothing=label_smoothing,
    )
    shape = features.shape[:-1]
    like = features.new_empty(1).expand(*shape, len(weight))  # of the scores' shape, without memory
    checked_options(function, options, target, like, class_weight, reduction, noise, generator)
    instances = Instances.of(
        function,
        target,
        like,
        weight=class_weight,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        axis=LOCAL,
    )
    flat = shape.numel()
    samples = () if num_samples == 1 else (num_samples,)
    if noise is not None:
        noise = noise.reshape(*samples, flat, len(weight))
    keys = None
    if noise is None and masks != "mean":
        keys = draw_keys((*samples, flat), features.device, generator)
    batch = Batch(
        instances.target.reshape(flat, *instances.target.shape[len(shape) :]),
        class_weight,
        keys,
        noise,
    )
    rows = features.reshape(flat, features.shape[-1])
    if reduction == "none":
        terms = _Recomputed.apply(options, batch, rows, *parameters)  # type: ignore[no-untyped-call]
        return instances.reduced(Objective(*(term.reshape(shape) for term in terms)), "none")
    factor = instances.factors(reduction).reshape(flat)
    summed = _Accumulated.apply(options, batch, factor, rows, *parameters)  # type: ignore[no-untyped-call]
    return Objective(*summed)


class _Accumulated(torch.autograd.Function):
    """The sum over instances, times their factors; gradients are made in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        options: Options,
        batch: Batch,
        factor: Tensor,
        features: Tensor,
        *parameters: Tensor | None,
    ) -> tuple[Tensor, ...]:
        wanted = ctx.needs_input_grad[3:]
        terms, gradients = _passed(options, batch, factor, features, parameters, wanted)
        ctx.save_for_backward(*gradients)
        counted = [(term.masked_fill(factor == 0.0, 0.0) * factor).sum() for term in terms]
        ctx.mark_non_differentiable(*counted[1:])
        return tuple(counted)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        found: Sequence[Tensor | None] = ctx.saved_tensors
        if not (_check.readable(upstream) and upstream.item() == 1.0):
            found = [None if saved is None else saved * upstream for saved in found]
        return None, None, None, *found


class _Recomputed(torch.autograd.Function):
    """The objective of each instance; the backward pass goes over them once more."""

    @staticmethod
    def forward(
        ctx: Any,
        options: Options,
        batch: Batch,
        features: Tensor,
        *parameters: Tensor | None,
    ) -> tuple[Tensor, ...]:
        ctx.options, ctx.batch = options, batch
        ctx.autocast = _autocast(features)
        ctx.save_for_backward(features, *parameters)
        factor = features.new_ones(len(features))
        wanted = [False] * (1 + len(parameters))
        terms, _ = _passed(options, batch, factor, features, parameters, wanted)
        ctx.mark_non_differentiable(*terms[1:])
        return tuple(terms)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        features, *parameters = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        with torch.autocast(features.device.type, **ctx.autocast):
            passed = _passed(ctx.options, ctx.batch, upstream, features, parameters, wanted)
        return None, None, *passed[1]


def _autocast(features: Tensor) -> dict[str, Any]:
    """The settings of autocast as they are, for a backward pass that has left them."""
    device = features.device.type
    enabled = torch.is_autocast_enabled(device)
    return {"enabled": enabled, "dtype": torch.get_autocast_dtype(device)}


def _passed(
    options: Options,
    batch: Batch,
    factor: Tensor,
    features: Tensor,
    parameters: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The terms of every instance, and those gradients that are wanted, of features and parameters.

    A gradient is that of the sum of totals times their factors.
    """
    device = features.device.type
    dtype = features.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    inputs = features.to(dtype)
    maps = [
        (weight.to(dtype), None if bias is None else bias.to(dtype))
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True)
        if weight is not None
    ]
    gradients = [
        torch.zeros_like(tensor, dtype=at_least_float32(tensor[:0]).dtype)
        if needed and tensor is not None
        else None
        for tensor, needed in zip((features, *parameters), wanted, strict=True)
    ]
    to_features, *to_maps = gradients
    to_weights_and_biases = list(zip(to_maps[::2], to_maps[1::2], strict=True))[: len(maps)]
    size = max(FEWEST, CHUNK // len(maps[0][0]))
    terms: list[Objective] = []
    with torch.autocast(device, enabled=False):
        for start in range(0, max(len(inputs), 1), size):
            rows = slice(start, start + size)
            part = inputs[rows]
            scores = [F.linear(part, weight, bias) for weight, bias in maps]
            found, to_scores = objective_of(scores, batch.chunk(rows, factor), options)
            terms.append(found)
            if not any(wanted):
                continue
            for (weight, _), (to_weight, to_bias), to_score in zip(
                maps, to_weights_and_biases, to_scores, strict=True
            ):
                if to_bias is not None:
                    to_bias += to_score.sum(0)
                to_score = to_score.to(dtype)
                if to_weight is not None:
                    _add_product(to_weight, to_score.t(), part)
                if to_features is not None:
                    _add_product(to_features[rows], to_score, weight)
    found_terms = [torch.cat(parts) for parts in zip(*terms, strict=True)]
    return found_terms, gradients


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in place."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right

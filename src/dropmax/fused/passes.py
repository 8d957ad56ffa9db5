"""Going over the instances, some at a time: their maps, their objective, and the gradients."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.functional import Objective
from dropmax.fused.chunks import Chunk, Settings, objective_of

FEWEST = 32
"""Instances of a chunk at least: fewer would read the weights too often."""
FEW_SUMS = 8
"""Of so many chunks, at most, bfloat16 gradients are added up as they are, each sum rounded."""

SPACES = (torch.zeros_like, torch.zeros_like, *(torch.empty_like, torch.zeros_like) * 3)
"""Of the gradients of `Inputs` and `Parameters`: those of weights are overwritten at first."""


def rows_at_once(num_classes: int, device: torch.device) -> int:
    """The instances of a chunk, whose scores are held for each map.

    On a GPU they are 1,024 to 4,096, with which products are as fast as they get, unless the
    classes are so many that the scores would take more memory than the maps.
    """
    if device.type == "cpu":
        return max(FEWEST, 2**23 // num_classes)
    enough = min(max(1_024, 2**25 // num_classes), 4_096)
    return max(FEWEST, min(enough, 2**27 // num_classes))


class Parameters(NamedTuple):
    """The maps, the biases and the gate's maps None where there is none; in one dtype."""

    linear_weight: Tensor
    linear_bias: Tensor | None
    retain_weight: Tensor
    retain_bias: Tensor | None
    correction_weight: Tensor | None
    correction_bias: Tensor | None


class Inputs(NamedTuple):
    """What is mapped: features `[N, D]`, and `[N, r]` of them for the gate's maps of low rank."""

    features: Tensor
    gate_features: Tensor | None = None


class Batch(NamedTuple):
    """The instances `[N]`: labels, weights in the total, and noise, as `Chunk` explains them."""

    target: Tensor
    weight: Tensor | None
    keys: Tensor | None
    noise: Tensor | None

    def chunk(self, rows: slice, factor: Tensor) -> Chunk:
        keys = None if self.keys is None else self.keys[..., rows, :]
        noise = None if self.noise is None else self.noise[..., rows, :]
        return Chunk(self.target[rows], factor[rows], self.weight, keys, noise)


class Map(NamedTuple):
    """A linear map of inputs `[N, D]`, and the gradients it adds to; None where none is wanted.

    The gradient of the weight is overwritten by the first instances, the others are zeros at first;
    `held` is the memory of the scores `[n, K]` of a few instances.
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    to_inputs: Tensor | None
    to_weight: Tensor | None
    to_bias: Tensor | None
    held: Tensor

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        to_inputs: Tensor | None,
        parameters: Sequence[Tensor | None],
        to_parameters: Sequence[Tensor | None],
        at_once: int,
    ) -> "Map":
        """The map by a weight and a bias, done in the dtype of the inputs, so many at once."""
        weight, bias = (
            None if tensor is None else tensor.to(inputs.dtype) for tensor in parameters
        )
        assert weight is not None
        to_weight, to_bias = to_parameters
        held = inputs.new_empty(min(at_once, len(inputs)), len(weight))
        return cls(inputs, weight, bias, to_inputs, to_weight, to_bias, held)

    def scores(self, rows: slice) -> Tensor:
        """Those of the instances in `rows`, in the memory of the last ones."""
        inputs = self.inputs[rows]
        scores = self.held[: len(inputs)]
        if self.bias is None:
            return torch.mm(inputs, self.weight.t(), out=scores)
        return torch.addmm(self.bias, inputs, self.weight.t(), out=scores)

    def add_gradients(self, rows: slice, to_scores: Tensor) -> None:
        """Add what the gradient of these scores gives."""
        if self.to_bias is not None:
            self.to_bias.add_(to_scores.sum(0))
        inputs, weight = self.inputs[rows], self.weight
        if inputs.dtype == torch.float16:  # no scaled loss keeps these gradients off 0 in its range
            inputs, weight = inputs.float(), weight.float()
        to_scores = to_scores.to(inputs.dtype)
        if self.to_weight is not None:
            _add_product(self.to_weight, to_scores.t(), inputs, keep=rows.start > 0)
        if self.to_inputs is not None:
            _add_product(self.to_inputs[rows], to_scores, weight)


def _add_product(total: Tensor, left: Tensor, right: Tensor, *, keep: bool = True) -> None:
    """total += left @ right in place, or total = left @ right."""
    if total.dtype == left.dtype:
        total.addmm_(left, right, beta=1.0 if keep else 0.0)
    elif keep:
        total += left @ right
    else:
        total.copy_(left @ right)


def _only_once() -> None:
    """A second derivative would be wrong: the gradients are no function of what they are of."""
    if torch.is_grad_enabled():
        must = "be False, as the fused loss has first derivatives alone"
        remedy = "call loss of the scores, head.loss(head(features), target)"
        _check.fail("create_graph", must, True, remedy)


class Accumulated(torch.autograd.Function):
    """The sum over instances, times their factors; gradients are made in the forward pass.

    The first backward pass hands them over, so that they are held once. Another one, of a graph
    that is retained, makes them anew.
    """

    @staticmethod
    def forward(
        ctx: Any,
        settings: Settings,
        batch: Batch,
        differentiates: bool,
        factor: Tensor,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        wanted = [differentiates and needed for needed in ctx.needs_input_grad[4:]]
        terms, ctx.gradients = _passed(settings, batch, factor, tensors, wanted)
        _keep(ctx, settings, batch, tensors)
        ctx.factor = factor
        counted = [(term.masked_fill(factor == 0.0, 0.0) * factor).sum() for term in terms]
        ctx.mark_non_differentiable(*counted[1:])
        return tuple(counted)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        _only_once()
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            gradients = _made_anew(ctx, ctx.factor * upstream, ctx.needs_input_grad[4:])
        elif not (_check.readable(upstream) and upstream.item() == 1.0):
            gradients = [None if made is None else made.mul_(upstream) for made in gradients]
        return None, None, None, None, *gradients


class Recomputed(torch.autograd.Function):
    """The objective of each instance; the backward pass goes over them once more."""

    @staticmethod
    def forward(
        ctx: Any,
        settings: Settings,
        batch: Batch,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        _keep(ctx, settings, batch, tensors)
        (features, *_) = tensors
        assert features is not None
        factor = features.new_ones(len(features))
        wanted = [False] * len(tensors)
        terms, _ = _passed(settings, batch, factor, tensors, wanted)
        ctx.mark_non_differentiable(*terms[1:])
        return tuple(terms)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        _only_once()
        return None, None, *_made_anew(ctx, upstream, ctx.needs_input_grad[2:])


def _keep(ctx: Any, settings: Settings, batch: Batch, tensors: Sequence[Tensor | None]) -> None:
    """What `_made_anew` needs: autocast as it is, too, which a backward pass has left."""
    (features, *_) = tensors
    assert features is not None
    device = features.device.type
    ctx.settings = settings
    ctx.autocast = {
        "enabled": torch.is_autocast_enabled(device),
        "dtype": torch.get_autocast_dtype(device),
    }
    ctx.save_for_backward(*batch, *tensors)


def _made_anew(ctx: Any, factor: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
    """The gradients of the sum of totals times these factors, by another pass."""
    count = len(Batch._fields)
    batch, tensors = Batch(*ctx.saved_tensors[:count]), ctx.saved_tensors[count:]
    with torch.autocast(tensors[0].device.type, **ctx.autocast):
        return _passed(ctx.settings, batch, factor, tensors, wanted)[1]


def _passed(
    settings: Settings,
    batch: Batch,
    factor: Tensor,
    tensors: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The terms of every instance, and the gradients of `Inputs` and `Parameters` that are wanted.

    A gradient is that of the sum of totals times their factors.
    """
    features, gate_features, *parameters = tensors
    weight = parameters[0]
    assert features is not None and weight is not None  # noqa: PT018
    device = features.device.type
    dtype = features.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    size = rows_at_once(settings.axis.most_classes(len(weight)), features.device)
    few = len(features) <= FEW_SUMS * size
    gradients = [
        make(tensor, dtype=_summed_in(tensor, few)) if needed and tensor is not None else None
        for make, tensor, needed in zip(SPACES, tensors, wanted, strict=True)
    ]
    to_features, to_gate_features, *to_parameters = gradients
    features = features.to(dtype)
    gate_features, to_gate_features = (
        (features, to_features)
        if gate_features is None
        else (gate_features.to(dtype), to_gate_features)
    )
    sources = ((features, to_features), *((gate_features, to_gate_features),) * 2)
    maps = [
        Map.of(*source, parameters[n : n + 2], to_parameters[n : n + 2], size)
        for source, n in zip(sources, (0, 2, 4), strict=True)
        if parameters[n] is not None
    ]
    terms: list[Objective] = []
    with torch.autocast(device, enabled=False):
        for start in range(0, max(len(features), 1), size):
            rows = slice(start, start + size)
            scores = [mapping.scores(rows) for mapping in maps]
            chunk = batch.chunk(rows, factor)
            found, to_scores = objective_of(scores, chunk, settings, differentiates=any(wanted))
            terms.append(found)
            if any(wanted):
                for mapping, to_score in zip(maps, to_scores, strict=True):
                    mapping.add_gradients(rows, to_score)
    found_terms = [torch.cat(parts) for parts in zip(*terms, strict=True)]
    return found_terms, gradients


def _summed_in(tensor: Tensor, few: bool) -> torch.dtype:
    """The dtype of the gradient of a tensor to which chunks add, of which there are few or many."""
    if few and tensor.ndim == 2 and tensor.dtype == torch.bfloat16:
        return tensor.dtype
    return at_least_float32(tensor[:0]).dtype

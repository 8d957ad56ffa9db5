"""The linear maps and the objective of DropMax in one, over chunks of instances."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional import Objective, ObjectiveOptions
from dropmax.functional.dropmax import DEFAULTS
from dropmax.functional.targets import IGNORE_INDEX, REDUCTIONS, Instances
from dropmax.fused.chunks import Settings
from dropmax.fused.passes import Accumulated, Batch, Inputs, Parameters, Recomputed

POSTERIORS = ("learned", "prior", "analytic")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def linear_dropmax_objective(
    features: Float[Tensor, "*batch D"],
    linear_weight: Float[Tensor, "K D"],
    linear_bias: Float[Tensor, " K"] | None,
    retain_weight: Float[Tensor, "K R"],
    retain_bias: Float[Tensor, " K"] | None,
    correction_weight: Float[Tensor, "K R"] | None,
    correction_bias: Float[Tensor, " K"] | None,
    target: Tensor,
    *,
    gate_weight: Float[Tensor, "r D"] | None = None,
    posterior: str = "learned",
    options: ObjectiveOptions = DEFAULTS,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: str = "mean",
    sample_weight: Tensor | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    axis: ClassAxis = LOCAL,
) -> Objective:
    """`dropmax_objective` of the linear maps of features, without ever holding their scores.

    The maps are done and differentiated a few instances at a time, so that the memory needed
    beyond weights and gradients does not grow with their number. The values and gradients are those
    of the maps followed by `DropMaxHead.loss`, under the same noise.

    Args:
        features: `[*, D]`, in a dtype like the maps' or under autocast.
        linear_weight: The map to class scores `[K, D]`.
        linear_bias: Its bias `[K]`, or None.
        retain_weight: The map to retain logits `[K, D]`, or `[K, r]` after `gate_weight`.
        retain_bias: Its bias.
        correction_weight: The map to the correction of the posterior "learned"; else None.
        correction_bias: Its bias.
        target: Class indices `[*]`, or class probabilities `[*, K]`.
        gate_weight: The map `[r, D]` that the maps of the gate share where they are of low rank.
        posterior: "learned" or "prior", as in `DropMaxHead`, or "analytic", as in
            `ComputedPosteriorHead`.
        options: What decides the objective; the weights of its terms, too.
        weight: Weights of the classes `[K]`.
        label_smoothing: Of the nll.
        ignore_index: Instances of this class index do not count.
        reduction: "mean", "sum" or "none", as in `Head.loss`; "none" computes everything once more
            in the backward pass.
        sample_weight: Weights of the instances `[*]`.
        noise: Uniforms in (0, 1) `[*, K]`, or `[S, *, K]` for S samples > 1. If None each is a
            hash of its class and of two random numbers, drawn for the instance.
        generator: The source of these numbers; that of the axis if None.
        axis: Where the classes live. The maps are those of this process's classes, and all else is
            of all classes.

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
        >>> linear_weight, retain_weight, correction_weight = maps
        >>> objective = linear_dropmax_objective(
        ...     features, linear_weight, None, retain_weight, None, correction_weight, None,
        ...     torch.arange(8) % 5,
        ... )
        >>> objective.total.backward()
        >>> linear_weight.grad.shape
        torch.Size([5, 16])
    """
    parameters = Parameters(
        linear_weight, linear_bias, retain_weight, retain_bias, correction_weight, correction_bias
    )
    _check_parameters(features, parameters._asdict(), gate_weight, posterior, axis)
    shape = features.shape[:-1]
    own_classes = len(linear_weight)
    like = features.new_empty(1).expand(*shape, own_classes)  # of the scores' shape, no memory
    _check.choice("reduction", reduction, REDUCTIONS)
    if posterior != "learned":
        where = f"where posterior is {posterior!r}"
        _check.default("aux_prior", options.aux_prior, "label", where)
    num_classes = axis.num_classes(like)
    _check_label(target, like, num_classes, weight, label_smoothing, options)
    if options.masks == "mean":
        noise = None
    else:
        _check_noise(noise, generator, like, num_classes, options)
    _no_gradient_wanted(target=target, weight=weight, noise=noise)
    if reduction != "none":
        _no_gradient_wanted(sample_weight=sample_weight)
    instances = Instances.of(
        target,
        like,
        weight=weight,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        axis=axis,
    )
    flat = shape.numel()
    samples = () if options.num_samples == 1 else (options.num_samples,)
    keys = None
    if noise is not None:
        noise = axis.shard(noise.reshape(*samples, flat, num_classes))
    elif options.masks != "mean":
        keys = axis.keys((*samples, flat), features.device, generator)
    batch = Batch(
        instances.target.reshape(flat, *instances.target.shape[len(shape) :]),
        weight,
        keys,
        noise,
    )
    settings = Settings(options, posterior, label_smoothing, axis)
    rows = features.reshape(flat, features.shape[-1])
    gate_features = () if gate_weight is None else (F.linear(rows, gate_weight),)
    inputs = Inputs(*axis.spread(rows, *gate_features))
    if reduction == "none":
        terms = Recomputed.apply(settings, batch, *inputs, *parameters)  # type: ignore[no-untyped-call]
        return instances.reduced(Objective(*(term.reshape(shape) for term in terms)), "none")
    differentiates = torch.is_grad_enabled()
    dtype = at_least_float32(features[:0]).dtype
    factor = instances.factors(reduction, dtype).reshape(flat)
    summed = Accumulated.apply(settings, batch, differentiates, factor, *inputs, *parameters)  # type: ignore[no-untyped-call]
    return Objective(*summed)


def _check_parameters(
    features: Tensor,
    parameters: Mapping[str, Tensor | None],
    gate_weight: Tensor | None,
    posterior: str,
    axis: ClassAxis,
) -> None:
    """The maps fit one another and the features, and suit the posterior."""
    _check.choice("posterior", posterior, POSTERIORS)
    weight = parameters["linear_weight"]
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not axis.num_classes(weight.t()):
        must = "be a matrix [K, D] of one class or more"
        _check.fail("linear_weight", must, weight, "pass the map to class scores", of=Tensor)
    _check.features(features, weight)
    num_classes, in_features = weight.shape
    rank = in_features
    if gate_weight is not None:
        rank = len(gate_weight) if isinstance(gate_weight, Tensor) and gate_weight.ndim else 1
    shapes = {"linear_weight": (num_classes, in_features), "gate_weight": (rank, in_features)}
    for name, tensor in {"gate_weight": gate_weight, **parameters}.items():
        of_gate = (num_classes,) if name.endswith("bias") else (num_classes, rank)
        shape = shapes.get(name, of_gate)
        optional = name.endswith("bias") or name.startswith(("correction", "gate"))
        if tensor is None and optional:
            continue
        if (
            not isinstance(tensor, Tensor)
            or tensor.shape != shape
            or tensor.dtype != weight.dtype
            or tensor.device != weight.device
        ):
            dtype = str(weight.dtype).removeprefix("torch.")
            must = f"be {dtype}{list(shape)} on {weight.device} like linear_weight"
            _check.fail(name, must, tensor, "give the maps one dtype and device", of=Tensor)
    learned = posterior == "learned"
    if learned != (parameters["correction_weight"] is not None):
        must = f"{'be given' if learned else 'be None'} where posterior is {posterior!r}"
        remedy = "pass the map of the correction for the learned posterior alone"
        _check.fail("correction_weight", must, parameters["correction_weight"], remedy)
    if not learned:
        unused = {"correction_bias": parameters["correction_bias"]}
        _check.unused(unused, f"where posterior is {posterior!r}")


def _check_label(
    target: Tensor,
    like: Tensor,
    num_classes: int,
    weight: Tensor | None,
    label_smoothing: float,
    options: ObjectiveOptions,
) -> None:
    """The label is one that the objective takes; `like` is of the scores' shape."""
    _check.number("label_smoothing", label_smoothing, low=0.0, high=1.0)
    soft = isinstance(target, Tensor) and target.is_floating_point()
    if soft:
        _check.label(target, like, num_classes)
    if options.masks == "straight_through" and (soft or label_smoothing > 0.0):
        must = "not be 'straight_through' where the label is not one class"
        _check.fail("masks", must, options.masks, "pass class indices, without smoothing")
    if weight is not None:
        _check.class_weight(weight, like, num_classes)


def _check_noise(
    noise: Tensor | None,
    generator: torch.Generator | None,
    like: Tensor,
    num_classes: int,
    options: ObjectiveOptions,
) -> None:
    """The noise is that of every class and sample, and does not come with a generator."""
    _check.random_source(noise, generator, like.device)
    if noise is not None:
        samples = () if options.num_samples == 1 else (options.num_samples,)
        _check.uniform_noise(noise, (*samples, *like.shape[:-1], num_classes), like.device)


def _no_gradient_wanted(**tensors: Tensor | None) -> None:
    """Where gradients are recorded, none of these has one: the fused loss makes the maps' alone."""
    for name, tensor in tensors.items():
        if torch.is_grad_enabled() and isinstance(tensor, Tensor) and tensor.requires_grad:
            must = "not require a gradient, which the fused loss would not give it"
            remedy = "detach it, or call loss of the scores, head.loss(head(features), target)"
            _check.fail(name, must, tensor, remedy)

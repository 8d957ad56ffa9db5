"""The linear maps and the objective of DropMax in one, over chunks of instances."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax.axis import LOCAL
from dropmax.functional import Objective
from dropmax.functional.instances import IGNORE_INDEX, Instances
from dropmax.fused.arguments import checked_options, checked_parameters, no_gradient_wanted
from dropmax.fused.chunks import Options
from dropmax.fused.noise import draw_keys
from dropmax.fused.passes import Accumulated, Batch, Inputs, Parameters, Recomputed


@torch.compiler.disable  # type: ignore[untyped-decorator]
def linear_dropmax_objective(
    features: Float[Tensor, "*batch D"],
    weight: Float[Tensor, "K D"],
    bias: Float[Tensor, " K"] | None,
    retain_weight: Float[Tensor, "K R"],
    retain_bias: Float[Tensor, " K"] | None,
    correction_weight: Float[Tensor, "K R"] | None,
    correction_bias: Float[Tensor, " K"] | None,
    target: Tensor,
    *,
    gate_weight: Float[Tensor, "r D"] | None = None,
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
        retain_weight: The map to retain logits `[K, D]`, or `[K, r]` after `gate_weight`.
        retain_bias: Its bias.
        correction_weight: The map to the correction of the posterior "learned"; else None.
        correction_bias: Its bias.
        target: Class indices `[*]`, or class probabilities `[*, K]`.
        gate_weight: The map `[r, D]` that the maps of the gate share where they are of low rank.
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
    parameters = Parameters(
        weight, bias, retain_weight, retain_bias, correction_weight, correction_bias
    )
    checked_parameters(features, parameters._asdict(), gate_weight, posterior)
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
    checked_options(options, target, like, class_weight, reduction, noise, generator)
    no_gradient_wanted(target=target, class_weight=class_weight, noise=noise)
    if reduction != "none":
        no_gradient_wanted(sample_weight=sample_weight)
    instances = Instances.of(
        target,
        like,
        weight=class_weight,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        axis=LOCAL,
    )
    flat = shape.numel()
    samples = () if num_samples == 1 else (num_samples,)
    if masks == "mean":
        noise = None
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
    inputs = Inputs(rows, None if gate_weight is None else F.linear(rows, gate_weight))
    if reduction == "none":
        terms = Recomputed.apply(options, batch, *inputs, *parameters)  # type: ignore[no-untyped-call]
        return instances.reduced(Objective(*(term.reshape(shape) for term in terms)), "none")
    differentiates = torch.is_grad_enabled()
    factor = instances.factors(reduction).reshape(flat)
    summed = Accumulated.apply(options, batch, differentiates, factor, *inputs, *parameters)  # type: ignore[no-untyped-call]
    return Objective(*summed)

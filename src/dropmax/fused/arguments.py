"""Checks of the arguments of the fused objective, before anything is computed."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dropmax import _check
from dropmax.functional.instances import REDUCTIONS
from dropmax.functional.ranges import check_ranges
from dropmax.functional.terms import AUX_PRIORS
from dropmax.fused.chunks import Options

POSTERIORS = ("learned", "prior", "analytic")


def checked_parameters(
    features: Tensor,
    parameters: Mapping[str, Tensor | None],
    gate_weight: Tensor | None,
    posterior: str,
) -> None:
    """The maps fit one another and the features, and suit the posterior."""
    _check.choice("posterior", posterior, POSTERIORS)
    weight = parameters["weight"]
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not len(weight):
        must = "be a matrix [K, D] of one class or more"
        _check.fail("weight", must, weight, "pass the map to class scores", of=Tensor)
    _check.features(features, weight)
    num_classes, in_features = weight.shape
    rank = in_features
    if gate_weight is not None:
        rank = len(gate_weight) if isinstance(gate_weight, Tensor) and gate_weight.ndim else 1
    shapes = {"weight": (num_classes, in_features), "gate_weight": (rank, in_features)}
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
            must = f"be {dtype}{list(shape)} on {weight.device} like weight"
            _check.fail(name, must, tensor, "give the maps one dtype and device", of=Tensor)
    learned = posterior == "learned"
    if learned != (parameters["correction_weight"] is not None):
        must = f"{'be given' if learned else 'be None'} where posterior is {posterior!r}"
        remedy = "pass the map of the correction for the learned posterior alone"
        _check.fail("correction_weight", must, parameters["correction_weight"], remedy)
    if not learned:
        unused = {"correction_bias": parameters["correction_bias"]}
        _check.unused(unused, f"where posterior is {posterior!r}")


def checked_options(
    options: Options,
    target: Tensor,
    like: Tensor,
    class_weight: Tensor | None,
    reduction: str,
    noise: Tensor | None,
    generator: torch.Generator | None,
) -> None:
    """The options are numbers and names of their ranges; `like` is of the scores' shape."""
    _check.choice("reduction", reduction, REDUCTIONS)
    check_ranges(
        masks=options.masks,
        temperature=options.temperature,
        floor=options.floor,
        num_samples=options.num_samples,
        plugin_share=options.plugin_share,
        plugin_focus=options.plugin_focus,
    )
    _check.choice_or_number("aux_prior", options.aux_prior, AUX_PRIORS)
    if options.posterior != "learned" and options.aux_prior != "label":
        unused = {"aux_prior": options.aux_prior}
        _check.unused(unused, f"where posterior is {options.posterior!r}")
    for name in ("kl_weight", "entropy_weight", "aux_weight"):
        _check.number(name, getattr(options, name), low=0.0)
    _check.number("label_smoothing", options.label_smoothing, low=0.0, high=1.0)
    soft = isinstance(target, Tensor) and target.is_floating_point()
    if soft:
        _check.label(target, like, like.shape[-1])
    if options.masks == "straight_through" and (soft or options.label_smoothing > 0.0):
        must = "not be 'straight_through' where the label is not one class"
        _check.fail("masks", must, options.masks, "pass class indices, without smoothing")
    if class_weight is not None:
        _check.class_weight(class_weight, like, "class_weight")
    if options.masks == "mean":
        return
    _check.random_source(noise, generator, like.device)
    if noise is not None:
        samples = () if options.num_samples == 1 else (options.num_samples,)
        _check.uniform_noise(noise, (*samples, *like.shape), like.device)


def no_gradient_wanted(**tensors: Tensor | None) -> None:
    """Where gradients are recorded, none of these has one: the fused loss makes the maps' alone."""
    for name, tensor in tensors.items():
        if torch.is_grad_enabled() and isinstance(tensor, Tensor) and tensor.requires_grad:
            must = "not require a gradient, which the fused loss would not give it"
            remedy = "detach it, or call loss of the scores, head.loss(head(features), target)"
            _check.fail(name, must, tensor, remedy)

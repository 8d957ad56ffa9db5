"""Which parameters weight decay covers."""

from typing import Any

from torch import nn

from dropmax import _check
from dropmax.heads.base import Head


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: decayed, and spared.

    Everything is decayed, biases included, but the gates of the heads (`Head.gate_parameters`):
    their retain and correction branches, as in the authors' code. Their decay, weight_decay times
    half the squared norm added to the loss, is the `weight_decay` of `torch.optim.Adam` and `SGD`;
    AdamW decouples it.

    Args:
        model: Any model; frozen parameters are left out.
        weight_decay: The factor, at least 0.

    Returns:
        Two groups, the spared one last and perhaps empty. Where a model has tensors that are spread
        over processes, as by `ClassParallel`, and others, each of them is split: optimizers take
        tensors of one kind at once.

    Raises:
        ValueError: If model is no module or weight_decay no number of at least 0.

    Source:
        The authors' code, which leaves the two branches out of its l2 term.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> import dropmax
        >>> from dropmax import decay_groups
        >>> model = nn.Sequential(nn.Linear(8, 4), dropmax.make_head("dropmax", 4, 3))
        >>> optimizer = torch.optim.Adam(decay_groups(model, 1e-4), lr=1e-3)
        >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
        [(4, 0.0001), (4, 0.0)]
    """
    if not isinstance(model, nn.Module):
        _check.fail("model", "be an nn.Module", model, "pass the whole model", of=nn.Module)
    _check.number("weight_decay", weight_decay, low=0.0)
    heads = [module for module in model.modules() if isinstance(module, Head)]
    gates = {id(parameter) for head in heads for parameter in head.gate_parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = []
    for decay, spared in ((weight_decay, False), (0.0, True)):
        of_mesh: dict[Any, list[nn.Parameter]] = {}
        for parameter in trained:
            if (id(parameter) in gates) is spared:
                of_mesh.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
        groups += [
            {"params": params, "weight_decay": decay} for params in of_mesh.values() or ([],)
        ]
    return groups

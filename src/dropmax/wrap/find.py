"""Finding the head of a model."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from dropmax import _check
from dropmax.heads import Head


def find_head(model: nn.Module) -> Head:
    """The one head of a model, however it is wrapped (DDP, torch.compile, PEFT, ...).

    Args:
        model: A module that is or contains exactly one `Head`.

    Raises:
        ValueError: If there is no head or more than one.

    Examples:
        >>> from torch import nn
        >>> import dropmax
        >>> from dropmax import find_head
        >>> model = nn.Sequential(nn.Flatten(), dropmax.make_head("sparsemax", 16, 5))
        >>> find_head(model)
        SparsemaxHead(in_features=16, out_features=5, label_smoothing=0.0, bias=True)
    """
    if not isinstance(model, nn.Module):
        _check.fail("model", "be an nn.Module", model, "pass the whole model", of=nn.Module)
    heads = {head: name for name, head in _heads(model)}
    if len(heads) != 1:
        found = ", ".join(name or type(head).__name__ for head, name in heads.items()) or "none"
        remedy = "make the last layer a head, dropmax.make_head(...), or pass the part with one"
        _check.fail("model", "contain one head", _check.Verbatim(found), remedy)
    return next(iter(heads))


def _heads(module: Any, name: str = "") -> Iterator[tuple[str, Head]]:
    """The heads of a module by name; where PEFT trains copies of a part, of the copy in use."""
    if isinstance(copies := getattr(module, "modules_to_save", None), nn.ModuleDict):
        active = () if module.disable_adapters else module.active_adapters
        used = [copies[adapter] for adapter in active if adapter in copies]
        yield from _heads(used[0] if used else module.original_module, name)
    elif isinstance(module, Head):
        yield name, module
    else:
        for child_name, child in module.named_children():
            yield from _heads(child, ".".join(filter(None, (name, child_name))))

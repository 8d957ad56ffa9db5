"""Which linear layer of a model classifies: the one whose output is the model's result."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.utils._pytree import tree_leaves

from dropmax import _check

NAMES = ("fc", "classifier", "head", "heads", "score", "classification_head")
"""What the models of torchvision, timm and Transformers call their classifiers."""

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]


class Uses(NamedTuple):
    """What becomes of the outputs of a model's linear layers in evaluation mode.

    Attributes:
        called: The layers that are called, and what computes on the output of each.
        returned: Those that the result is the output of; if there are none, those that it is
            computed from.
        result: What computes the result.
    """

    called: Mapping[str, list[str]]
    returned: list[str]
    result: str


def classifier_name(
    model: nn.Module, layer: str | None, example: Example | None, outputs: int | None
) -> str:
    """The name of the linear layer that classifies.

    Args:
        model: The whole model.
        layer: The name that the user gave.
        example: What the model takes, to see what it returns.
        outputs: How many outputs the layer has, for a model of Transformers, of which nothing
            else is asked.
    """
    if isinstance(model, nn.Linear):
        _check.fail("model", "contain an nn.Linear", model, "put it into nn.Sequential")
    linears = {name: m for name, m in _named(model) if _is_linear(m, outputs)}
    if layer is not None:
        _check.choice("layer", layer, linears or ["(no nn.Linear is there)"])
    uses = None
    if outputs is None:
        uses = _traced(model) if example is None else _seen(model, example)
    if uses is None:
        unseen = "" if outputs else ", or pass example=, a batch"
        name = layer or _only(model, _guessed(model, outputs), outputs, unseen)
    else:
        if not uses.returned and layer is None:
            got = _check.Verbatim(f"that of {uses.result}")
            remedy = "let the nn.Linear come last, without a scale, a softmax or a mean after it"
            _check.fail("model", "return the output of an nn.Linear", got, remedy)
        name = layer or _only(model, uses.returned, outputs)
        _check_uses(uses, next(n for n, m in model.named_modules() if m is linears[name]))
    _check_layer(name, linears[name])
    return name


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and each of its modules as it was thereafter."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _named(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules by each of their names."""
    yield from model.named_modules(remove_duplicate=False)


def _is_linear(module: nn.Module, outputs: int | None = None) -> bool:
    """A linear layer, of so many outputs if that is known, and not a part of an attention."""
    linear = isinstance(module, nn.Linear) and type(module) is not NonDynamicallyQuantizableLinear
    return linear and outputs in (None, module.out_features)


def _check_layer(name: str, layer: nn.Module) -> None:
    """The layer is an nn.Linear with weight and bias of its own, of two outputs or more."""
    assert isinstance(layer, nn.Linear)
    if type(layer) is not nn.Linear or set(layer._parameters) != {"weight", "bias"}:
        parts = sorted({name.partition(".")[0] for name, _ in layer.named_parameters()})
        got = _check.Verbatim(f"{type(layer).__name__} {name!r} with {', '.join(parts)}")
        remedy = (
            "remove weight_norm, spectral_norm, pruning or another change of its weight first, or "
            "call a lazy layer once"
        )
        _check.fail("model", "end in a plain nn.Linear", got, remedy)
    if layer.out_features == 1:
        got = _check.Verbatim(f"{name!r} with one")
        remedy = "train one logit with nn.BCEWithLogitsLoss, or make it two and label 0 and 1"
        _check.fail("model", "have an output for each of two classes or more", got, remedy)


def _check_uses(uses: Uses, name: str) -> None:
    """The layer is called, and the model returns its output as it is."""
    if name not in uses.called:
        got = _check.Verbatim("one that never calls it")
        _check.fail("model", f"call {name}", got, "call the layer, or name another with layer=")
    if users := uses.called[name]:
        got = _check.Verbatim(f"one that computes on it ({', '.join(sorted(set(users)))})")
        remedy = "take that out: log_probs of the head are normalized already"
        _check.fail("model", f"return the output of {name}", got, remedy)
    if name not in uses.returned:
        got = _check.Verbatim(f"that of {uses.result}")
        _check.fail("model", f"return the output of {name}", got, "name another with layer=")


def _only(model: nn.Module, candidates: list[str], outputs: int | None, unseen: str = "") -> str:
    """The one candidate there is; `unseen` is what else helps where the graph is not known."""
    if len(candidates) != 1:
        width = "" if outputs is None else f" with {outputs} outputs"
        came = ", ".join(candidates) or f"no nn.Linear{width} within {type(model).__name__}"
        remedy = f"name its nn.Linear with layer={unseen}"
        _check.fail("model", "have one classifier", _check.Verbatim(came), remedy)
    return candidates[0]


class _Tracer(fx.Tracer):
    """Traces a model down to its layers, the linear ones included, and through nn.Identity."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Identity):
            return False
        return _is_linear(m) or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module) -> Uses | None:
    """By the model's graph, of which arguments with a default keep it; None if there is none."""
    try:
        taken = inspect.signature(model.forward).parameters.values()
        defaults = {p.name: p.default for p in taken if p.default is not p.empty}
        with torch.random.fork_rng(devices=[]), evaluating(model):
            graph = _Tracer().trace(model, defaults)
    except Exception:  # whatever symbolic tracing stumbles over
        return None
    modules = dict(_named(model))
    layers = {
        node: str(node.target)
        for node in graph.nodes
        if node.op == "call_module" and _is_linear(modules[node.target])
    }
    called: dict[str, list[str]] = {name: [] for name in layers.values()}
    for node, name in layers.items():
        called[name] += [_described(user, modules) for user in node.users if user.op != "output"]
    results = next(node for node in graph.nodes if node.op == "output").all_input_nodes
    before = [node for result in results for node in result.all_input_nodes]
    returned = [layers[n] for n in results if n in layers] or [
        layers[n] for n in before if n in layers
    ]
    result = ", ".join(_described(node, modules) for node in results)
    return Uses(called, list(dict.fromkeys(returned)), result)


def _described(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """What a node of a graph computes, in a word."""
    if node.op == "call_module":
        return f"{type(modules[str(node.target)]).__name__} {node.target}"
    return getattr(node.target, "__name__", str(node.target))


def _seen(model: nn.Module, example: Example) -> Uses:
    """By running the model: an output that it returns is the very tensor, and has not changed."""
    outputs: list[tuple[str, Tensor, int]] = []

    def keep(name: str) -> Any:
        return lambda _, __, output: outputs.append((name, output, output._version))

    linears = [(name, m) for name, m in model.named_modules() if _is_linear(m)]
    hooks = [m.register_forward_hook(keep(name)) for name, m in linears]
    arguments = example if isinstance(example, tuple) else (example,)
    try:
        with torch.random.fork_rng(devices=[]), evaluating(model), torch.no_grad():
            result = model(**example) if isinstance(example, Mapping) else model(*arguments)
    except Exception as error:  # a model may raise whatever it likes
        got = _check.Verbatim(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        _check.fail("example", "be a batch that the model takes", got, "pass what you train on")
    finally:
        for hook in hooks:
            hook.remove()
    leaves = tree_leaves(result)
    returned = {name: None for name, o, _ in outputs if any(leaf is o for leaf in leaves)}
    changed = {name for name, output, version in outputs if output._version != version}
    called = {name: ["an operation in place"] * (name in changed) for name, _, _ in outputs}
    return Uses(called, list(returned), ", ".join(returned) or "another computation")


def _guessed(model: nn.Module, outputs: int | None) -> list[str]:
    """The candidates in a model of unknown graph: by its interface, or the names of its parts."""
    parts = {
        name: part
        for name, part in model.named_children()
        if any(_is_linear(m, outputs) for m in part.modules())
    }
    if callable(get_classifier := getattr(model, "get_classifier", None)):
        own = get_classifier()
        own = own if isinstance(own, tuple | list) else (own,)
        found = [*model.named_modules()][1:]
        parts = {name: m for name, m in found if any(m is part for part in own)}
    elif called := {name: part for name, part in parts.items() if name in NAMES}:
        parts = called
    elif isinstance(model, nn.Sequential):
        parts = dict([*parts.items()][-1:])
    return [
        ".".join(filter(None, (name, inner)))
        for name, part in parts.items()
        for inner in _guessed_in(part, outputs)
    ]


def _guessed_in(part: nn.Module, outputs: int | None) -> list[str]:
    """The candidates in a part of a model, which may be a layer itself."""
    if _is_linear(part, outputs):
        return [""]
    uses = _traced(part)
    if uses is not None and not any(uses.called[name] for name in uses.returned):
        found = [n for n in uses.returned if _is_linear(part.get_submodule(n), outputs)]
        if found:
            return found
    return _guessed(part, outputs)

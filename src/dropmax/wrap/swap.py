"""Put a head in the place of a model's classifier, and back."""

from typing import Any

from torch import nn

from dropmax import _check
from dropmax.heads import DropMaxTiedHead, GatedHead, Head, make_head
from dropmax.wrap.classifier import Example, classifier_name
from dropmax.wrap.find import find_head

STARTS = ("softmax", "random")
RETAIN_BIAS = 2.0
"""The retain bias of a converted classifier: every class is retained with probability 0.88."""

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def convert(
    model: nn.Module,
    *,
    head: str = "dropmax",
    layer: str | None = None,
    start: str = "softmax",
    example: Example | None = None,
    **options: Any,
) -> nn.Module:
    """Replace the last linear layer of a classifier by a head, in the model itself.

    The converted model returns `Scores`. Train it with `dropmax.Criterion(model)`, and evaluate and
    serve it with `dropmax.Predictor(model)`.

    The head takes over the weight and bias of the layer. They are the same parameters under the
    same names, so optimizers and checkpoints of the model still fit. Device, dtype, hooks and the
    training flag stay as they are.

    A classifier of Hugging Face Transformers comes back within a `DropMaxForClassification`, which
    computes loss and log-probabilities itself.

    Args:
        model: A classifier whose last computation is an nn.Linear.
        head: The head, as `dropmax.make_head` takes it.
        layer: The name of the linear layer, as in `model.named_modules()`. If None, it is the one
            whose output the model returns in evaluation mode, as torch.fx traces it. Where that
            fails, pass an example. Without one it is what the model's `get_classifier()` returns,
            or the last nn.Linear of the part called `fc`, `classifier`, `head`, `heads`, `score`
            or `classification_head`, or else the only nn.Linear.
        start: "softmax" starts with the same gate for all classes: the plug-in then predicts what
            the model did, up to rounding, until the gate has learned. "random" starts the gate as
            that of a new head. Sparsemax, sigsoftmax and one_vs_rest have probabilities of their
            own from the start.
        example: A batch as the model takes it: a tensor, a tuple of its arguments, or a mapping of
            them by name. The model is called with it once, in the place of tracing.
        **options: Options of the head.

    Returns:
        The model itself. For Transformers it is a model around it: use that one, as the model
        within refuses to be called.

    Raises:
        ValueError: If there is no such layer, or it is not clear which one classifies (the
            candidates are listed), or the model computes on its output or never calls it, or it
            has one output, or its weight is computed from others as by weight_norm, or an option
            does not fit. The model is as before then.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> import dropmax
        >>> from dropmax import convert
        >>> model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> images = torch.randn(4, 16)
        >>> before = model(images).log_softmax(-1)
        >>> after = dropmax.Predictor(convert(model))(images)
        >>> torch.allclose(before, after, atol=1e-5)
        True
    """
    if not isinstance(model, nn.Module):
        _check.fail("model", "be an nn.Module", model, "pass the whole model", of=nn.Module)
    if any(isinstance(module, Head) for module in model.modules()):
        got = _check.Verbatim("one that has a head")
        _check.fail("model", "have no head yet", got, "use it, or revert it first")
    _check.choice("start", start, STARTS)
    taken = {name: options.get(name) for name in ("bias", "device", "dtype")}
    _check.unused(taken, "as it is the linear layer's")
    outputs = None
    if of_transformers := _is_of(model, "transformers", "peft"):
        from dropmax.integrations.transformers.host import checked_num_labels
        from dropmax.integrations.transformers.model import around

        outputs = checked_num_labels(model, options)
        _check.unused({"example": example}, "for a model of Transformers")
    name = classifier_name(model, layer, example, outputs)
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    made = make_head(
        head,
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        device=linear.weight.device,
        dtype=linear.weight.dtype,
        **options,
    )
    if start == "softmax" and isinstance(made, GatedHead):
        nn.init.zeros_(made.retain_weight)
        if made.retain_bias is not None:
            nn.init.constant_(made.retain_bias, options.get("retain_bias_init", RETAIN_BIAS))
    _replace(model, _names(model, linear), linear, made)
    return around(model, name, head, options) if of_transformers else model


def revert(model: nn.Module, *, drop_gate: bool = False) -> nn.Module:
    """Replace the head of a model by an nn.Linear with its weight and bias.

    Right after `convert` this restores the model bit for bit. A linear layer cannot hold a gate
    that has learned, nor the probabilities of a head that predicts something else than the softmax
    of its logits. Without them the predictions change, so you have to ask for that.

    Args:
        model: A model with one head.
        drop_gate: Whether to give up a gate that depends on the input, or the probabilities of
            sparsemax, sigsoftmax, one_vs_rest or a head of your own.

    Returns:
        The model itself, which returns logits again. For Transformers, the model within.

    Raises:
        ValueError: If there is no head, the model is the head itself, its predictions would change,
            or PEFT still has adapters in it.

    Examples:
        >>> from torch import nn
        >>> from dropmax import convert, revert
        >>> model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> revert(convert(model))[2]
        Linear(in_features=8, out_features=5, bias=True)
    """
    _check.boolean("drop_gate", drop_gate)
    head = find_head(model)
    if head is model:
        _check.fail("model", "contain the head", model, "pass the model around it")
    host, names = _host(model, head)
    if not drop_gate and not _predicts_softmax(head):
        got = _check.Verbatim(f"one with a {type(head).__name__}, which predicts something else")
        remedy = "its predictions change; pass drop_gate=True to revert it all the same"
        _check.fail("model", "predict the softmax of its logits", got, remedy)
    linear = nn.Linear(
        head.in_features, head.out_features, bias=head.bias is not None, device="meta"
    )
    _replace(host, names, head, linear)
    return host


def _host(model: nn.Module, head: Head) -> tuple[nn.Module, list[str]]:
    """The model that had the linear layer, and the names of that layer in it."""
    if any(_is_of(part, "peft") for part in model.modules()):
        got = _check.Verbatim(type(model).__name__)
        remedy = "take them out by its merge_and_unload()"
        _check.fail("model", "have no adapters of PEFT", got, remedy)
    if not _is_of(model, "transformers"):
        return model, _names(model, head)
    from dropmax.integrations.transformers import DropMaxForClassification

    if not isinstance(model, DropMaxForClassification):
        got = _check.Verbatim(type(model).__name__)
        _check.fail("model", "be what convert returned", got, "pass that")
    model.guard.remove()
    model.host.config.id2label = model.config.id2label
    model.host.config.label2id = model.config.label2id
    return model.host, [model.config.layer]


def _is_of(module: nn.Module, *packages: str) -> bool:
    """Whether the module's class is one of these packages, or made from one."""
    return any(base.__module__.partition(".")[0] in packages for base in type(module).__mro__)


def _names(model: nn.Module, part: nn.Module) -> list[str]:
    """All names of a part: a model may keep it under several."""
    return [n for n, module in model.named_modules(remove_duplicate=False) if module is part]


def _replace(model: nn.Module, names: list[str], old: nn.Module, new: nn.Module) -> None:
    """Put `new` where `old` is, with its weight, bias, hooks and training flag."""
    new.weight, new.bias = old.weight, old.bias
    for hooks in _HOOKS:
        getattr(new, hooks).update(getattr(old, hooks))
    new.train(old.training)
    for name in names:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, new)


def _predicts_softmax(head: Head) -> bool:
    """Whether the plug-in is the softmax of the logits: a gate that is the same for all classes and
    inputs drops out of it.
    """
    if isinstance(head, DropMaxTiedHead):
        return not head.gate_scale.any()
    if isinstance(head, GatedHead):
        weight, bias = head.retain_weight, head.retain_bias
        return not weight.any() and (bias is None or bool((bias == bias[0]).all()))
    methods = ("predict", "log_probs", "_plugin", "_plugin_logits")
    return all(getattr(type(head), name) is getattr(Head, name) for name in methods)

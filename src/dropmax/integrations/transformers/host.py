"""The classifiers of Transformers that take a head: which they are, and what it takes."""

import functools
import inspect
from collections.abc import Callable
from types import NoneType
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from dropmax import _check
from dropmax.errors import DropmaxTypeError
from dropmax.heads import Head, make_head
from dropmax.integrations.transformers.features import Pretrained
from dropmax.integrations.transformers.pooled import PooledForClassification


def checked_num_labels(model: Any, options: dict[str, Any]) -> int:
    """The number of labels of a model that can be converted.

    Raises:
        ValueError: If it is no classifier of transformers for single labels, or if a saved
            configuration cannot hold the options.
    """
    name = type(model).__name__
    if type(model) is not _classifier_class(name):
        must = "be one of the models for classification in transformers"
        remedy = "convert it before PEFT wraps it; of other models convert a module around them"
        _check.fail("model", must, _check.Verbatim(name), remedy)
    config: Any = model.config
    num_labels, problem = config.num_labels, config.problem_type
    if num_labels == 1 or problem not in (None, "single_label_classification"):
        got = _check.Verbatim(f"problem_type {problem!r} with num_labels {num_labels}")
        remedy = "leave the linear layer to regression and to several labels an instance"
        _check.fail("model", "choose one label of several", got, remedy)
    for option, value in options.items():
        if not isinstance(value, str | int | float | NoneType):
            must = "be text or a number, which a saved configuration can hold"
            _check.fail(option, must, value, "leave it out", error=DropmaxTypeError)
    return int(num_labels)


def _classifier_class(name: str) -> type[PreTrainedModel] | None:
    """The class of transformers with that name, if its models classify."""
    found = getattr(transformers, name, None)
    is_model = isinstance(found, type) and issubclass(found, PreTrainedModel)
    return found if is_model and name.endswith("Classification") else None


def made_host(config: Any) -> PreTrainedModel:
    """The untrained host of a configuration, its classifier a head."""
    if config.host is None:
        remedy = "load what save_pretrained of a converted model wrote"
        _check.fail("config.host", "be given", None, remedy)
    config.host.num_labels = config.num_labels
    if config.features:
        known = Pretrained(**config.features)
        made = PooledForClassification(config.host, config.num_labels, known, hidden=config.hidden)
        return _with_head(made, config)
    architecture = _classifier_class(config.architecture)
    if architecture is None:
        must = "be one of the models for classification in transformers"
        remedy = "install the version of transformers that has it"
        _check.fail("config.architecture", must, config.architecture, remedy)
    return _with_head(architecture(config.host), config)


def _with_head(host: PreTrainedModel, config: Any) -> PreTrainedModel:
    """A host whose classifier becomes the head of a configuration."""
    linear: Any = host.get_submodule(config.layer)
    made = make_head(
        config.head,
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        **config.options,
    )
    host.set_submodule(config.layer, PackedHead(made))
    return host


class PackedHead(nn.Module):
    """A head whose scores leave as one tensor `[*, B * K]`, of which a host may select rows."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([scores for scores in self.head(features) if scores is not None], -1)


def only_called_within(host: PreTrainedModel) -> RemovableHandle:
    """Have a host refuse calls but those by the model around it, as its logits are packed scores.

    That model says `packed=True`, which the host itself never sees.
    """
    return host.register_forward_pre_hook(_without_packed, with_kwargs=True)


def _without_packed(
    host: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    rest = {name: value for name, value in kwargs.items() if name != "packed"}
    if len(rest) == len(kwargs):
        must = "be called by the model around it"
        got = _check.Verbatim(f"a call of {type(host).__name__} itself")
        remedy = "use the model that convert returned, or its base_model for features"
        _check.fail("host", must, got, remedy)
    return args, rest


class WithHostArguments:
    """A forward method whose signature names the host's arguments beside its own.

    Trainer drops the columns of a data set that the signature does not name.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method

    @torch.compiler.disable  # whose frames would come here again and again
    def __get__(self, model: Any, owner: type | None = None) -> Callable[..., Any]:
        bound: Callable[..., Any] = self.method.__get__(model, owner)
        if model is None or torch.compiler.is_compiling():  # which follows no partial
            return bound
        shown = functools.partial(bound)
        vars(shown)["__signature__"] = _signature(type(model.host).forward, self.method)
        return shown


@functools.cache
def _signature(host: Callable[..., Any], method: Callable[..., Any]) -> inspect.Signature:
    """The host's arguments, and those of the method that only a keyword gives."""
    kinds = inspect.Parameter
    own = inspect.signature(method).parameters.values()
    keywords = {p.name: p for p in own if p.kind is kinds.KEYWORD_ONLY}
    rest = [p for p in own if p.kind is kinds.VAR_KEYWORD]
    _, *given = inspect.signature(host).parameters.values()
    given = [p for p in given if p.kind is not kinds.VAR_KEYWORD and p.name not in keywords]
    return inspect.Signature([*given, *keywords.values(), *rest])

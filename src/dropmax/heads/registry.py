"""Heads by name: the seven of the paper, made from text such as `softmax:label_smoothing=0.1`."""

import ast
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from dropmax import _check
from dropmax.heads.attention import AttentionHead
from dropmax.heads.base import Head
from dropmax.heads.class_dropout import ClassDropoutHead
from dropmax.heads.dropmax import DropMaxHead
from dropmax.heads.sampled_softmax import SampledSoftmaxHead
from dropmax.heads.softmax import SoftmaxHead
from dropmax.heads.sparsemax import SparsemaxHead

HEADS: Mapping[str, Callable[..., Head]] = MappingProxyType(
    {
        "softmax": SoftmaxHead,
        "sparsemax": SparsemaxHead,
        "sampled_softmax": SampledSoftmaxHead,
        "class_dropout": ClassDropoutHead,
        "attention": AttentionHead,
        "dropmax_prior": partial(DropMaxHead, posterior="prior"),
        "dropmax": DropMaxHead,
    }
)
"""The heads of the paper by name, each called with `(in_features, num_classes, **options)`."""


def make_head(name: str, in_features: int, num_classes: int, **options: Any) -> Head:
    """Make a head by name.

    Args:
        name: One of `HEADS`, where options may follow as text: `"softmax:label_smoothing=0.1"`,
            `"dropmax:kl_weight=0.5,aux_prior=base_rate"`.
        in_features: Width D of the features.
        num_classes: Number K of classes.
        **options: Options of the head's class; one that the text has, too, raises.

    Raises:
        ValueError: If there is no such head or option, or a value does not fit.

    Examples:
        >>> from dropmax import make_head
        >>> make_head("softmax:label_smoothing=0.1", 16, 5)
        SoftmaxHead(in_features=16, out_features=5, label_smoothing=0.1, bias=True)
    """
    if not isinstance(name, str):
        _check.fail("name", "be text", name, f"choose one of {', '.join(HEADS)}", of=str)
    stem, _, text = name.partition(":")
    _check.choice("name", stem, HEADS)
    written = _parse(name, text)
    for option in written:
        if option in options:
            must = "stand once, in the text or as an argument"
            _check.fail(option, must, name, "leave one of them out")
    options = written | options
    make = HEADS[stem]
    fixed = make.keywords if isinstance(make, partial) else {}
    known = [
        option
        for option, parameter in inspect.signature(make).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and option not in fixed
    ]
    for option in options:
        _check.choice(f"an option of {stem}", option, known)
    return make(in_features, num_classes, **options)


def _parse(name: str, text: str) -> dict[str, Any]:
    """The options in `a=1,b=text`: Python literals where they are some, else text."""
    options: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        option, equals, value = (part.strip() for part in item.partition("="))
        if not (option and equals and value) or option in options:
            must = "have the form head:option=value,option=value, each option once"
            _check.fail("name", must, name, "write it so")
        try:
            options[option] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[option] = value
    return options

"""Heads by name, made from text such as `softmax:label_smoothing=0.1`; yours among them."""

import ast
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dropmax import _check
from dropmax.errors import DropmaxFileNotFoundError, DropmaxImportError, DropmaxTypeError
from dropmax.heads.base import Head
from dropmax.heads.baselines import (
    ASSoftmaxHead,
    AttentionHead,
    ClassDropoutHead,
    OneVsRestHead,
    SampledSoftmaxHead,
    SigSoftmaxHead,
    SoftmaxHead,
    SparsemaxHead,
)
from dropmax.heads.dropmax import DropMaxHead
from dropmax.heads.research import ComputedPosteriorHead, MarginalHead
from dropmax.heads.smaller import DropMaxLabelHead, DropMaxTiedHead

_heads: dict[str, Callable[..., Head]] = {
    "softmax": SoftmaxHead,
    "sparsemax": SparsemaxHead,
    "sampled_softmax": SampledSoftmaxHead,
    "class_dropout": ClassDropoutHead,
    "attention": AttentionHead,
    "sigsoftmax": SigSoftmaxHead,
    "as_softmax": ASSoftmaxHead,
    "one_vs_rest": OneVsRestHead,
    "dropmax_prior": partial(DropMaxHead, posterior="prior"),
    "dropmax": DropMaxHead,
    "dropmax_label": DropMaxLabelHead,
    "dropmax_tied": DropMaxTiedHead,
    "dropmax_marginal": MarginalHead,
    "dropmax_computed": ComputedPosteriorHead,
}
BUILT_IN = frozenset(_heads)
HEADS: Mapping[str, Callable[..., Head]] = MappingProxyType(_heads)
"""The heads by name, each called with `(in_features, num_classes, **options)`."""


def register_head(name: str, head: type[Head]) -> None:
    """Give a head of your own a name, so that everything here can make it.

    `make_head(name, ...)`, `convert(model, head=name)`, `DropMaxClassifier(name)` and the command
    with `--import your_file.py` then know it and its options.

    Args:
        name: Lower-case words joined by underscores. If you give it again, to another class, it is
            the name of that one.
        head: A class derived from `Head`, whose constructor takes `(in_features, num_classes)`
            and options by keyword.

    Raises:
        ValueError: If the name does not fit, or is that of a head that is built in.
        TypeError: If head is no such class.

    Examples:
        >>> import dropmax
        >>> from dropmax.functional import Objective, softmax_loss
        >>> class HalfHead(dropmax.Head):
        ...     def objective(self, scores, label, **random):
        ...         return Objective.of_nll(0.5 * softmax_loss(scores.logits, label))
        >>> dropmax.register_head("half", HalfHead)
        >>> dropmax.make_head("half", 16, 5)
        HalfHead(in_features=16, out_features=5, label_smoothing=0.0, bias=True)
    """
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower():
        must = "be lower-case words joined by underscores"
        _check.fail("name", must, name, "such as 'my_head'", of=str)
    if not isinstance(head, type) or not issubclass(head, Head):
        must = "be a class derived from dropmax.Head"
        remedy = "derive from it, and implement objective"
        _check.fail("head", must, head, remedy, error=DropmaxTypeError)
    if name in BUILT_IN:
        _check.fail("name", "not be that of a head that is built in", name, "choose another")
    _heads[name] = head


def own_heads(heads: Iterable[str]) -> dict[str, Any]:
    """Those of the heads, in text as `make_head` takes them, that another process lacks."""
    names = {head.partition(":")[0] for head in heads}
    return {name: _heads[name] for name in sorted(names - BUILT_IN) if name in _heads}


def import_heads(file: Path) -> None:
    """Import a Python file that registers heads, under its own name, as `import` would.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no Python file, or its name is that of another module.
        ImportError: If it does not import.
    """
    if not file.is_file():
        _check.fail("--import", "be a file", str(file), "name one", error=DropmaxFileNotFoundError)
    if file.suffix != ".py" or not file.stem.isidentifier():
        _check.fail("--import", "be a Python file, NAME.py", str(file), "rename it")
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        module = importlib.import_module(file.stem)
    except Exception as error:
        got = _check.Verbatim(f"{type(error).__name__}: {error}")
        remedy = "mend the file; --debug shows where"
        _check.fail(f"--import {file}", "import", got, remedy, error=DropmaxImportError)
    if module.__file__ is None or not file.samefile(module.__file__):
        must = "have a name that no other module has"
        _check.fail("--import", must, str(file), "rename the file")


def make_head(name: str, in_features: int, num_classes: int, **options: Any) -> Head:
    """Make a head by name.

    Args:
        name: One of `HEADS`. Options may follow in the text: `"softmax:label_smoothing=0.1"`,
            `"dropmax:kl_weight=0.5,aux_prior=base_rate"`.
        in_features: Width D of the features.
        num_classes: Number K of classes.
        **options: Options of the head's class, each either here or in the text.

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
    remedy = "choose one of them, or give yours a name by register_head"
    _check.choice("name", stem, HEADS, remedy)
    written = _parse(name, text)
    for option in written:
        if option in options:
            must = "stand once, in the text or as an argument"
            _check.fail(option, must, name, "leave one of them out")
    options = written | options
    make: Any = HEADS[stem]
    made, fixed = make, {}
    if isinstance(make, partial):
        made, fixed = make.func, make.keywords
    known = [option for option in made.option_names() if option not in fixed]
    for option in options:
        _check.choice(f"an option of {stem}", option, known)
    head: Head = make(in_features, num_classes, **options)
    return head


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

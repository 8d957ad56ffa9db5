"""Argument checks: the only place where error text is composed.

Shapes, dtypes and devices are always checked, since that is free. Values are read from CPU tensors
alone, and neither under torch.compile nor inside a functorch transform.
"""

import difflib
import inspect
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from types import FrameType, UnionType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from dropmax.errors import (
    DropmaxError,
    DropmaxFileNotFoundError,
    DropmaxImportError,
    DropmaxOSError,
    DropmaxTypeError,
    DropmaxValueError,
)

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def fail(
    argument: str,
    must: str,
    got: object,
    remedy: str,
    *,
    of: type | UnionType = object,
    error: type[DropmaxError] = DropmaxValueError,
) -> NoReturn:
    """Raise the error of the public function that takes the argument, in the house's one form.

    Args:
        argument: Its name, or what it is where it has none.
        must: What it has to be or do.
        got: What came.
        remedy: What to do.
        of: The type that it has to be of; another one is a `DropmaxTypeError`.
        error: What is raised where the type fits.
    """
    stop = "" if remedy.endswith("?") else "."
    message = f"{caller(argument)}: {argument} must {must}, got {_describe(got)}; {remedy}{stop}"
    raise (error if isinstance(got, of) else DropmaxTypeError)(message)


def meant(
    asked: str, call: str, error: type[DropmaxError], got: str = "the Scores of a head"
) -> NoReturn:
    """Raise the error of what is asked of something that holds tensors, and is none itself.

    Args:
        asked: A method or a function.
        call: What is meant.
        error: Its type.
        got: What was taken for a tensor.
    """
    raise error(f"{asked} must be asked of a tensor, got {got}; use {call}.")


def caller(argument: str) -> str:
    """The public function that an error about an argument is of, as the user called it.

    It is the innermost public one on the stack, or the public function that called it, where that
    has a parameter of the same name, and so on: who was given the value, not who looked at it.
    Code that is being compiled has no stack to read.
    """
    named = "dropmax"
    if torch.compiler.is_compiling():
        return named
    frame: FrameType | None = sys._getframe(1)
    innermost = True
    while frame is not None:
        public = _public_name(frame)
        if public is not None:
            if not innermost and argument.partition(".")[0] not in _parameters(frame):
                break
            named, innermost = public, False
        frame = frame.f_back
    return named


def _public_name(frame: FrameType) -> str | None:
    """The name of a frame's function if it, or its class, stands in an `__all__`.

    Of dropmax, or of a module beside it that uses these checks.
    """
    module = frame.f_globals.get("__name__", "")
    uses_checks = frame.f_globals.get("_check") is sys.modules[__name__]
    if module.partition(".")[0] != "dropmax" and not uses_checks:
        return None
    name, *inner = frame.f_code.co_qualname.split(".")
    if not inner:
        return name if _is_exported(module, name) else None
    bound = frame.f_locals.get(next(iter(_parameters(frame)), ""))
    owner = bound if inspect.isclass(bound) else type(bound)
    exported = any(_is_exported(base.__module__, base.__name__) for base in owner.__mro__)
    if inner != [method := frame.f_code.co_name] or not exported:
        return None
    if method in ("__init__", "__post_init__"):
        return owner.__name__
    return None if method.startswith("_") else f"{owner.__name__}.{method}"


def _is_exported(module: str, name: str) -> bool:
    """Whether a name stands in the `__all__` of its module or of a package around it."""
    parts = module.split(".")
    around = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return any(name in getattr(sys.modules.get(place), "__all__", ()) for place in around)


def _parameters(frame: FrameType) -> tuple[str, ...]:
    """The names of the arguments, and of those that came as **options."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames[:count]
    if not code.co_flags & inspect.CO_VARKEYWORDS:
        return names
    options = code.co_varnames[count + bool(code.co_flags & inspect.CO_VARARGS)]
    return (*names, *frame.f_locals[options])


def kind_of(error: BaseException) -> type[DropmaxError]:
    """Ours of the kind of an error that was met in reading or writing."""
    if isinstance(error, FileNotFoundError):
        return DropmaxFileNotFoundError
    return DropmaxOSError if isinstance(error, OSError) else DropmaxValueError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Within, packages of an extra are imported; where one is missing the error names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "dropmax").partition(".")[0] == "dropmax":
            raise
        got = Verbatim(f"no module {error.name}")
        remedy = f"pip install 'dropmax[{name}]'"
        fail(f"the extra {name}", "be installed", got, remedy, error=DropmaxImportError)


class Verbatim(str):
    """Text that an error shows without quotes."""


def _describe(got: object) -> str:
    if isinstance(got, Verbatim):
        return str(got)
    if isinstance(got, Tensor):
        dtype = str(got.dtype).removeprefix("torch.")
        return f"{dtype}{list(got.shape)} on {got.device}"
    text = " ".join(repr(got).split())
    longest = 300 if isinstance(got, str | Path) else 80  # a path is of use whole alone
    return text if len(text) <= longest else f"{type(got).__name__} {text[:60]}..."


def readable(tensor: Tensor) -> bool:
    """Whether the tensor's values can be read without a device sync or a graph break.

    Not in compiled or traced code, nor of fake, distributed or functorch tensors.
    """
    return tensor.device.type == "cpu" and concrete(tensor)


def concrete(tensor: Tensor) -> bool:
    """Whether the tensor has values at all that Python could wait for."""
    return (
        not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and _get_current_dispatch_mode() is None
    )


def is_transformed(x: Tensor) -> bool:
    """Whether a tensor is one that torch.func transforms, or may be a dual one; not if compiled."""
    if torch.compiler.is_compiling():
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(x)
    return wrapped or torch.autograd.forward_ad._current_level >= 0


def features(features: Tensor, weight: Tensor) -> None:
    """`features` [*, D] fit a weight [K, D]; under autocast their dtype may differ."""
    autocast = torch.is_autocast_enabled(weight.device.type)
    if (
        not isinstance(features, Tensor)
        or features.ndim == 0
        or features.shape[-1] != weight.shape[1]
        or not features.is_floating_point()
        or (features.dtype != weight.dtype and not autocast)
        or features.device != weight.device
    ):
        dtype = str(weight.dtype).removeprefix("torch.")
        must = f"be {dtype}[*, {weight.shape[1]}] on {weight.device}"
        remedy = "give the head the width, dtype and device of its features"
        fail("features", must, features, remedy, of=Tensor)


def class_tensors(logits: Tensor, axis: Any = None, /, **others: Tensor) -> None:
    """`logits` is a floating tensor [*, K], and the others are like it; K is that of an axis."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        must = "be a floating-point tensor [*, K]"
        fail("logits", must, logits, "pass raw scores", of=Tensor)
    if logits.ndim == 0 or (logits.shape[-1] if axis is None else axis.num_classes(logits)) == 0:
        fail("logits", "have a last dimension of K >= 1 classes", logits, "add it")
    for argument, tensor in others.items():
        if (
            not isinstance(tensor, Tensor)
            or tensor.shape != logits.shape
            or tensor.dtype != logits.dtype
            or tensor.device != logits.device
        ):
            must = f"match logits, {_describe(logits)}"
            remedy = "give both the same shape, dtype and device"
            fail(argument, must, tensor, remedy, of=Tensor)


def class_indices(
    target: Tensor,
    logits: Tensor,
    remedy: str = "pass indices, or floating-point class probabilities [*, K]",
) -> None:
    """`target` is of the shape of class indices [*] of the logits [*, K]; values are not read."""
    if (
        not isinstance(target, Tensor)
        or target.dtype not in _INTEGERS
        or target.shape != logits.shape[:-1]
        or target.device != logits.device
    ):
        must = (
            f"be integer class indices {list(logits.shape[:-1])} on {logits.device} "
            f"to match logits {list(logits.shape)}"
        )
        fail("target", must, target, remedy, of=Tensor)


def class_target(target: Tensor, logits: Tensor, num_classes: int) -> None:
    """`target` holds class indices [*] of the logits [*, K]."""
    class_indices(target, logits, "pass indices, not one-hot rows")
    if readable(target) and not is_within(target, num_classes):
        must = f"lie in 0 ... {num_classes - 1}"
        low, high = (int(bound) for bound in torch.aminmax(target))
        got = Verbatim(f"values from {low} to {high}")
        fail("target", must, got, "number the classes from 0")


def is_within(target: Tensor, num_classes: int) -> bool:
    """Whether all class indices are of a class; False where they cannot be read."""
    if not readable(target):
        return False
    if not target.numel():
        return True
    low, high = torch.aminmax(target)
    return int(low) >= 0 and int(high) < num_classes


def label(target: Tensor, logits: Tensor, num_classes: int) -> None:
    """`target` holds class indices [*] of the logits [*, K], or class probabilities [*, K]."""
    if not isinstance(target, Tensor) or not target.is_floating_point():
        class_indices(target, logits)
        class_target(target, logits, num_classes)
        return
    shape = (*logits.shape[:-1], num_classes)
    if tuple(target.shape) != shape or target.device != logits.device:
        must = (
            f"be class probabilities {list(shape)} on {logits.device} like logits, "
            f"or integer class indices {list(logits.shape[:-1])}"
        )
        fail("target", must, target, "pass one of the two, classes last")
    not_negative("target", target)
    sums_to_one("target", target)


def class_weight(
    weight: Tensor, logits: Tensor, num_classes: int, argument: str = "weight"
) -> None:
    """`weight` holds a weight for each class."""
    shape = torch.Size((num_classes,))
    _weights(argument, weight, logits, shape, "pass one weight a class")


def sample_weight(sample_weight: Tensor, logits: Tensor) -> None:
    """`sample_weight` holds a weight for each instance of the logits [*, K]."""
    remedy = "pass one weight an instance"
    _weights("sample_weight", sample_weight, logits, logits.shape[:-1], remedy)


def _weights(argument: str, weight: Tensor, logits: Tensor, shape: torch.Size, remedy: str) -> None:
    if (
        not isinstance(weight, Tensor)
        or not weight.is_floating_point()
        or weight.shape != shape
        or weight.device != logits.device
    ):
        must = f"be floating-point {list(shape)} on {logits.device}"
        fail(argument, must, weight, remedy, of=Tensor)
    not_negative(argument, weight)


def not_negative(argument: str, tensor: Tensor) -> None:
    """The entries of a floating-point tensor are finite and at least 0."""
    if tensor.numel() and readable(tensor):
        low, high = (float(bound) for bound in torch.aminmax(tensor.detach()))
        if not (low >= 0.0 and high < math.inf):
            got = Verbatim(f"values from {low:g} to {high:g}")
            fail(argument, "be finite and at least 0", got, "look at its entries")


def sums_to_one(argument: str, probabilities: Tensor) -> None:
    """Class probabilities [*, K] sum to 1, to 1e-3, or 1e-2 in half precision."""
    if not probabilities.numel() or not readable(probabilities):
        return
    tolerance = 1e-2 if probabilities.element_size() < 4 else 1e-3
    sums = probabilities.detach().float().sum(-1)
    low, high = (float(bound) for bound in torch.aminmax(sums))
    if low < 1.0 - tolerance or high > 1.0 + tolerance:
        must = "hold class probabilities that sum to 1"
        got = Verbatim(f"sums from {low:g} to {high:g}")
        remedy = (
            "divide each row by its sum, and give one to be left out any probabilities and the "
            "sample_weight 0; a multi-label target, several classes at once, needs another loss"
        )
        fail(argument, must, got, remedy)


def uniform_noise(noise: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    """`noise` holds uniforms strictly between 0 and 1."""
    if (
        not isinstance(noise, Tensor)
        or noise.dtype not in (torch.float32, torch.float64)
        or tuple(noise.shape) != shape
        or noise.device != device
    ):
        must = f"be float32 or float64 uniforms {list(shape)} on {device}"
        fail("noise", must, noise, "draw it with torch.rand", of=Tensor)
    if noise.numel() and readable(noise):
        low, high = (float(bound) for bound in torch.aminmax(noise.detach()))
        if not (low > 0.0 and high < 1.0):
            got = Verbatim(f"values from {low:g} to {high:g}")
            must = "lie strictly between 0 and 1"
            fail("noise", must, got, "clamp the uniforms off both ends")


def log_proposal(log_proposal: Tensor, logits: Tensor, num_classes: int) -> None:
    """`log_proposal` holds a finite log-probability for each class."""
    if (
        not isinstance(log_proposal, Tensor)
        or not log_proposal.is_floating_point()
        or log_proposal.shape != (num_classes,)
        or log_proposal.device != logits.device
    ):
        must = f"be floating-point [{num_classes}] on {logits.device}"
        remedy = "pass one log-probability a class"
        fail("log_proposal", must, log_proposal, remedy, of=Tensor)
    if readable(log_proposal) and not bool(log_proposal.isfinite().all()):
        remedy = "give every class a probability above 0"
        fail("log_proposal", "be finite", Verbatim("infinite or NaN entries"), remedy)


def random_source(
    noise: Tensor | None, generator: torch.Generator | None, device: torch.device
) -> None:
    """At most one of `noise` and `generator`; a generator on the device, outside compiled code."""
    if generator is None:
        return
    if noise is not None:
        fail("generator", "be None where noise is given", generator, "pass one of them")
    if torch.compiler.is_compiling():
        remedy = "pass noise, or seed the default generator"
        fail("generator", "be None in compiled code", Verbatim("a generator"), remedy)
    if generator.device.type != device.type:
        got = Verbatim(f"one on {generator.device}")
        fail("generator", f"live on {device.type}", got, "make it on that device")


def unused(options: Mapping[str, object], where: str) -> None:
    """None of the options is given, since nothing would read it."""
    for argument, value in options.items():
        if value is not None:
            fail(argument, f"be None {where}", value, "leave it out")


def default(argument: str, value: object, expected: object, where: str) -> None:
    """`value` is the default, since nothing would read another."""
    if value != expected:
        fail(argument, f"be {expected!r} {where}", value, "leave it out")


def boolean(argument: str, value: object) -> None:
    """`value` is True or False."""
    if not isinstance(value, bool):
        fail(argument, "be True or False", value, "pass a bool", of=bool)


def integer(argument: str, value: Any, *, low: int | None = None, high: int | None = None) -> None:
    """`value` is a whole number, of at least `low` and at most `high` if they are given."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or (low is not None and value < low) or (high is not None and value > high):
        must = "be an integer" + ("" if low is None else f" of at least {low}")
        must += "" if high is None else f" and at most {high}"
        error = DropmaxValueError if whole else DropmaxTypeError
        fail(argument, must, value, "pass a whole number", error=error)


def number(
    argument: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """`value` is a finite real number in the interval from `low` to `high`."""
    if torch.compiler.is_compiling():
        return
    real = isinstance(value, Real) and not isinstance(value, bool)
    inside = (
        real
        and math.isfinite(value)
        and (low < value if open_low else low <= value)
        and (value < high if open_high else value <= high)
    )
    if not inside:
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        must = f"be a number in {left}{low:g}, {high:g}{right}"
        error = DropmaxValueError if real else DropmaxTypeError
        fail(argument, must, value, "choose a value inside", error=error)


def choice(
    argument: str, value: object, options: Iterable[str], remedy: str = "choose one of them"
) -> None:
    """`value` is one of the names in `options`; a near miss is named."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return
    near = difflib.get_close_matches(str(value), options, n=1)
    if near:
        remedy = f"did you mean {near[0]!r}?"
    fail(argument, f"be one of {', '.join(options)}", value, remedy, of=str)


def choice_or_number(argument: str, value: object, options: Iterable[str]) -> None:
    """`value` is one of the names in `options`, or a number in the open interval from 0 to 1."""
    if isinstance(value, str):
        choice(argument, value, options)
    else:
        number(argument, value, low=0.0, high=1.0, open_low=True, open_high=True)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` as losses are computed: in float32 if it is of a half-width dtype, else as it is."""
    return x.float() if x.element_size() < 4 else x

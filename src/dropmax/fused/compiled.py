"""torch.compile where there is a compiler and enough to do; plain code elsewhere."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch

ENOUGH = 2**18
"""Scores of a call from which on compiling is worth its seconds, and the fused loss pays."""

VARIANTS = 64
"""So many forms of a function are compiled: posteriors, floors, kinds of noise, dtypes."""


class Compiled:
    """A function of tensors that is compiled when first called for many scores, if it can be."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled: Callable[..., Any] | None = None
        self.possible = True

    def __call__(self, *arguments: Any, of: int, **options: Any) -> Any:
        """Its value; the call is one part of what is done with `of` scores."""
        if not self.possible or of < ENOUGH:
            return self.function(*arguments, **options)
        from torch._dynamo.exc import TorchDynamoException

        if self.compiled is None:
            self.compiled = _compiled(self.function)
        try:
            return self.compiled(*arguments, **options)
        except TorchDynamoException as error:  # no compiler, or a broken one
            self.possible = False
            first_line = str(error).strip().partition("\n")[0]
            warnings.warn(
                f"dropmax.fused: torch.compile failed ({type(error).__name__}: {first_line}); "
                "plain code runs in its place, which is slower. What it needs is a C++ compiler.",
                RuntimeWarning,
                stacklevel=2,
            )
            return self.function(*arguments, **options)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """For tensors of any size; older versions of torch know no limit of its own."""
    known = inspect.signature(torch.compile).parameters
    limit: dict[str, Any] = {"recompile_limit": VARIANTS} if "recompile_limit" in known else {}
    made: Callable[..., Any] = torch.compile(function, dynamic=True, **limit)
    return made

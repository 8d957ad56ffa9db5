"""torch.compile where there is a compiler and enough to do; plain code elsewhere."""

from collections.abc import Callable
from typing import Any

import torch

ENOUGH = 2**18
"""Scores of a call from which on compiling is worth its seconds, and the fused loss pays."""


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
        from torch._inductor.exc import InductorError

        if self.compiled is None:
            self.compiled = torch.compile(self.function)
        try:
            return self.compiled(*arguments, **options)
        except (TorchDynamoException, InductorError):  # there is no compiler on this machine
            self.possible = False
            return self.function(*arguments, **options)

"""torch.compile where there is a compiler and enough to do; plain code elsewhere."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ENOUGH = 2**18
"""Scores of a call from which on compiling is worth its seconds, and the fused loss pays."""


class Compiled:
    """A function of tensors that is compiled at its first call on many scores, if it can be.

    `otherwise` is its plain form.
    """

    def __init__(self, function: Callable[..., Any], *, otherwise: Callable[..., Any]) -> None:
        self.function = function
        self.otherwise = otherwise
        self.compiled: Callable[..., Any] | None = None
        self.possible = True

    def __call__(self, scores: Tensor, *arguments: Any, **options: Any) -> Any:
        if not self.possible or scores.numel() < ENOUGH:
            return self.otherwise(scores, *arguments, **options)
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        if self.compiled is None:
            self.compiled = torch.compile(self.function)
        try:
            return self.compiled(scores, *arguments, **options)
        except (TorchDynamoException, InductorError):  # there is no compiler on this machine
            self.possible = False
            return self.otherwise(scores, *arguments, **options)

"""The precision in which losses are computed."""

from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 if it is of a half-width dtype, else as it is."""
    return x.float() if x.element_size() < 4 else x

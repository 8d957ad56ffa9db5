"""Uniform noise as a function of a key and a place, so that it is made where it is used.

A key is two random 32-bit numbers an instance and sample; the uniform of class k is a hash of k
with one of them, hashed with the other. The keys are all that a backward pass has to keep.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

STEPS = 2**23
"""So many different uniforms there are: the middles of as many equal parts of (0, 1).

With more of them float32 could not tell the largest from 1.
"""

_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B - 2**32


def draw_keys(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Int[Tensor, "*batch 2"]:
    """Keys `[*shape, 2]`, int32, of the generator or the default one."""
    # a generator, even None, would pick an overload that knows no symbolic shapes
    source: dict[str, Any] = {} if generator is None else {"generator": generator}
    drawn: Tensor = torch.randint(
        -(2**31), 2**31, (*shape, 2), dtype=torch.int32, device=device, **source
    )
    return drawn


def counted_keys(
    shape: tuple[int, ...], seed: Int[Tensor, " 2"], count: Int[Tensor, ""]
) -> Int[Tensor, "*batch 2"]:
    """Keys `[*shape, 2]`, int32, a hash of a seed, of a count of calls, and of the place."""
    place = torch.arange(math.prod(shape), dtype=torch.int32, device=seed.device).unsqueeze(-1)
    return _hash(_hash(place ^ seed) ^ _hash(count ^ seed.flip(0))).reshape(*shape, 2)


def words_of(seed: int, device: torch.device) -> Int[Tensor, " 2"]:
    """A seed of 62 bits as the two words, int32, that `counted_keys` takes."""
    low, high = seed % 2**31, seed >> 31
    return _hash(_hash(torch.tensor([low, ~low], dtype=torch.int32, device=device)) ^ high)


def steps_of(
    keys: Int[Tensor, "*batch 2"], num_classes: int, first: int = 0
) -> Int[Tensor, "*batch K"]:
    """For each class from `first` on a number from 0 to STEPS - 1."""
    place = torch.arange(first, first + num_classes, dtype=torch.int32, device=keys.device)
    hashed = _hash(_hash(place ^ keys[..., :1]) ^ keys[..., 1:])
    return (hashed >> 9) & (STEPS - 1)


def uniforms(
    keys: Int[Tensor, "*batch 2"], num_classes: int, dtype: torch.dtype, first: int = 0
) -> Float[Tensor, "*batch K"]:
    """The uniforms of the classes from `first` on, strictly between 0 and 1."""
    return (steps_of(keys, num_classes, first).to(dtype) + 0.5) / STEPS


def logistics(
    keys: Int[Tensor, "*batch 2"], num_classes: int, dtype: torch.dtype, first: int = 0
) -> Float[Tensor, "*batch K"]:
    """Standard logistic noise log u - log(1 - u) of these uniforms, by a single logarithm."""
    step = steps_of(keys, num_classes, first).to(dtype) + 0.5
    return torch.log(step / (STEPS - step))


def _hash(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """A bijection of 32 bits in which every bit of the result depends on every bit of x.

    Source:
        C. Wellons' `lowbias32`, found by search for the least bias of its avalanche.
    """
    x = (x ^ _shifted(x, 16)) * _FIRST
    x = (x ^ _shifted(x, 15)) * _SECOND
    return x ^ _shifted(x, 16)


def _shifted(x: Int[Tensor, "*shape"], bits: int) -> Int[Tensor, "*shape"]:
    """x moved down, zeros coming in from above."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)

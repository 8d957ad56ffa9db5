"""The class axis: the few reductions over classes from which every formula is built.

A formula written against a `ClassAxis` runs on one device (`LOCAL`: classes are the last
dimension of the tensor) and, on another axis, with the classes spread over many ranks.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dropmax._noise import draw_keys

__all__ = [
    "LOCAL",
    "ClassAxis",
    "LocalAxis",
]


_OFF_ZERO = 2.0**-25
"""Half the step of float32 uniforms: the least noise that is drawn."""


@runtime_checkable
class ClassAxis(Protocol):
    """Reductions over the class dimension of `[*, K]` tensors.

    A reduction returns the value over all classes, wherever they live; a tensor with a class
    dimension holds the classes of this process alone.

    Attributes:
        first: The first class of this process.
    """

    first: int

    def num_classes(self, x: Tensor) -> int:
        """The number of all classes, of which `x` holds this process's."""

    def most_classes(self, own_count: int) -> int:
        """The number of classes of the process that has most, from that of this process."""

    def amax(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """The maximum over classes, without gradient: a shift."""

    def total(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """Sums over all classes from those over the classes of this process, `[*, 1]`, at once."""

    def sum(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """The sum over classes."""

    def log_softmax(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
        """`x - log sum_k exp(x_k)`; -inf stays -inf."""

    def cross_entropy(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """`log sum_k exp(x_k) - x_t`, in nats; -inf is a class left out."""

    def one_hot(
        self, target: Int[Tensor, "*batch"], x: Float[Tensor, "*batch K"]
    ) -> Bool[Tensor, "*batch K"]:
        """True at the target of each instance."""

    def pick(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """The entry of `x` at the target of each instance."""

    def own(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch 1"]:
        """That entry where the target is a class of this process, else 0: `total` is `pick`."""

    def put(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"], value: Tensor | float
    ) -> Float[Tensor, "*batch K"]:
        """`x` with a value `[*, 1]` at the target, which may be written over `x`; no gradient."""

    def add(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"], value: Tensor
    ) -> Float[Tensor, "*batch K"]:
        """`x` with a value `[*, 1]` added at the target, as `put`."""

    def gather(self, x: Tensor) -> Tensor:
        """`x` of all classes; without gradient where other processes hold some of them."""

    def of_each(self, *tensors: Tensor) -> Sequence[Tensor]:
        """Tensors `[*, C]` as each of P processes has them, `[*, P, C]`; without gradient."""

    def shard(self, x: Tensor) -> Tensor:
        """The classes of this process out of a tensor over all of them: inverse of `gather`."""

    def spread(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors that every process has alike, as they enter what is done with its classes.

        Their gradients are the sums of those of all processes, all at once.
        """

    def local(self, parameter: Tensor) -> Tensor:
        """What this process has of a parameter."""

    def keys(
        self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
    ) -> Int[Tensor, "*batch 2"]:
        """Random numbers `[*shape, 2]`, alike on all processes, of which noise is hashed."""

    def uniforms(self, like: Tensor, generator: torch.Generator | None, num_samples: int) -> Tensor:
        """Noise strictly between 0 and 1, in float32, for the classes of this process.

        Of the shape of `like`, after a leading dimension where there is more than one sample.
        """


class LocalAxis:
    """All classes in the last dimension of one tensor."""

    first = 0

    def num_classes(self, x: Tensor) -> int:
        return x.shape[-1]

    def most_classes(self, own_count: int) -> int:
        return own_count

    def amax(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        return x.detach().amax(-1)

    def total(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        return parts

    def sum(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        return x.sum(-1)

    def log_softmax(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
        return torch.log_softmax(x, -1)

    def cross_entropy(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        if x.ndim == 2:
            return F.cross_entropy(x, target, reduction="none")
        rows, indices = x.reshape(-1, x.shape[-1]), target.reshape(-1)
        return F.cross_entropy(rows, indices, reduction="none").reshape(target.shape)

    def one_hot(
        self, target: Int[Tensor, "*batch"], x: Float[Tensor, "*batch K"]
    ) -> Bool[Tensor, "*batch K"]:
        return target.unsqueeze(-1) == torch.arange(x.shape[-1], device=x.device)

    def pick(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        return x.gather(-1, target.unsqueeze(-1)).squeeze(-1)

    def own(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch 1"]:
        return x.gather(-1, target.unsqueeze(-1))

    def put(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"], value: Tensor | float
    ) -> Float[Tensor, "*batch K"]:
        if torch.compiler.is_compiling():  # which makes it a part of the loop around it
            return torch.where(self.one_hot(target, x), value, x)
        return x.scatter_(-1, target.unsqueeze(-1), value)

    def add(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"], value: Tensor
    ) -> Float[Tensor, "*batch K"]:
        if torch.compiler.is_compiling():
            return x + torch.where(self.one_hot(target, x), value, 0.0)
        return x.scatter_add_(-1, target.unsqueeze(-1), value)

    def gather(self, x: Tensor) -> Tensor:
        return x

    def of_each(self, *tensors: Tensor) -> Sequence[Tensor]:
        return [tensor.unsqueeze(-2) for tensor in tensors]

    def shard(self, x: Tensor) -> Tensor:
        return x

    def spread(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors

    def local(self, parameter: Tensor) -> Tensor:
        return parameter

    def keys(
        self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
    ) -> Int[Tensor, "*batch 2"]:
        return draw_keys(shape, device, generator)

    def uniforms(self, like: Tensor, generator: torch.Generator | None, num_samples: int) -> Tensor:
        shape = like.shape if num_samples == 1 else (num_samples, *like.shape)
        # a generator, even None, would pick an overload that knows no symbolic shapes
        source: dict[str, Any] = {} if generator is None else {"generator": generator}
        drawn: Tensor = torch.rand(shape, dtype=torch.float32, device=like.device, **source)
        return drawn.clamp(_OFF_ZERO, 1.0 - 2.0 * _OFF_ZERO)

    def __repr__(self) -> str:
        return "LOCAL"


LOCAL = LocalAxis()
"""All classes on one device, in the last dimension: the default of every function."""

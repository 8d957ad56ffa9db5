"""A head whose classes are spread over processes, on torch.distributed's own tensors."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle

from dropmax import _check
from dropmax._noise import counted_keys, draw_keys, uniforms, words_of
from dropmax.heads import Head

__all__ = [
    "ClassParallel",
]

WHOLE = ("gate_weight", "gate_scale", "gate_shift")
"""Parameters that have no row for each class, even where they have as many as there are classes."""

REMEMBERED = 4096
"""The last calls, whose random numbers activation checkpointing can have again."""


class ClassParallel(ParallelStyle):
    """Spreads the classes of a head over the processes of a mesh dimension.

    Every parameter with a row for each class becomes a `DTensor` of which each process has the rows
    of its classes, as `torch.chunk` divides them; the others are on all of them. The head is used
    as before, with the same features and targets on every process:

    - `head(features)` gives `Scores` of this process's classes, which are plain tensors, and
      `log_probs` of them is of these classes, too.
    - `loss` and `Criterion` give the same plain tensor everywhere. Class weights, class
      probabilities and noise are passed whole.
    - `predict`, `topk` and `Predictor` give log-probabilities among all classes everywhere, without
      gradient. For `topk` each process sends its k best; the others hold those of all classes.

    Every process makes the same calls in the same order.

    For class indices a loss takes two all-reduces of a few numbers an instance: one of maxima, one
    of sums. `fused_loss` takes these two for each part of the instances. The backward pass takes
    one, of the gradients of the features and of the gate's features of low rank. Other labels,
    several samples, heads for research, `ASSoftmaxHead`, `DropMaxLabelHead` and `DropMaxTiedHead`
    take a few more. `SparsemaxHead` and `SampledSoftmaxHead`
    gather a row of all classes, and so does `ASSoftmaxHead` where a label isn't one class.

    Masks are the same however many processes there are: noise is a hash of the class and of numbers
    that the processes of a group draw alike. Their seed is drawn by the first of them when this
    style is applied, and its rank is added. A generator that is passed has the same state on all of
    them. Activation checkpointing finds the numbers of a loss by a number of the default generator,
    which each loss draws on the CPU.

    `fully_shard` comes afterwards, over another dimension of the mesh. The head is then used within
    the forward pass of a module that `fully_shard` was given, and raises a ValueError elsewhere.

    Raises:
        TypeError: When applied, if the module is no head.
        ValueError: When applied, if the mesh has more than one dimension.

    Examples:
        With a single process, for which `torchrun` would start as many as you have GPUs:

        >>> import torch
        >>> import torch.distributed as dist
        >>> from torch.distributed.device_mesh import init_device_mesh
        >>> from torch.distributed.tensor.parallel import parallelize_module
        >>> import dropmax
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        >>> model = torch.nn.ModuleDict({"head": dropmax.make_head("dropmax", 16, 5)})
        >>> plan = {"head": dropmax.ClassParallel()}
        >>> model = parallelize_module(model, init_device_mesh("cpu", (1,)), plan)
        >>> type(model["head"].weight.data).__name__
        'DTensor'
        >>> scores = model["head"](torch.randn(8, 16))
        >>> model["head"].loss(scores, torch.arange(8) % 5).total.shape
        torch.Size([])
        >>> dist.destroy_process_group()
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        if not isinstance(module, Head):
            remedy = 'name the head in the plan, {"head": dropmax.ClassParallel()} say'
            _check.fail("ClassParallel's module", "be a head", module, remedy, of=Head)
        if device_mesh.ndim != 1:
            must, remedy = "have one dimension", 'pass one of its dimensions, mesh["tp"]'
            _check.fail("ClassParallel's mesh", must, device_mesh, remedy)
        for name, parameter in list(module.named_parameters(recurse=False)):
            of_classes = name not in WHOLE and parameter.shape[:1] == (module.out_features,)
            placements: list[Placement] = [Shard(0) if of_classes else Replicate()]
            spread = distribute_tensor(
                parameter.detach(), device_mesh, placements, src_data_rank=self.src_data_rank
            )
            setattr(module, name, nn.Parameter(spread, requires_grad=parameter.requires_grad))
        device = torch.device(device_mesh.device_type)
        module.axis = ShardedAxis(device_mesh.get_group(), module.out_features, device)
        return module


class ShardedAxis:
    """The classes spread over the processes of a group, as `torch.chunk` divides them.

    Args:
        group: The processes, each with a part of the classes.
        num_classes: The number of all classes.
        device: Where the noise is drawn.
    """

    def __init__(self, group: dist.ProcessGroup, num_classes: int, device: torch.device) -> None:
        self.group = group
        self.count = num_classes
        size, rank = dist.get_world_size(group), dist.get_rank(group)
        self.each = -(-num_classes // size)
        self.first = min(rank * self.each, num_classes)
        self.own_count = min(self.each, num_classes - self.first)
        self.stream = _Stream(_common_seed(group, device), device)

    def num_classes(self, x: Tensor) -> int:  # noqa: ARG002
        return self.count

    def most_classes(self, own_count: int) -> int:  # noqa: ARG002
        return self.each

    def amax(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        x = x.detach()
        largest = x.amax(-1) if x.shape[-1] else x.new_full(x.shape[:-1], -torch.inf)
        dist.all_reduce(largest, dist.ReduceOp.MAX, self.group)
        return largest

    def total(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.split(self._summed(torch.cat(list(parts), -1)), 1, -1)

    def sum(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        return self._summed(x.sum(-1))

    def _summed(self, x: Tensor) -> Tensor:
        found: Tensor = _Summed.apply(x, self.group)  # type: ignore[no-untyped-call]
        return found

    def spread(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        learned = [tensor for tensor in tensors if tensor.requires_grad]
        if not learned:
            return tensors
        found = iter(_Spread.apply(self.group, *learned))  # type: ignore[no-untyped-call]
        return tuple(next(found) if tensor.requires_grad else tensor for tensor in tensors)

    def log_softmax(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
        shifted = x - self._shift(x)
        (total,) = self.spread(self.sum(shifted.exp()).unsqueeze(-1))
        return shifted - total.log()

    def _shift(self, x: Tensor) -> Tensor:
        """The maximum `[*, 1]`, finite even where all are -inf."""
        return self.amax(x).clamp(min=torch.finfo(x.dtype).min).unsqueeze(-1)

    def cross_entropy(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        shifted = x - self._shift(x)
        sum_of_exps = shifted.exp().sum(-1, keepdim=True)
        of_all, of_target = self.total([sum_of_exps, self.own(shifted, target)])
        return (of_all.log() - of_target).squeeze(-1)

    def one_hot(
        self, target: Int[Tensor, "*batch"], x: Float[Tensor, "*batch K"]
    ) -> Bool[Tensor, "*batch K"]:
        own = torch.arange(self.first, self.first + x.shape[-1], device=x.device)
        return target.unsqueeze(-1) == own

    def pick(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        return self._summed(self.own(x, target).squeeze(-1))

    def own(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch 1"]:
        if not self.own_count:
            return x.sum(-1, keepdim=True)
        place, is_own = self._place(target)
        return torch.where(is_own, x.gather(-1, place), 0.0)

    def put(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"], value: Tensor | float
    ) -> Float[Tensor, "*batch K"]:
        if torch.compiler.is_compiling() or not self.own_count:
            return torch.where(self.one_hot(target, x), value, x)
        place, is_own = self._place(target)
        return x.scatter_(-1, place, torch.where(is_own, value, x.gather(-1, place)))

    def add(
        self, x: Float[Tensor, "*batch K"], target: Int[Tensor, "*batch"], value: Tensor
    ) -> Float[Tensor, "*batch K"]:
        if torch.compiler.is_compiling() or not self.own_count:
            return x + torch.where(self.one_hot(target, x), value, 0.0)
        place, is_own = self._place(target)
        return x.scatter_add_(-1, place, torch.where(is_own, value, 0.0))

    def _place(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Where the target stands among the classes of this process, and whether it does."""
        place = target.unsqueeze(-1) - self.first
        is_own = (place >= 0) & (place < self.own_count)
        return place.clamp(0, self.own_count - 1), is_own

    def gather(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, (0, self.each - x.shape[-1]))
        return self._of_each(padded).flatten(-2)[..., : self.count]

    def of_each(self, *tensors: Tensor) -> Sequence[Tensor]:
        packed = torch.cat([tensor.double() for tensor in tensors], -1)  # holds integers, too
        parts = torch.split(self._of_each(packed), [tensor.shape[-1] for tensor in tensors], -1)
        return [part.to(tensor.dtype) for part, tensor in zip(parts, tensors, strict=True)]

    def _of_each(self, x: Tensor) -> Tensor:
        """`x` of every process `[*, P, C]`."""
        x = x.detach().contiguous()
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(parts, x, self.group)
        return torch.stack(parts, -2)

    def shard(self, x: Tensor) -> Tensor:
        return x[..., self.first : self.first + self.own_count]

    def local(self, parameter: Tensor) -> Tensor:
        if not isinstance(parameter, DTensor):
            return parameter
        if parameter.device_mesh.ndim > 1:  # as fully_shard has it outside of its forward pass
            remedy = "use the head within the forward of the module that fully_shard was given"
            got = _check.Verbatim("a shard of them")
            _check.fail("the head's parameters", "be all of this process's classes", got, remedy)
        return parameter.to_local()

    def keys(
        self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
    ) -> Int[Tensor, "*batch 2"]:
        if generator is not None:
            return draw_keys(shape, device, generator)
        keys: Tensor = self.stream.keys(shape)
        return keys

    def uniforms(self, like: Tensor, generator: torch.Generator | None, num_samples: int) -> Tensor:
        shape = like.shape[:-1] if num_samples == 1 else (num_samples, *like.shape[:-1])
        keys = self.keys(shape, like.device, generator)
        return uniforms(keys, self.own_count, torch.float32, self.first)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ShardedAxis":
        """That of a copy of the head: the same processes, and masks that go on from the same."""
        twin = copy.copy(self)
        twin.stream = copy.deepcopy(self.stream, memo)
        return twin

    def __repr__(self) -> str:
        return f"{self.own_count} classes of {self.count}, from {self.first} on"


class _Stream:
    """Random numbers that are alike wherever the seed is, and as many calls have been made.

    A call that activation checkpointing repeats gives what it gave at first. It is known by a
    number of torch's default generator, whose state is then restored. Compiled code leaves a call
    out of its graph, which would not notice that it is repeated.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = words_of(seed, device)
        self.count = torch.zeros((), dtype=torch.int32, device=device)
        self.counts: dict[int, Tensor] = {}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def keys(self, shape: tuple[int, ...]) -> Int[Tensor, "*batch 2"]:
        token = int(torch.randint(2**62, (), device="cpu"))
        if torch._C._current_graph_task_id() == -1:
            self.count.add_(1)
            self.counts[token] = self.count.clone()
            if len(self.counts) > REMEMBERED:
                del self.counts[next(iter(self.counts))]
        elif token not in self.counts:
            must = "be that of the forward pass where activation checkpointing repeats it"
            remedy = "leave preserve_rng_state on, or pass noise"
            got = _check.Verbatim("another one")
            _check.fail("the state of the random number generator", must, got, remedy)
        return counted_keys(shape, self.seed, self.counts[token])


def _common_seed(group: dist.ProcessGroup, device: torch.device) -> int:
    """What the group's first process draws from torch's default generator, plus its rank of all."""
    first = dist.get_global_rank(group, 0)
    seed = (int(torch.randint(2**62, (), device="cpu")) + dist.get_rank()) % 2**62
    found = torch.tensor(seed, dtype=torch.int64, device=device)
    dist.broadcast(found, first, group)
    return int(found)


class _Summed(torch.autograd.Function):
    """The sum over processes of what each has; what follows is the same on all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:  # noqa: ARG004
        total = x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return upstream, None


class _Spread(torch.autograd.Function):
    """What is the same on all processes enters what each does; the inverse of `_Summed`."""

    @staticmethod
    def forward(ctx: Any, group: dist.ProcessGroup, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.group = group
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        widths = [gradient.shape[-1] for gradient in upstream]
        total = torch.cat(upstream, -1)
        dist.all_reduce(total, group=ctx.group)
        return None, *torch.split(total, widths, -1)

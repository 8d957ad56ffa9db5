"""The k most probable classes, found a few classes at a time."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dropmax._check import at_least_float32
from dropmax.axis import ClassAxis

ON_CPU, ON_GPU = 2**20, 2**24
"""So many scores of a map are held at a time, about."""


class TopK(NamedTuple):
    """The k most probable classes of each instance, the most probable first, as of `torch.topk`.

    Attributes:
        values: Log-probabilities `[*, k]` in nats.
        indices: Class indices `[*, k]`.
    """

    values: Tensor
    indices: Tensor


def merged(values: Float[Tensor, "*batch C"], indices: Int[Tensor, "*batch C"], k: int) -> TopK:
    """The k largest of C candidates, or all of them if there are fewer, in descending order."""
    values, places = values.topk(min(k, values.shape[-1]))
    return TopK(values, indices.gather(-1, places))


def classes_at_once(num_instances: int, k: int, device: torch.device) -> int:
    """The classes of a chunk: k at least, so that no more candidates than scores are merged."""
    scores = ON_CPU if device.type == "cpu" else ON_GPU
    return max(k, scores // max(1, num_instances))


def _present(values: Tensor, indices: Tensor, k: int) -> TopK:
    """`merged` of those whose index is not -1, even where all the others are -inf."""
    lowest = torch.finfo(values.dtype).min
    ranks = values.clamp(min=lowest).masked_fill(indices < 0, -math.inf)
    places = ranks.topk(k).indices
    return merged(values.gather(-1, places), indices.gather(-1, places), k)


def top_of(
    logits_of: Callable[[slice], Tensor],
    none: Float[Tensor, "*batch 0"],
    own_count: int,
    k: int,
    axis: ClassAxis,
) -> TopK:
    """The k largest entries of `log_softmax(logits)` over all classes.

    Args:
        logits_of: The logits `[*, c]` of a slice of this process's classes, float32 at least.
        none: The scores of no class, in the dtype of the log-probabilities.
        own_count: The number of classes of this process.
        k: How many of all classes are sought.
        axis: Where the classes live, of which the k best of each process are compared.
    """
    values, indices = at_least_float32(none), none.long()
    lowest = torch.finfo(values.dtype).min
    largest = values.new_full((*none.shape[:-1], 1), lowest)
    total = torch.zeros_like(largest)  # of exp(logits - largest)
    size = classes_at_once(largest.numel(), k, none.device)
    for start in range(0, own_count, size):
        classes = slice(start, min(start + size, own_count))
        logits = logits_of(classes)
        own = torch.arange(classes.start, classes.stop, device=none.device).expand_as(logits)
        found = merged(logits, own, k)
        values = torch.cat([values, found.values], -1)
        values, indices = merged(values, torch.cat([indices, found.indices], -1), k)
        highest = values[..., :1].clamp(min=lowest)
        total = total * (largest - highest).exp() + (logits - highest).exp().sum(-1, keepdim=True)
        largest = highest
    absent = (0, min(k, axis.most_classes(own_count)) - values.shape[-1])
    values, indices = F.pad(values, absent), F.pad(indices + axis.first, absent, value=-1)
    values, indices, largest, total = axis.of_each(values, indices, largest, total)
    values, indices = _present(values.flatten(-2), indices.flatten(-2), k)
    highest = largest.amax(-2)
    total = (total * (largest - highest.unsqueeze(-2)).exp()).sum(-2)
    return TopK((values - highest - total.log()).to(none.dtype), indices)

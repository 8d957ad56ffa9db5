"""Which classes a classifier takes for one another."""

from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from dropmax import _check


class Confusion(NamedTuple):
    """Two classes, and how often each is taken for the other.

    Attributes:
        first: The class that is taken for the other at least as often as the other way round.
        second: The other.
        forth: How many instances of the first are taken for the second.
        back: How many of the second are taken for the first.
    """

    first: int
    second: int
    forth: int
    back: int

    @property
    def total(self) -> int:
        """Both ways."""
        return self.forth + self.back


def confusions(answer: Int[Tensor, " N"], target: Int[Tensor, " N"]) -> list[Confusion]:
    """The pairs of classes that are confused, the most often confused first.

    Only pairs that occur take memory, however many classes there are.

    Args:
        answer: The classes that a classifier names `[N]`.
        target: The classes that the instances are of `[N]`.

    Raises:
        ValueError: If the shapes differ.

    Examples:
        >>> import torch
        >>> from dropmax.analysis import confusions
        >>> confusions(torch.tensor([1, 1, 0, 2]), torch.tensor([0, 0, 1, 2]))
        [Confusion(first=0, second=1, forth=2, back=1)]
    """
    if answer.shape != target.shape:
        remedy = "pass an answer for each instance"
        _check.fail("answer", f"have the shape of the target, {[*target.shape]}", answer, remedy)
    wrong = answer != target
    counts: dict[tuple[int, int], int] = {}
    for pair in zip(target[wrong].tolist(), answer[wrong].tolist(), strict=True):
        counts[pair] = counts.get(pair, 0) + 1
    found = []
    for first, second in {(min(pair), max(pair)) for pair in counts}:
        forth, back = counts.get((first, second), 0), counts.get((second, first), 0)
        found.append(
            Confusion(first, second, forth, back)
            if forth >= back
            else Confusion(second, first, back, forth)
        )
    return sorted(found, key=lambda one: (-one.total, -one.forth, one.first, one.second))

"""How each class fares: its rows, errors, precision and recall, and what it is confused with."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dropmax.analysis import Confusion

FEW = 10
"""A class with fewer rows is marked: its numbers say little."""


class ClassCount(NamedTuple):
    """A class and its rows.

    Attributes:
        number: Of the class, its index.
        rows: With this label.
        answered: For which it is the answer.
        right: Both.
        rival: The class it is confused with most, either way; None if with none.
    """

    number: int
    rows: int
    answered: int
    right: int
    rival: int | None

    @property
    def wrong(self) -> int:
        """The rows of the class with another answer."""
        return self.rows - self.right

    @property
    def recall(self) -> float | None:
        """The share of its rows that is answered so, in percent; None without a row."""
        return 100.0 * self.right / self.rows if self.rows else None

    @property
    def precision(self) -> float | None:
        """The share of such answers that is right, in percent; None without an answer."""
        return 100.0 * self.right / self.answered if self.answered else None


def class_counts(
    answer: Tensor, target: Tensor, num_classes: int, pairs: Sequence[Confusion]
) -> list[ClassCount]:
    """Each class, in the order of the indices."""
    rivals: dict[int, int] = {}
    for pair in pairs:  # the most often confused first
        rivals.setdefault(pair.first, pair.second)
        rivals.setdefault(pair.second, pair.first)
    rows, answered, right = (
        classes.bincount(minlength=num_classes).tolist()
        for classes in (target, answer, target[answer == target])
    )
    return [
        ClassCount(k, rows[k], answered[k], right[k], rivals.get(k)) for k in range(num_classes)
    ]


def matrix_classes(pairs: Sequence[Confusion], most: int) -> list[int]:
    """The classes that are confused most, those next to one another that are confused often.

    By average linkage of how often they are confused, as leaves of the tree.
    """
    totals: dict[int, int] = {}
    for pair in pairs:
        for k in (pair.first, pair.second):
            totals[k] = totals.get(k, 0) + pair.total
    chosen = sorted(sorted(totals, key=lambda k: (-totals[k], k))[:most])
    if len(chosen) < 3:
        return chosen
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    place = {k: n for n, k in enumerate(chosen)}
    often = torch.zeros(len(chosen), len(chosen), dtype=torch.float64)
    for pair in pairs:
        if pair.first in place and pair.second in place:
            first, second = place[pair.first], place[pair.second]
            often[first, second] = often[second, first] = pair.total
    distance = 1.0 / (1.0 + often)
    distance.fill_diagonal_(0.0)
    tree = linkage(squareform(distance.numpy()), "average", optimal_ordering=True)
    return [chosen[n] for n in leaves_list(tree)]

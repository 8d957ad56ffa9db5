"""Which rows train, validate and test, drawn by a hash of what they hold, whatever their order."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from dropmax.data.labeled import LabeledData

SPLITS = ("train", "validation", "test")
NAMED = {**{name: name for name in SPLITS}, "val": "validation", "valid": "validation"}
"""The splits by what folders and files of them are called, in any case."""
FILES, DRAWN = "from the files", "drawn by a hash of the content"
"""Where a split comes from."""
FEWEST = 5
"""A class of fewer rows gives none to validation."""


class Splits(NamedTuple):
    """What one run trains, selects and is judged on; `validation` and `test` may be empty."""

    train: LabeledData
    validation: LabeledData
    test: LabeledData


def split_of(name: str) -> str | None:
    """The split that a folder or a file is of, if it is named exactly so."""
    return NAMED.get(name.lower())


def by_class(split: LabeledData, num_classes: int, seed: int) -> list[list[int]]:
    """For each class its rows, in the order of the hash of the seed and of texts or pixels."""
    hashes = split.hashes(seed)
    rows: list[list[int]] = [[] for _ in range(num_classes)]
    for n in sorted(range(len(hashes)), key=hashes.__getitem__):
        rows[int(split.target[n])].append(n)
    return rows


def halves(whole: LabeledData, num_classes: int) -> tuple[list[int], list[int]]:
    """The rows of two halves of each class: the rule of the studies."""
    drawn = by_class(whole, num_classes, seed=0)
    first = [n for rows in drawn for n in rows[: len(rows) // 2]]
    second = [n for rows in drawn for n in rows[len(rows) // 2 :]]
    return first, second


def apart(
    whole: LabeledData, num_classes: int, fraction: float, seed: int, *, fewest: int = 2
) -> tuple[list[int], list[int]]:
    """The rows that are left, and those of a fraction of each class: one at least, and never all.

    Equal images and equal texts stay on one side, and count for the lowest of their classes. A
    class of fewer rows than `fewest` gives none.
    """
    keys = [hashlib.sha256(f"{seed}:".encode() + key).digest() for key in whole.plain_keys]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    equal = groupby(order, keys.__getitem__) if whole.together else ((n, [n]) for n in order)
    classes = whole.target.tolist()
    groups: list[list[list[int]]] = [[] for _ in range(num_classes)]
    for _, group in equal:
        rows = list(group)
        groups[min(classes[n] for n in rows)].append(rows)
    left: list[int] = []
    taken: list[int] = []
    for of_class in groups:
        chosen = _filling(of_class, fraction, fewest)
        for n, rows in enumerate(of_class):
            (taken if n in chosen else left).extend(rows)
    return left, taken


def folds(whole: LabeledData, num_classes: int, count: int, seed: int) -> list[list[int]]:
    """The rows of folds, each with about as many of each class; equal images and texts are in one.

    A class of which a fold would leave nothing to train on is in no fold.
    """
    left = list(range(len(whole)))
    found = []
    for parts in range(count, 1, -1):
        rest, taken = apart(whole.rows(left), num_classes, 1.0 / parts, seed)
        found.append([left[n] for n in taken])
        left = [left[n] for n in rest]
    found.append(left)
    target = whole.target.tolist()
    totals = Counter(target)
    for fold in found:
        here = Counter(target[n] for n in fold)
        fold[:] = [n for n in fold if here[target[n]] < totals[target[n]]]
    return found


def _filling(groups: Sequence[Sequence[int]], fraction: float, fewest: int) -> set[int]:
    """The first groups that together hold a fraction of all rows; the smallest if none is so small.

    One group at least is left.
    """
    count = sum(map(len, groups))
    if fraction == 0.0 or count < fewest or len(groups) < 2:
        return set()
    goal = min(max(1, round(fraction * count)), count - 1)
    chosen: set[int] = set()
    for n, rows in enumerate(groups):
        if len(rows) <= goal:
            chosen.add(n)
            goal -= len(rows)
    return chosen or {min(range(len(groups)), key=lambda n: len(groups[n]))}


def in_both(train: LabeledData, test: LabeledData) -> int:
    """How many test rows equal a training row."""
    known = set(train.plain_keys)
    return sum(key in known for key in test.plain_keys)


def contradicting(splits: Splits) -> list[str]:
    """The split and the id of instances that equal one of another class."""
    rows = [
        (key, k, f"{name} {row}")
        for name, part in splits._asdict().items()
        for key, k, row in zip(part.plain_keys, part.target.tolist(), part.ids, strict=True)
    ]
    classes: dict[bytes, set[int]] = defaultdict(set)
    for key, k, _ in rows:
        classes[key].add(k)
    return [name for key, _, name in rows if len(classes[key]) > 1]

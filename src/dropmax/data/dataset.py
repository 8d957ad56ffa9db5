"""Labeled instances as tensors, a data set of them, and what one run takes from it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dropmax import _check
from dropmax.data.corruption import corrupted


@dataclass(frozen=True)
class LabeledData:
    """Instances and their classes.

    Attributes:
        inputs: Images `[N, C, H, W]`, uint8, C = 1 or 3; or rows float32 `[N, D]`: numbers, or
            embeddings of texts.
        target: Class indices `[N]`.
        ids: What each instance is called where it came from: its file, or its row, from 0.
        notes: What was left out of the split it is of, and why.
        texts: Of which the inputs are embeddings; none for images and numbers.
    """

    inputs: Tensor
    target: Tensor
    ids: tuple[str, ...]
    notes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.target)

    def rows(self, rows: Iterable[int]) -> "LabeledData":
        """Some of the instances, in that order."""
        rows = list(rows)
        chosen = torch.tensor(rows, dtype=torch.int64)
        return replace(
            self,
            inputs=self.inputs[chosen],
            target=self.target[chosen],
            ids=tuple(self.ids[n] for n in rows),
            texts=tuple(self.texts[n] for n in rows) if self.texts else (),
        )


class Splits(NamedTuple):
    """What one run trains, selects and is judged on; `validation` may be empty."""

    train: LabeledData
    validation: LabeledData
    test: LabeledData


@dataclass(frozen=True)
class DataSet:
    """A whole data set, decoded.

    Attributes:
        name: As it was asked for.
        train: Every training instance.
        test: Every test instance.
        class_names: The name of each class index.
        columns: Of a table the columns that its rows are of; none for images.
    """

    name: str
    train: LabeledData
    test: LabeledData
    class_names: tuple[str, ...]
    columns: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, or (D,) of a row of numbers."""
        return tuple(self.train.inputs.shape[1:])

    def draw(
        self, *, train_per_class: int | None = None, validation_per_class: int = 0, seed: int = 0
    ) -> Splits:
        """Take a number of instances of each class to train and to validate on.

        An image's place in the draw is a hash of the seed and of its pixels, that of an embedding
        a hash of the seed and of its text: it depends neither on the order of the rows nor on how
        they were stored, nor on the encoder.

        Args:
            train_per_class: Instances of each class to train on; None takes all that are left.
            validation_per_class: Instances of each class to validate on, out of the training split.
            seed: Of the draw.

        Raises:
            ValueError: If a class has too few instances.

        Examples:
            >>> from dropmax.data import load_data
            >>> splits = load_data("digits").draw(train_per_class=10, seed=1)
            >>> splits.train.inputs.shape
            torch.Size([100, 1, 8, 8])
        """
        if train_per_class is not None:
            _check.integer("train_per_class", train_per_class, low=1)
        _check.integer("validation_per_class", validation_per_class, low=0)
        _check.integer("seed", seed, low=0)
        by_class = drawn(self.train, len(self.class_names), seed)
        needed = validation_per_class + (train_per_class or 1)
        fewest, scarce = min((len(rows), k) for k, rows in enumerate(by_class))
        if fewest == 0:
            got = _check.Verbatim(f"none of class {self.class_names[scarce]!r}")
            must = "hold every class, which takes two rows of it where there is no test split"
            _check.fail(f"training rows of {self.name}", must, got, "add or remove rows")
        if fewest < needed:
            argument = f"train_per_class + validation_per_class of {self.name}"
            must = f"be at most {fewest}, the training rows of class {self.class_names[scarce]!r}"
            _check.fail(argument, must, needed, "ask for fewer")
        end = None if train_per_class is None else needed
        train = [n for rows in by_class for n in rows[validation_per_class:end]]
        validation = [n for rows in by_class for n in rows[:validation_per_class]]
        return Splits(self.train.rows(train), self.train.rows(validation), self.test)

    def corrupted(self, name: str, *, seed: int = 0) -> "DataSet":
        """The same data set with its training and its test images corrupted.

        Args:
            name: One of `dropmax.data.CORRUPTIONS`.
            seed: Of what is drawn for the images.

        Raises:
            ValueError: If there is no such corruption, or the images are RGB.
        """
        train, test = (
            replace(split, inputs=corrupted(split.inputs, name, seed=seed))
            for split in (self.train, self.test)
        )
        return replace(self, train=train, test=test)

    def of_classes(self, num_classes: int, *, seed: int = 0) -> "DataSet":
        """The part of the data set that is of some of its classes, numbered anew in their order.

        The classes taken are the first by a hash of the seed and of their names: at one seed, a
        few are among those of more.

        Args:
            num_classes: How many classes, from 2 to all of them.
            seed: Of the draw.

        Raises:
            ValueError: If the data set does not have so many classes, or they are fewer than 2.

        Examples:
            >>> from dropmax.data import load_data
            >>> load_data("digits").of_classes(3, seed=1).class_names
            ('4', '7', '8')
        """
        _check.integer("num_classes", num_classes, low=2)
        _check.integer("seed", seed, low=0)
        if num_classes > len(self.class_names):
            must = f"be at most {len(self.class_names)}, the classes of {self.name}"
            _check.fail("num_classes", must, num_classes, "ask for fewer classes")
        keys = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in self.class_names]
        chosen = sorted(sorted(range(len(keys)), key=keys.__getitem__)[:num_classes])
        names = tuple(self.class_names[k] for k in chosen)
        index = torch.full((len(keys),), -1)
        index[chosen] = torch.arange(num_classes)
        train, test = (
            kept.rows(torch.nonzero(kept.target >= 0).flatten().tolist())
            for kept in (
                replace(split, target=index[split.target]) for split in (self.train, self.test)
            )
        )
        return replace(self, train=train, test=test, class_names=names)


def drawn(split: LabeledData, num_classes: int, seed: int) -> list[list[int]]:
    """For each class its rows, in the order of the hash of the seed and of texts or pixels."""
    texts = split.texts
    pixels = split.inputs.numpy()
    kind = "text" if texts else "x".join(map(str, pixels.shape[1:]))
    contents = (text.encode() for text in texts) if texts else (image.tobytes() for image in pixels)
    prefix = f"{seed}:{kind}:".encode()
    keys = [hashlib.sha256(prefix + content).digest() for content in contents]
    assert len(keys) == len(split.target)
    rows: list[list[int]] = [[] for _ in range(num_classes)]
    for n in sorted(range(len(keys)), key=keys.__getitem__):
        rows[int(split.target[n])].append(n)
    return rows


def halves(whole: LabeledData, num_classes: int) -> tuple[LabeledData, LabeledData]:
    """Two halves of each class, by the hash of texts or pixels."""
    by_class = drawn(whole, num_classes, seed=0)
    first = [n for rows in by_class for n in rows[: len(rows) // 2]]
    second = [n for rows in by_class for n in rows[len(rows) // 2 :]]
    return whole.rows(first), whole.rows(second)

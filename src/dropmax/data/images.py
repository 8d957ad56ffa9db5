"""A data set of labeled images as tensors, and what one experiment takes from it."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dropmax import _check
from dropmax.corruption import corrupted


class Split(NamedTuple):
    """Images `[N, C, H, W]`, uint8, C = 1 or 3, with their class indices `[N]`.

    Rows of numbers such as embeddings, float32 `[N, D]`, stand in the place of images.
    """

    images: Tensor
    target: Tensor


class Splits(NamedTuple):
    """What one experiment trains, selects and is judged on; `validation` may be empty."""

    train: Split
    validation: Split
    test: Split


@dataclass(frozen=True)
class Images:
    """A whole data set, decoded.

    Attributes:
        name: As it was asked for.
        train: Every training image.
        test: Every test image.
        class_names: The name of each class index.
        train_texts: The training texts where `train` is embeddings of them, else empty.
        columns: Where rows of a table stand in the place of images, the columns that they are of.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    train_texts: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, or (D,) of a row of numbers."""
        return tuple(self.train.images.shape[1:])

    def draw(
        self, *, train_per_class: int | None = None, validation_per_class: int = 0, seed: int = 0
    ) -> Splits:
        """Take a number of images of each class to train and to validate on.

        An image's place in the draw is a hash of the seed and of its pixels, that of an embedding
        a hash of the seed and of its text: it depends neither on the order of the rows nor on how
        they were stored, nor on the encoder.

        Args:
            train_per_class: Images of each class to train on; None takes all that are left.
            validation_per_class: Images of each class, out of the training split, to validate on.
            seed: Of the draw.

        Raises:
            ValueError: If a class has too few images.

        Examples:
            >>> from dropmax.data import load_images
            >>> splits = load_images("digits").draw(train_per_class=10, seed=1)
            >>> splits.train.images.shape
            torch.Size([100, 1, 8, 8])
        """
        if train_per_class is not None:
            _check.integer("train_per_class", train_per_class, low=1)
        _check.integer("validation_per_class", validation_per_class, low=0)
        _check.integer("seed", seed, low=0)
        by_class = drawn(self.train, self.train_texts, len(self.class_names), seed)
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
        return Splits(rows_of(self.train, train), rows_of(self.train, validation), self.test)

    def corrupted(self, name: str, *, seed: int = 0) -> "Images":
        """The same data set with its training and its test images corrupted.

        Args:
            name: One of `dropmax.corruption.CORRUPTIONS`.
            seed: Of what is drawn for the images.

        Raises:
            ValueError: If there is no such corruption, or the images are RGB.
        """
        train, test = (
            split._replace(images=corrupted(split.images, name, seed=seed))
            for split in (self.train, self.test)
        )
        return replace(self, train=train, test=test)

    def of_classes(self, num_classes: int, *, seed: int = 0) -> "Images":
        """The part of the data set that is of some of its classes, numbered anew in their order.

        The classes taken are the first by a hash of the seed and of their names: at one seed, a
        few are among those of more.

        Args:
            num_classes: How many classes, from 2 to all of them.
            seed: Of the draw.

        Raises:
            ValueError: If the data set does not have so many classes, or they are fewer than 2.

        Examples:
            >>> from dropmax.data import load_images
            >>> load_images("digits").of_classes(3, seed=1).class_names
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
        renumbered = [
            split._replace(target=index[split.target]) for split in (self.train, self.test)
        ]
        train, test = (
            Split(images[target >= 0], target[target >= 0]) for images, target in renumbered
        )
        kept = (index[self.train.target] >= 0).tolist()
        texts = tuple(itertools.compress(self.train_texts, kept))
        return replace(self, train=train, test=test, class_names=names, train_texts=texts)


def drawn(split: Split, texts: Sequence[str], num_classes: int, seed: int) -> list[list[int]]:
    """For each class its rows, in the order of the hash of the seed and of texts or pixels."""
    pixels = split.images.numpy()
    kind = "text" if texts else "x".join(map(str, pixels.shape[1:]))
    contents = (text.encode() for text in texts) if texts else (image.tobytes() for image in pixels)
    prefix = f"{seed}:{kind}:".encode()
    keys = [hashlib.sha256(prefix + content).digest() for content in contents]
    assert len(keys) == len(split.target)
    rows: list[list[int]] = [[] for _ in range(num_classes)]
    for n in sorted(range(len(keys)), key=keys.__getitem__):
        rows[int(split.target[n])].append(n)
    return rows


def rows_of(split: Split, rows: Iterable[int]) -> Split:
    """Some rows of a split."""
    chosen = torch.tensor(list(rows), dtype=torch.int64)
    return Split(split.images[chosen], split.target[chosen])


def halves(
    split: Split, num_classes: int, texts: Sequence[str] = ()
) -> tuple[list[int], list[int]]:
    """The rows of two halves of each class, by the hash of texts or pixels."""
    by_class = drawn(split, texts, num_classes, seed=0)
    first = [n for rows in by_class for n in rows[: len(rows) // 2]]
    second = [n for rows in by_class for n in rows[len(rows) // 2 :]]
    return first, second

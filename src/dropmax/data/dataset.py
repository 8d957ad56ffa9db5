"""A data set of labeled instances, and what one run takes from it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from dropmax import _check
from dropmax.data.corruption import corrupted
from dropmax.data.labeled import LabeledData, some
from dropmax.data.record import Record
from dropmax.data.splits import (
    DRAWN,
    FEWEST,
    FILES,
    Splits,
    apart,
    by_class,
    contradicting,
    in_both,
)


@dataclass(frozen=True)
class DataSet:
    """A whole data set, decoded.

    Attributes:
        name: As it was asked for.
        train: Every training instance.
        validation: Every instance that the files keep for validation; often none.
        test: Every test instance.
        class_names: The name of each class index.
        columns: Of a table the columns that its rows are of; none for images.
        record: What was fitted to the columns of a table; None for images and texts.
        origin: By split where it comes from: "files", or how it was drawn.
        unused: The files of the folder that nothing was read of.
        size: To which the shorter side of each picture was resized before its center was taken;
            None where nothing was.
        digest: A hash of the rows, their classes and splits, in whatever order they are stored.
    """

    name: str
    train: LabeledData
    validation: LabeledData
    test: LabeledData
    class_names: tuple[str, ...]
    columns: tuple[str, ...] = ()
    record: Record | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    size: int | None = None
    digest: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, or (D,) of a row of numbers."""
        return tuple(self.train.inputs.shape[1:])

    def draw(
        self,
        *,
        train_per_class: int | None = None,
        validation_per_class: int = 0,
        validation_fraction: float = 0.0,
        seed: int = 0,
    ) -> Splits:
        """Take a number of instances of each class to train and to validate on.

        If the files keep instances for validation, these validate.

        An image's place in the draw is a hash of the seed and of its pixels. That of an embedding
        is a hash of the seed and of its text. It depends neither on the order of the rows nor on
        how they were stored, nor on the encoder.

        Args:
            train_per_class: Instances of each class to train on; None takes all that are left.
            validation_per_class: Instances of each class to validate on, out of the training split.
            validation_fraction: In place of a number, a fraction of each class, in [0, 1): one
                instance at least, none of a class of fewer than five. Equal images and equal
                texts stay on one side.
            seed: Of the draw.

        Raises:
            ValueError: If a class has too few instances, or there is more than one rule for
                validation.

        Examples:
            >>> from dropmax.data import load_data
            >>> splits = load_data("digits").draw(train_per_class=10, seed=1)
            >>> splits.train.inputs.shape
            torch.Size([100, 1, 8, 8])
        """
        if train_per_class is not None:
            _check.integer("train_per_class", train_per_class, low=1)
        _check.integer("validation_per_class", validation_per_class, low=0)
        _check.number("validation_fraction", validation_fraction, low=0.0, high=1.0, open_high=True)
        _check.integer("seed", seed, low=0)
        if validation_fraction and validation_per_class:
            must = "be 0 where validation_per_class says how many validate"
            _check.fail("validation_fraction", must, validation_fraction, "leave one out")
        for argument, given in (
            ("validation_per_class", validation_per_class),
            ("validation_fraction", validation_fraction),
        ):
            if given and len(self.validation):
                must = "be 0 where a split of the files validates"
                _check.fail(argument, must, given, "leave it out")
        num_classes = len(self.class_names)
        pool, validation = apart(self.train, num_classes, validation_fraction, seed, fewest=FEWEST)
        pool = sorted(pool)
        drawn = by_class(self.train.rows(pool), num_classes, seed)
        needed = validation_per_class + (train_per_class or 1)
        fewest, scarce = min((len(rows), k) for k, rows in enumerate(drawn))
        if fewest == 0:
            got = _check.Verbatim(f"none of class {self.class_names[scarce]!r}")
            must = "hold every class, which takes two rows of it where there is no test split"
            _check.fail(f"training rows of {self.name}", must, got, "add or remove rows")
        if fewest < needed:
            argument = f"train_per_class + validation_per_class of {self.name}"
            must = f"be at most {fewest}, the training rows of class {self.class_names[scarce]!r}"
            _check.fail(argument, must, needed, "ask for fewer")
        end = None if train_per_class is None else needed
        train = [pool[n] for rows in drawn for n in rows[validation_per_class:end]]
        validation += [pool[n] for rows in drawn for n in rows[:validation_per_class]]
        kept = self.validation if len(self.validation) else self.train.rows(validation)
        return Splits(self.train.rows(train), kept, self.test)

    def described(self, splits: Splits) -> str:
        """How many instances train, validate and test, where they come from, and which are equal.

        Test rows that equal a training row are counted where we did not draw the split, and in a
        table. Equal instances of different classes are named, and classes that nothing judges.
        """
        validated = FILES if len(self.validation) else DRAWN
        origins = {"train": FILES, "validation": validated, "test": FILES, **self.origin}
        named = zip(("train", "validate", "test"), splits._asdict().items(), strict=True)
        counts = [
            f"{len(split):,} {does} ({origins[name]})"
            for does, (name, split) in named
            if len(split)
        ]
        said = [f"{self.name}: {', '.join(counts)}"]
        if not len(splits.test):
            said.append("Nothing judges the run, as there are no test rows")
        for name, split in (("test", splits.test), ("validation", splits.validation)):
            absent = sorted(set(range(len(self.class_names))) - set(split.target.tolist()))
            if len(split) and absent:
                classes = some([self.class_names[k] for k in absent])
                said.append(f"Classes without a row for {name}: {len(absent)} ({classes})")
        for one, name, other in (
            ("train", "test", splits.test),
            ("train", "validation", splits.validation),
            ("validation", "test", splits.test),
        ):
            equal = in_both(getattr(splits, one), other)
            parted = one == "train" and origins[name] == DRAWN and self.train.together
            if equal and not parted:
                said.append(f"Rows for {name} that equal one for {one}: {equal}")
        if contrary := contradicting(splits):
            said.append(f"{len(contrary)} rows equal one of another class: {some(contrary)}")
        return ". ".join(said) + "."

    def corrupted(self, name: str, *, seed: int = 0) -> "DataSet":
        """The same data set with its images corrupted.

        Args:
            name: One of `dropmax.data.CORRUPTIONS`.
            seed: Of what is drawn for the images.

        Raises:
            ValueError: If there is no such corruption, or the images are RGB.
        """
        change = partial(corrupted, name=name, seed=seed)

        def harder(split: LabeledData) -> LabeledData:
            whole = split.inputs
            inputs = change(whole) if isinstance(whole, Tensor) else whole.changed(change)
            return replace(split, inputs=inputs)

        return self._with_each(harder)

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

        def chosen_of(split: LabeledData) -> LabeledData:
            kept = replace(split, target=index[split.target])
            return kept.rows(torch.nonzero(kept.target >= 0).flatten().tolist())

        return replace(self._with_each(chosen_of), class_names=names)

    def _with_each(self, change: Callable[[LabeledData], LabeledData]) -> "DataSet":
        """The same data set with every split changed that is not empty."""
        train, validation, test = (
            change(part) if len(part) else part for part in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)

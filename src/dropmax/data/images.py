"""Images: scikit-learn's digits, and those that are files or stand in tables."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropmax import _check
from dropmax.data import tables
from dropmax.data.folders import Source
from dropmax.data.labeled import DataWarning, LabeledData
from dropmax.data.pictures import AT_ONCE, Inputs, Pictures
from dropmax.data.pixels import pixels
from dropmax.data.splits import SPLITS

LARGEST = 64
"""Pictures that have one size, at most so many pixels a side, stay as they are."""
SIZE = 64
"""The size of all others, unless you ask for one."""
HELD = 1_000_000_000
"""So many bytes of pixels are held at most; more are decoded each time that they are read."""
THREADS = 8
"""So many pictures are decoded at a time, at most."""


class ResizedPictures(DataWarning):
    """Pictures that had to be resized, for which no size was named."""


def read_images(
    splits: Mapping[str, tables.Table],
    label_column: str,
    image_column: str | None,
    size: int | None = None,
    class_names: tuple[str, ...] = (),
    channels: int | None = None,
) -> tables.Found:
    """The images and labels of a data set's splits.

    The classes are those of the training rows, and the channels those of the images, if none are
    given.
    """
    rows = tables.first(splits).rows
    column = tables.column("image_column", image_column, rows.features, "Image")
    class_names = class_names or tables.class_names(rows, label_column, {})
    files = {name: _Files(splits[name].rows, column, channels) for name in SPLITS if name in splits}
    album = _decoded(files, size)
    if album is None:
        album = _decoded(files, SIZE)
        said = f"pictures of several sizes, or larger than {LARGEST} x {LARGEST}, are resized"
        how = f"the shorter side becomes {SIZE} pixels, and the center is taken"
        message = f"{_check.caller('size')}: {said}: {how}; pass --size to choose."
        warnings.warn(message, ResizedPictures, stacklevel=3)
    assert album is not None, "resized pictures fit together"
    found = {}
    for name, part in album.parts.items():
        rows, broken = splits[name].rows, {**part.broken, **splits[name].broken}
        target = tables.targets(rows, label_column, class_names, broken)
        kept = tables.sound(len(rows), name, broken, part.places)
        ids = tuple(part.places.get(n, str(n)) for n in kept)
        notes = tables.notes(broken, part.places)
        found[name] = LabeledData(album.inputs(part, kept), target[kept], ids, notes)
    return tables.Found(class_names, found, (), album.size)


def digits() -> Source:
    """scikit-learn's digits as such a data set: 8 x 8 pixels of 0 to 16, scaled to 255."""
    with _check.extra("train"):
        import datasets
        from PIL import Image
        from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images * 255.0 / 16.0).round().astype(np.uint8)
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=[str(n) for n in range(10)])
    )
    columns = {"image": [Image.fromarray(p) for p in pixels], "label": found.target.tolist()}
    rows = datasets.Dataset.from_dict(columns, features=features)
    return Source({"train": tables.Table(rows, {})})


class _Files:
    """The pictures in a column of a table: files, or what is in them."""

    def __init__(self, rows: Any, column: str, channels: int | None) -> None:
        import datasets

        if not tables.is_image(rows.features[column]):
            got = _check.Verbatim(f"{rows.features[column]}")
            _check.fail(f"column {column!r}", "hold images", got, "name another")
        encoded = datasets.Image(decode=False)
        self._rows = rows.select_columns(column).cast_column(column, encoded)
        self._column = column
        self._channels = channels

    def __len__(self) -> int:
        return len(self._rows)

    def decoded(
        self, numbers: Sequence[int], size: int | None
    ) -> Iterator[tuple[str | None, Tensor | str]]:
        """Where each picture lies, and its pixels or why there are none; a few at a time."""
        threads = min(THREADS, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(numbers), AT_ONCE):
                files = self._rows[list(numbers[start : start + AT_ONCE])][self._column]
                for first in range(0, len(files), threads):
                    few = files[first : first + threads]
                    places = [file and file["path"] for file in few]
                    made = partial(_pixels, size=size, channels=self._channels)
                    yield from zip(places, pool.map(made, few), strict=True)

    def read(self, numbers: Sequence[int], size: int | None) -> Iterator[Tensor]:
        """The pixels of pictures that could be read before.

        Raises:
            ValueError: If one cannot be read any longer.
        """
        for place, found in self.decoded(numbers, size):
            if isinstance(found, str):
                got = _check.Verbatim(f"{place} ({found})")
                _check.fail("pictures", "stay readable", got, "restore the file")
            yield found


def _pixels(file: Mapping[str, Any] | None, size: int | None, channels: int | None) -> Tensor | str:
    source = None if file is None else file["bytes"] or file["path"]
    return "no picture" if source is None else pixels(source, size, channels)


@dataclass
class _Part:
    """A split: by number the pixels that are held, what is wrong with a picture, where it lies."""

    files: _Files
    held: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)


@dataclass
class _Album:
    """The pictures of all splits.

    Attributes:
        size: To which they are resized and cropped; as they are if None.
        parts: By the name of the split.
        shape: (C, H, W); C is 1 if all are gray, else 3.
        holds: Whether the pixels are held.
    """

    size: int | None
    parts: dict[str, _Part]
    shape: tuple[int, ...] = ()
    holds: bool = True

    def inputs(self, part: _Part, kept: Sequence[int]) -> Inputs:
        """Some pictures of a split: a tensor where all are held and none is longer than wide."""
        if not self.holds:
            return Pictures(partial(part.files.read, size=self.size), kept, self.shape, self.size)
        held = {n: part.held[n] for n in kept}
        if all(picture.shape[1:] == self.shape[1:] for picture in held.values()):
            pictures = [np.broadcast_to(picture, self.shape) for picture in held.values()]
            return torch.from_numpy(np.stack(pictures))
        return Pictures(partial(_of, held), kept, self.shape, self.size)


def _of(held: Mapping[int, NDArray[np.uint8]], numbers: Sequence[int]) -> list[Tensor]:
    return [torch.from_numpy(held[n]) for n in numbers]


def _decoded(files: Mapping[str, _Files], size: int | None) -> _Album | None:
    """Every picture decoded once; None if some must be resized and `size` is None."""
    album = _Album(size, {name: _Part(of_split) for name, of_split in files.items()})
    area, channels, sides = 0, 1, [] if size is None else [size, size]
    for part in album.parts.values():
        numbers = range(len(part.files))
        for n, (place, found) in zip(numbers, part.files.decoded(numbers, size), strict=True):
            if place:
                part.places[n] = place
            if isinstance(found, str):
                part.broken[n] = found
                continue
            if size is None:
                first, sides = sides, list(found.shape[1:])
                if max(sides) > LARGEST or sides != (first or sides):
                    return None
            channels = max(channels, len(found))
            if album.holds:
                part.held[n] = found.numpy()
                area += found[0].numel()
                album.holds = area * channels <= HELD
    if not album.holds:
        for part in album.parts.values():
            part.held.clear()
    album.shape = (channels, *sides)
    return album

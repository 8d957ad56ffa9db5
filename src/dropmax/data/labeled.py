"""Labeled instances as tensors."""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dropmax.data.pictures import Inputs, joined

SHOWN = 5
"""How many rows or files a warning names."""


class DataWarning(UserWarning):
    """What you should know of a data set before you trust a number of it."""


class BrokenRows(DataWarning):
    """Rows of a data set that could not be read and were left out."""


@dataclass(frozen=True)
class LabeledData:
    """Instances and their classes.

    Attributes:
        inputs: Images `[N, C, H, W]`, uint8, C = 1 or 3; or rows float32 `[N, D]`: numbers, or
            embeddings of texts. `inputs[:]` is a tensor, also of pictures that are not held as one.
        target: Class indices `[N]`.
        ids: What each instance is called where it came from: its file, or its row, from 0.
        notes: What was left out of the split it is of, and why.
        texts: What the inputs stand for: texts, or rows of a table; none for images.
        together: Whether equal instances are one and the same, as images and texts are. Rows of a
            table may be equal by chance.
    """

    inputs: Inputs
    target: Tensor
    ids: tuple[str, ...]
    notes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    together: bool = True

    def __len__(self) -> int:
        return len(self.target)

    def rows(self, rows: Iterable[int]) -> "LabeledData":
        """Some of the instances, in that order."""
        rows = list(rows)
        chosen = torch.tensor(rows, dtype=torch.int64)
        whole = self.inputs
        part = replace(
            self,
            inputs=whole[chosen] if isinstance(whole, Tensor) else whole.rows(rows),
            target=self.target[chosen],
            ids=tuple(self.ids[n] for n in rows),
            texts=tuple(self.texts[n] for n in rows) if self.texts else (),
        )
        if "keys" in self.__dict__:  # known, and to know it again may mean to decode again
            part.__dict__["keys"] = tuple(self.keys[n] for n in rows)
        return part

    def joined(self, other: "LabeledData") -> "LabeledData":
        """These instances, and then those of another split of the same data set."""
        if isinstance(self.inputs, Tensor) and isinstance(other.inputs, Tensor):
            inputs: Inputs = torch.cat([self.inputs, other.inputs])
        else:
            inputs = joined(self.inputs, other.inputs)
        return replace(
            self,
            inputs=inputs,
            target=torch.cat([self.target, other.target]),
            ids=self.ids + other.ids,
            texts=self.texts + other.texts,
        )

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """A hash of what each instance holds: its text, or its pixels."""
        return tuple(self._hashed(self.contents()))

    @cached_property
    def plain_keys(self) -> tuple[bytes, ...]:
        """Equal for equal instances: also for texts that differ in case, width or spaces alone."""
        if self.texts and self.together:
            return tuple(self._hashed(map(_plain, self.texts)))
        return self.keys

    def hashes(self, seed: int) -> list[bytes]:
        """A hash of a seed and of what each instance holds."""
        return list(self._hashed(self.contents(), f"{seed}:"))

    def contents(self) -> Iterator[bytes]:
        """The texts, or the pixels, of each instance."""
        if self.texts:
            return (text.encode() for text in self.texts)
        return (image.numpy().tobytes() for image in self.inputs)

    def _hashed(self, contents: Iterable[bytes], prefix: str = "") -> Iterator[bytes]:
        kind = "text" if self.texts else "x".join(map(str, self.inputs.shape[1:]))
        start = hashlib.sha256(f"{prefix}{kind}:".encode())
        for content in contents:
            digest = start.copy()
            digest.update(content)
            yield digest.digest()


def _plain(text: str) -> bytes:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode()


def some(names: Sequence[str]) -> str:
    """The first names, which are enough to find the rest."""
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)

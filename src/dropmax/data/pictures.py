"""Pictures that are no single tensor: they are longer than wide, or too many to hold."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias, overload

import torch
from jaxtyping import UInt8
from torch import Tensor

from dropmax.data.pixels import centered

AT_ONCE = 64
"""How many pictures are held at once where all of them are gone over."""

Reader: TypeAlias = Callable[[Sequence[int]], Iterable[Tensor]]
"""From numbers of pictures to pixels uint8 `[C, h, w]`, C as the picture has it."""


class Pictures:
    """Pictures that are read as a tensor uint8 `[N, C, H, W]` is, a part at a time.

    An index makes a tensor of the pictures it names and of no others. Of a picture that is longer
    than wide it takes the center.

    Args:
        read: From numbers of pictures to their pixels, the shorter side of `size` pixels.
        numbers: Of the pictures, as `read` takes them.
        shape: `(C, H, W)` of what an index gives.
        size: `H` and `W`, where pictures are cropped to it; None where all have this shape.
        change: What happens to the pixels `[n, C, H, W]` of pictures that were read.

    Examples:
        >>> import torch
        >>> from dropmax.data.pictures import Pictures
        >>> wide = [torch.arange(6, dtype=torch.uint8).expand(1, 4, 6) + n for n in range(3)]
        >>> pictures = Pictures(lambda numbers: [wide[n] for n in numbers], range(3), (1, 4, 4), 4)
        >>> pictures[1:].shape, pictures[2][0, 0].tolist()
        (torch.Size([2, 1, 4, 4]), [3, 4, 5, 6])
    """

    ndim = 4

    def __init__(
        self,
        read: Reader,
        numbers: Sequence[int],
        shape: tuple[int, ...],
        size: int | None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._read = read
        self._numbers = numbers
        self._shape = shape
        self._size = size
        self._change = change

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self), *self._shape))

    @overload
    def __getitem__(self, rows: int) -> UInt8[Tensor, "C H W"]: ...

    @overload
    def __getitem__(self, rows: slice | Tensor) -> UInt8[Tensor, "n C H W"]: ...

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        if isinstance(rows, int):
            return self[torch.tensor([rows])][0]
        numbers = self._named(rows)
        return self._stacked(centered(picture, self._size) for picture in self._read(numbers))

    def __iter__(self) -> Iterator[UInt8[Tensor, "C H W"]]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE]

    def cropped(self, rows: Tensor) -> UInt8[Tensor, "n C H W"]:
        """The pictures, each cropped at random along its longer side, by torch's generator."""
        places = torch.rand(len(rows)).tolist()
        pictures = self._read(self._named(rows))
        return self._stacked(
            self._crop(picture, place) for picture, place in zip(pictures, places, strict=True)
        )

    def rows(self, rows: Sequence[int]) -> "Pictures":
        """Some of the pictures, in that order, and none of them read."""
        numbers = [self._numbers[n] for n in rows]
        return Pictures(self._read, numbers, self._shape, self._size, self._change)

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Pictures":
        """The pictures, with this done to those that are read, `[n, C, H, W]`."""
        assert self._change is None, "one change is enough"
        return Pictures(self._read, self._numbers, self._shape, self._size, change)

    def _named(self, rows: slice | Tensor) -> list[int]:
        index = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        return [self._numbers[n] for n in index]

    def _crop(self, picture: Tensor, place: float) -> Tensor:
        if self._size is None:
            return picture
        height, width = picture.shape[1:]
        top = int(place * (height - self._size + 1))
        left = int(place * (width - self._size + 1))
        return picture[:, top : top + self._size, left : left + self._size]

    def _stacked(self, pictures: Iterable[Tensor]) -> Tensor:
        alike = [picture.expand(self._shape) for picture in pictures]
        pixels = torch.stack(alike) if alike else torch.empty(0, *self._shape, dtype=torch.uint8)
        return pixels if self._change is None else self._change(pixels)


Inputs: TypeAlias = Tensor | Pictures
"""Of instances: images, or rows of numbers."""


def joined(first: Inputs, second: Inputs) -> Pictures:
    """Pictures, and then others of the same shape, of which one at least is no tensor."""
    whole = first if isinstance(first, Pictures) else second
    assert isinstance(whole, Pictures), "two tensors are joined by torch"
    count = len(first) + len(second)
    size = whole._size
    return Pictures(partial(_of_both, first, second), range(count), whole._shape, size)


def _of_both(first: Inputs, second: Inputs, numbers: Sequence[int]) -> Iterator[Tensor]:
    count = len(first)
    of_first = iter(_some_of(first, [n for n in numbers if n < count]))
    of_second = iter(_some_of(second, [n - count for n in numbers if n >= count]))
    return (next(of_first if n < count else of_second) for n in numbers)


def _some_of(part: Inputs, rows: list[int]) -> Iterable[Tensor]:
    """Pictures as they are before a crop, or as they are at last where they are changed."""
    if isinstance(part, Pictures) and part._change is None:
        return part._read([part._numbers[n] for n in rows])
    return part[torch.tensor(rows, dtype=torch.int64)]

"""Pictures that are read in parts: they are what a tensor of them would be, and no more is read."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropmax.data.pictures import AT_ONCE, Pictures


def strip(n, size, extra, upright):
    """A picture whose columns, or rows, count up from n."""
    ramp = torch.arange(size + extra, dtype=torch.uint8) + n
    wide = ramp.expand(1, size, size + extra)
    return wide.transpose(1, 2) if upright else wide


def album(strips, size, channels=1):
    read = []

    def reader(numbers):
        read.extend(numbers)
        return [strips[n] for n in numbers]

    shape = (channels, size, size)
    return Pictures(reader, range(len(strips)), shape, size), read


strips_of = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=9)


@given(described=strips_of, size=st.integers(1, 6), data=st.data())
def test_an_index_gives_what_it_gives_of_the_tensor(described, size, data):
    strips = [strip(n, size, *one) for n, one in enumerate(described)]
    pictures, read = album(strips, size, channels=3)
    expected = torch.stack(
        [
            torch.stack(
                [
                    torch.stack(
                        [
                            picture[
                                0,
                                y + (picture.shape[1] - size) // 2,
                                x + (picture.shape[2] - size) // 2,
                            ]
                            for x in range(size)
                        ]
                    )
                    for y in range(size)
                ]
            ).expand(3, -1, -1)
            for picture in strips
        ]
    )
    assert pictures.shape == expected.shape
    assert pictures.ndim == expected.ndim
    assert len(pictures) == len(expected)
    assert read == []
    assert torch.equal(pictures[:], expected)
    assert all(map(torch.equal, pictures, expected))
    rows = data.draw(st.lists(st.integers(0, len(strips) - 1), max_size=12))
    for index in (torch.tensor(rows, dtype=torch.int64), slice(1, None, 2), slice(-2, None)):
        assert torch.equal(pictures[index], expected[index])
    assert torch.equal(pictures[len(strips) - 1], expected[-1])
    some = pictures.rows(rows)
    assert torch.equal(some[:], expected[torch.tensor(rows, dtype=torch.int64)])
    assert torch.equal(pictures.changed(lambda images: 255 - images)[:], 255 - expected)


def test_no_more_is_read_than_is_asked_for():
    pictures, read = album([strip(n, 4, 0, False) for n in range(300)], 4)
    rest = pictures.rows(range(100, 300))
    assert read == []
    rest[torch.tensor([3, 1])]
    assert read == [103, 101]
    read.clear()
    next(iter(rest))
    assert len(read) == AT_ONCE


def test_crops_lie_anywhere_along_the_longer_side_and_nowhere_else():
    pictures, _ = album([strip(0, 5, 7, False), strip(0, 5, 7, True), strip(0, 5, 0, True)], 5)
    seen = [set(), set(), set()]
    for _ in range(300):
        crops = pictures.cropped(torch.arange(3))
        assert crops.shape == (3, 1, 5, 5)
        for starts, crop in zip(seen, crops, strict=True):
            starts.add(int(crop[0, 0, 0]))
    assert seen == [set(range(8)), set(range(8)), {0}]


def test_the_seed_decides_the_crops():
    pictures, _ = album([strip(n, 5, 9, False) for n in range(40)], 5)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(pictures.cropped(torch.arange(40)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("index", [slice(0, 0), torch.tensor([], dtype=torch.int64)])
def test_no_pictures_are_an_empty_tensor(index):
    pictures, read = album([strip(0, 4, 1, False)], 4)
    assert pictures[index].shape == (0, 1, 4, 4)
    assert pictures[index].dtype == torch.uint8
    assert read == []

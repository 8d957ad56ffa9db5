"""From a picture to its pixels: against numpy and a slow resampling that share no code with it."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dropmax.data.pixels import LONGEST, centered, pixels

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = COLORS[..., 0]
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
ALPHA = RNG.integers(0, 256, (5, 7, 1), dtype=np.uint8)


def written(image, kind="PNG", **options):
    """What is in the file of a picture."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def channels_first(array):
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def scaled(deep, top):
    """0 to top becomes 0 to 255, to the nearest."""
    return ((2 * deep.astype(object) * 255 + top) // (2 * top)).astype(np.uint8)


def over_white(values, alpha):
    share = alpha.astype(float) / 255
    return values * share + 255 * (1 - share)


def gif(*frames):
    return written(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


def gray_palette():
    image = Image.fromarray(GRAY).convert("P")
    image.putpalette([255 - n // 3 for n in range(768)])
    return image


def with_key(array, key, **options):
    return written(Image.fromarray(array), transparency=key, **options)


def twelve_bits():
    """A gray TIFF file with 12 bits a pixel, two pixels in three bytes."""
    values = [0, 4095, 2048, 1000]
    packed = b"".join(
        bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
        for a, b in zip(values[::2], values[1::2], strict=True)
    )
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(packed)}
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value)
        for tag, value in tags.items()
    )
    start = 8 + len(packed)
    head = b"II*\0" + struct.pack("<I", start)
    return head + packed + struct.pack("<H", len(tags)) + entries + bytes(4), np.array([values])


TWELVE, TWELVE_VALUES = twelve_bits()
PLAIN_PGM = b"P2 7 5 1023\n" + b" ".join(b"%d" % value for value in (DEEP >> 6).ravel())
KEY, DEEP_KEY = int(GRAY[0, 0]), int(DEEP[0, 0])
KEYED_GRAY = np.where(np.equal(GRAY, KEY), 255, GRAY)
KEYED_DEEP = np.where(np.equal(DEEP, DEEP_KEY), 255, scaled(DEEP, 65535))

EXACT = {
    "RGB in PNG": (written(Image.fromarray(COLORS)), COLORS),
    "RGB in BMP": (written(Image.fromarray(COLORS), "BMP"), COLORS),
    "RGB in TIFF": (written(Image.fromarray(COLORS), "TIFF"), COLORS),
    "RGB in WebP": (written(Image.fromarray(COLORS), "WEBP", lossless=True), COLORS),
    "gray in PNG": (written(Image.fromarray(GRAY)), GRAY),
    "gray in TIFF": (written(Image.fromarray(GRAY), "TIFF"), GRAY),
    "gray in GIF": (written(Image.fromarray(GRAY), "GIF"), GRAY),
    "gray palette": (written(gray_palette()), 255 - GRAY),
    "one bit in PNG": (written(Image.fromarray(GRAY > 99)), np.where(GRAY > 99, 255, 0)),
    "one bit in TIFF": (written(Image.fromarray(GRAY > 99), "TIFF"), np.where(GRAY > 99, 255, 0)),
    "palette in PNG": (
        written(Image.fromarray(COLORS // 128 * 255).convert("P", palette=Image.Palette.WEB)),
        COLORS // 128 * 255,
    ),
    "16 bits in PNG": (written(Image.fromarray(DEEP)), scaled(DEEP, 65535)),
    "16 bits in TIFF": (written(Image.fromarray(DEEP), "TIFF"), scaled(DEEP, 65535)),
    "16 bits in TIFF, high byte first": (
        written(Image.frombytes("I;16B", (7, 5), DEEP.astype(">u2").tobytes()), "TIFF"),
        scaled(DEEP, 65535),
    ),
    "16 bits in PGM": (written(Image.fromarray(DEEP), "PPM"), scaled(DEEP, 65535)),
    "16 bits in JPEG 2000": (written(Image.fromarray(DEEP), "JPEG2000"), scaled(DEEP, 65535)),
    "10 bits in a PGM of text": (PLAIN_PGM, scaled(DEEP >> 6, 1023)),
    "12 bits in TIFF": (TWELVE, scaled(TWELVE_VALUES, 4095)),
    "gray with a color for transparency": (with_key(GRAY, KEY), KEYED_GRAY),
    "16 bits with a color for transparency": (with_key(DEEP, DEEP_KEY), KEYED_DEEP),
    "the first of two frames": (
        gif(Image.fromarray(GRAY), Image.fromarray(255 - GRAY)),
        GRAY,
    ),
    "the first of two pages": (
        written(
            Image.fromarray(COLORS),
            "TIFF",
            save_all=True,
            append_images=[Image.fromarray(255 - COLORS)],
        ),
        COLORS,
    ),
    "the first frame of a PNG": (
        written(
            Image.fromarray(COLORS), save_all=True, append_images=[Image.fromarray(255 - COLORS)]
        ),
        COLORS,
    ),
    "the first frame of a WebP": (
        written(
            Image.fromarray(COLORS),
            "WEBP",
            lossless=True,
            save_all=True,
            append_images=[Image.fromarray(255 - COLORS)],
        ),
        COLORS,
    ),
}
ROUNDED = {
    "RGBA in PNG": (
        written(Image.fromarray(np.concatenate([COLORS, ALPHA], -1))),
        over_white(COLORS, ALPHA),
    ),
    "RGBA in WebP": (
        written(
            Image.fromarray(np.concatenate([COLORS, ALPHA], -1)), "WEBP", lossless=True, exact=True
        ),
        over_white(COLORS, ALPHA),
    ),
    "RGBA in TIFF": (
        written(Image.fromarray(np.concatenate([COLORS, ALPHA], -1)), "TIFF"),
        over_white(COLORS, ALPHA),
    ),
    "gray with alpha": (
        written(Image.fromarray(np.concatenate([COLORS[..., :1], ALPHA], -1))),
        over_white(GRAY, ALPHA[..., 0]),
    ),
    "palette with alpha": (
        written(Image.fromarray(GRAY % 4).convert("P"), transparency=bytes([0, 100, 255, 255])),
        over_white(GRAY % 4, np.array([0, 100, 255, 255], dtype=np.uint8)[GRAY % 4]),
    ),
    "CMYK in TIFF": (
        written(Image.fromarray(COLORS).convert("CMYK"), "TIFF"),
        COLORS,
    ),
    "YCbCr in TIFF": (written(Image.fromarray(COLORS).convert("YCbCr"), "TIFF"), COLORS),
}
BROKEN = {
    "32-bit integers": written(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
    "signed 16 bits": written(Image.fromarray(DEEP.astype(np.int32), "I"), "TIFF"),
    "floats": written(Image.fromarray(DEEP.astype(np.float32)), "TIFF"),
    "a page": b"<html>404</html>",
    "nothing": b"",
    "half of a PNG": written(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)))[
        :5000
    ],
    "half of a JPEG": written(Image.effect_noise((64, 64), 99), "JPEG")[:1500],
    "a bomb": written(Image.new("1", (20_000, 9_100))),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_picture_has_the_pixels_that_were_written(name):
    file, expected = EXACT[name]
    found = pixels(file)
    assert isinstance(found, torch.Tensor), found
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), channels_first(expected))


@pytest.mark.parametrize("name", ROUNDED)
def test_layers_and_other_colors_are_right_to_rounding(name):
    file, expected = ROUNDED[name]
    found = pixels(file)
    assert isinstance(found, torch.Tensor), found
    tolerance = 3 if name.startswith("YCbCr") else 1
    assert np.abs(found.numpy() - channels_first(expected.astype(float))).max() <= tolerance


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_a_reason_in_one_line(name):
    found = pixels(BROKEN[name])
    assert isinstance(found, str)
    assert found
    assert "\n" not in found
    assert pixels(BROKEN[name], size=8) == found


def test_whatever_is_raised_is_a_reason(monkeypatch):
    file = EXACT["RGB in PNG"][0]
    for error in (MemoryError("1 GB"), SyntaxError("no"), struct.error("x\ny"), zlib.error("z")):

        def fails(*_, error=error, **__):
            raise error

        monkeypatch.setattr(Image.Image, "convert", fails)
        assert pixels(file) == f"{type(error).__name__}: {' '.join(str(error).split())}"


def test_a_file_is_named_by_what_is_wrong_with_it(tmp_path):
    assert pixels(tmp_path / "none.png") == "FileNotFoundError: No such file or directory"
    assert pixels(tmp_path) == "IsADirectoryError: Is a directory"


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
"""From what is stored to what is seen, by the orientation tag of EXIF."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("array", [COLORS, GRAY, DEEP], ids=["color", "gray", "deep"])
@pytest.mark.parametrize("tag", TURNS)
def test_a_picture_is_turned_as_its_tag_says(kind, array, tag):
    if kind in ("WEBP", "JPEG") and array is DEEP:
        return
    exif = Image.Exif()
    exif[0x0112] = tag
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = pixels(written(Image.fromarray(array), kind, **options))
    found = pixels(written(Image.fromarray(array), kind, exif=exif, **options))
    turned = TURNS[tag](stored.permute(1, 2, 0).numpy()).transpose(2, 0, 1)
    assert np.array_equal(found.numpy(), turned)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("tag", TURNS)
def test_a_photo_that_is_resized_is_turned_as_well(kind, tag):
    photo = Image.fromarray(COLORS).resize((201, 123), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = tag
    found = pixels(written(photo, kind, exif=exif), size=16)
    turned = Image.fromarray(np.ascontiguousarray(TURNS[tag](np.asarray(photo))))
    expected = pixels(written(turned), size=16)
    assert found.shape == expected.shape
    assert (found.float() - expected.float()).abs().mean() < 2


def test_the_channels_are_those_asked_for():
    color, gray = written(Image.fromarray(COLORS)), written(Image.fromarray(GRAY))
    assert torch.equal(pixels(gray, channels=3), pixels(gray).expand(3, -1, -1))
    luma = COLORS @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels(color, channels=1)[0].numpy() - luma).max() <= 0.51


def bicubic(array, length):
    """The rows of an array resampled to another number of them, the slow way."""
    ratio = len(array) / length
    stretch = max(ratio, 1.0)
    found = []
    for n in range(length):
        center = (n + 0.5) * ratio
        first, last = int(max(center - 2 * stretch + 0.5, 0)), int(center + 2 * stretch + 0.5)
        at = np.arange(first, min(last, len(array)))
        x = np.abs((at + 0.5 - center) / stretch)
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
        found.append(np.tensordot(weights / weights.sum(), array[at].astype(float), 1))
    return np.stack(found).round().clip(0, 255)


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.integers(1, 24),
    gray=st.booleans(),
    seed=st.integers(0, 999),
)
def test_every_picture_becomes_a_square_of_its_center(width, height, size, gray, seed):
    shape = (height, width) if gray else (height, width, 3)
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    picture = pixels(written(Image.fromarray(array)), size=size)
    found = centered(picture, size)
    assert found.shape == (1 if gray else 3, size, size)
    short = min(width, height)
    assert max(picture.shape[1:]) == size * min(max(width, height), LONGEST * short) // short
    if max(width, height) <= LONGEST * short:
        rows, columns = size * height // short, size * width // short
        down_last = bicubic(bicubic(array.swapaxes(0, 1), columns).swapaxes(0, 1), rows)
        down_first = bicubic(bicubic(array, rows).swapaxes(0, 1), columns).swapaxes(0, 1)
        top, left = (rows - size) // 2, (columns - size) // 2
        center = np.s_[top : top + size, left : left + size]
        # Releases of Pillow differ in which axis comes first, which matters where values are cut.
        assert (
            min(
                np.abs(found.numpy() - channels_first(resized[center])).max()
                for resized in (down_last, down_first)
            )
            <= 1
        )


@given(size=st.integers(4, 40), width=st.integers(1, 3), long=st.integers(500, 3000))
def test_a_thin_strip_keeps_its_middle_and_takes_no_more_memory(size, width, long):
    shade = np.linspace(0, 255, long).round().astype(np.uint8)
    picture = pixels(written(Image.fromarray(np.tile(shade, (width, 1)))), size=size)
    assert picture.shape == (1, size, LONGEST * size)
    assert abs(int(centered(picture, size)[0, 0, size // 2]) - 127) <= 2


def test_a_large_photo_is_read_at_a_fraction_and_looks_the_same():
    photo = Image.effect_noise((40, 30), 90).resize((1603, 1201)).convert("RGB")
    found = pixels(written(photo, "JPEG", quality=95), size=32).float()
    whole = pixels(written(photo), size=32).float()
    assert found.shape == whole.shape == (3, 32, 42)
    assert (found - whole).abs().mean() < 2

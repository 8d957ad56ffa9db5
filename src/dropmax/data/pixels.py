"""A picture's pixels: as viewers show it, in 8 bits, at the size that is asked for."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from dropmax import _check

LONGEST = 4
"""Of a picture that is resized, the middle is kept: at most so many times its shorter side."""
GRAY = ("1", "L", "LA", "La")
"""Modes of Pillow without color."""
TOO_DEEP = {"I": "signed or 32-bit integers", "F": "floats"}
"""Modes of Pillow whose range no file states."""


def pixels(
    source: str | Path | bytes, size: int | None = None, channels: int | None = None
) -> UInt8[Tensor, "C H W"] | str:
    """The pixels of a picture, or the reason why there are none.

    The picture is turned as its EXIF orientation says. What is transparent shows white. 16-bit gray
    becomes 8-bit gray by the range of its type, and of an animation the first frame counts.

    Args:
        source: A file, or what is in one.
        size: Pixels of the shorter side, to which the picture is resized (bicubic). Of a picture
            more than `LONGEST` times as long as wide its middle is kept. As it is if None.
        channels: 1 for gray, 3 for RGB; as the picture has them if None.

    Returns:
        uint8, 0 to 255; or what went wrong, whatever Pillow raised.

    Examples:
        >>> import io
        >>> from PIL import Image
        >>> from dropmax.data.pixels import pixels
        >>> file = io.BytesIO()
        >>> Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(file, "PNG")
        >>> shown = pixels(file.getvalue(), size=8)
        >>> shown.shape, shown.unique()
        (torch.Size([3, 8, 16]), tensor([255], dtype=torch.uint8))
        >>> pixels(b"no picture")
        'no picture of a format that Pillow knows'
    """
    with _check.extra("train"):
        from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            original, drafted = image.size, None
            if size is not None:  # a JPEG is then decoded at a fraction of its size
                drafted = image.draft(None, (2 * size, 2 * size))
            if image.mode in TOO_DEEP and not _has_16_bits(image):
                return f"its pixels are {TOO_DEEP[image.mode]}; save it with 8 or 16 bits"
            shown = _in_8_bits(image)
            turn = image.getexif().get(ExifTags.Base.Orientation, 1)
        if channels is not None:
            shown = shown.convert("L" if channels == 1 else "RGB")
        if size is not None:
            whole = original if drafted else shown.size
            shrunk = drafted[1][2] / whole[0] if drafted else 1.0
            shown = _resized(shown, whole, shrunk, size)
        if turn != 1:
            shown.getexif()[ExifTags.Base.Orientation] = turn
            shown = ImageOps.exif_transpose(shown)
        return _tensor(shown)
    except UnidentifiedImageError:
        return "no picture of a format that Pillow knows"
    except Exception as error:  # a damaged file makes the reader stumble in any way
        said = getattr(error, "strerror", None) or str(error)
        return f"{type(error).__name__}: {' '.join(said.split())[:200]}"


def centered(picture: UInt8[Tensor, "C H W"], size: int | None) -> UInt8[Tensor, "C h w"]:
    """The middle of a picture, `size` pixels a side; all of it if None."""
    if size is None:
        return picture
    top, left = ((side - size) // 2 for side in picture.shape[1:])
    return picture[:, top : top + size, left : left + size]


def _in_8_bits(image: Any) -> Any:
    """The first frame, of mode L if it is gray, else RGB, over white."""
    from PIL import Image

    image.load()
    if _has_16_bits(image):
        return Image.fromarray(_from_16_bits(image))
    mode = "L" if image.mode in GRAY else "RGB"
    if image.has_transparency_data:
        layered = image.convert("LA" if mode == "L" else "RGBA")
        shown = Image.new(mode, image.size, "white")
        shown.paste(layered.convert(mode), mask=layered.getchannel("A"))
    else:
        shown = image.convert(mode)
    if image.mode in ("P", "PA") and _is_gray(np.asarray(shown)):
        shown = shown.getchannel("R")
    return shown


def _has_16_bits(image: Any) -> bool:
    """Whether it is gray with more than 8 bits, which some decoders widen to 32."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _from_16_bits(image: Any) -> NDArray[np.uint8]:
    """8-bit gray by the range of the type: 16 bits, or as many as a TIFF file states."""
    bits = image.tag_v2.get(258, (16,))[0] if image.format == "TIFF" else 16
    deep = np.asarray(image).astype(np.int64)
    gray: NDArray[np.uint8] = (deep * 255 / (2**bits - 1)).round().astype(np.uint8)
    gray[deep == image.info.get("transparency", -1)] = 255
    return gray


def _is_gray(rgb: NDArray[np.uint8]) -> bool:
    return bool((rgb == rgb[..., :1]).all())


def _resized(image: Any, original: tuple[int, int], shrunk: float, size: int) -> Any:
    """The picture, its shorter side `size` pixels, of one that is too long the middle.

    It was decoded at a fraction of its original width and height.
    """
    from PIL import Image

    short = min(original)
    kept = [min(side, LONGEST * short) for side in original]
    left, top = (shrunk * (side - keep) / 2 for side, keep in zip(original, kept, strict=True))
    box = (left, top, left + shrunk * kept[0], top + shrunk * kept[1])
    scaled = (size * kept[0] // short, size * kept[1] // short)
    return image.resize(scaled, Image.Resampling.BICUBIC, box)


def _tensor(image: Any) -> UInt8[Tensor, "C H W"]:
    array = np.array(image)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()

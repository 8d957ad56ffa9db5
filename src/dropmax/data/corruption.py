"""Gray images made harder: a bright figure that loses its dark background, or its upright stand.

What is random about an image is a hash of the seed and of its pixels: it depends neither on the
order of the images nor on which others there are.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from dropmax import _check

_Gray = UInt8[Tensor, "N 1 H W"]

_BLOCK = 4096
"""How many images are corrupted at once."""

_ANGLE_BYTES = 4
"""Random bytes that make an angle."""


def _background(images: _Gray, salt: str) -> _Gray:
    """Every pixel the larger of the image's and a uniform one."""
    return images.maximum(_random(images, salt, images[0].numel()).view_as(images))


def _background_rotation(images: _Gray, salt: str) -> _Gray:
    """Every pixel the larger of the image's, rotated by a uniform angle, and a texture's."""
    drawn = _random(images, salt, _ANGLE_BYTES + images[0].numel())
    scale = 256.0 ** -torch.arange(1, _ANGLE_BYTES + 1, dtype=torch.float64)
    angles = 2.0 * math.pi * (drawn[:, :_ANGLE_BYTES].double() @ scale)
    noise = drawn[:, _ANGLE_BYTES:].view_as(images)
    return _rotated(images, angles).maximum(_textured(noise))


CORRUPTIONS: Mapping[str, Callable[[Tensor, str], Tensor]] = MappingProxyType(
    {"background": _background, "background_rotation": _background_rotation}
)
"""What `corrupted` can do, by name."""


def corrupted(images: _Gray, name: str, *, seed: int) -> _Gray:
    """Corrupt gray images of bright figures on a dark background.

    "background": every pixel becomes the larger of itself and a random one, uniform on 0 to 255.

    "background_rotation": the image is rotated about its center by an angle uniform on [0, 2 pi),
    then every pixel becomes the larger of itself and that of a texture. Larochelle et al. took
    patches of photographs; here the texture is random, with an amplitude spectrum that falls as
    1 / frequency like that of photographs, and spans 0 to 255 in each image.

    Args:
        images: Pixels `[N, 1, H, W]`, uint8, on the CPU.
        name: One of `CORRUPTIONS`.
        seed: Of what is drawn. The same image is always corrupted in the same way at one seed,
            whatever the other images are; equal images are corrupted alike.

    Returns:
        Pixels `[N, 1, H, W]`, uint8.

    Raises:
        ValueError: If there is no such corruption, or the images are not gray and uint8.

    Source:
        Larochelle et al. 2007, variations on digit recognition: mnist-back-rand and, but for the
        textures, mnist-rot-back-image.

    Examples:
        >>> import torch
        >>> from dropmax.data import corrupted
        >>> digit = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        >>> digit[..., 4:24, 13:15] = 255
        >>> noisy = corrupted(digit, "background", seed=0)
        >>> noisy[digit == 255].unique(), noisy[digit == 0].unique().numel()
        (tensor([255], dtype=torch.uint8), 240)
    """
    _check.choice("name", name, CORRUPTIONS)
    _check.integer("seed", seed, low=0)
    if (
        not isinstance(images, Tensor)
        or images.dtype != torch.uint8
        or images.ndim != 4
        or images.shape[1] != 1
        or 0 in images.shape
        or images.device.type != "cpu"
    ):
        remedy = "pass gray images, not RGB ones and not scaled"
        must = "be uint8[N, 1, H, W] on cpu, not empty"
        _check.fail("images", must, images, remedy, of=Tensor)
    parts = torch.split(images, _BLOCK)
    return torch.cat([CORRUPTIONS[name](part, f"{name}:{seed}") for part in parts])


def _random(images: _Gray, salt: str, count: int) -> UInt8[Tensor, "N count"]:
    """Uniform bytes, for each image a hash of the salt and of its pixels."""
    pixels = images.numpy()
    prefix = f"{salt}:{'x'.join(map(str, pixels.shape[1:]))}:".encode()
    drawn = [hashlib.shake_256(prefix + image.tobytes()).digest(count) for image in pixels]
    return torch.from_numpy(np.frombuffer(bytearray(b"".join(drawn)), np.uint8)).view(-1, count)


def _rotated(images: _Gray, angles: Float[Tensor, " N"]) -> _Gray:
    """Every image turned about its center by its angle in radians, bilinear, dark outside."""
    height, width = images.shape[-2:]
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = (cos, -sin * height / width, zero), (sin * width / height, cos, zero)
    maps = torch.stack([torch.stack(row, -1) for row in rows], -2)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    turned: Tensor = F.grid_sample(images.to(grid.dtype), grid, align_corners=False)
    return turned.round().to(torch.uint8)


def _textured(noise: _Gray) -> _Gray:
    """White noise with its amplitudes divided by the frequency, scaled to span 0 to 255."""
    height, width = noise.shape[-2:]
    rows = torch.fft.fftfreq(height, dtype=torch.float64)
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)
    frequency = torch.hypot(rows[:, None], columns)
    frequency[0, 0] = math.inf  # the mean is left out
    spectrum = torch.fft.rfft2(noise.double()) / frequency
    texture: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    low, high = texture.amin((-2, -1), keepdim=True), texture.amax((-2, -1), keepdim=True)
    span = (high - low).clamp_min(torch.finfo(texture.dtype).tiny)
    return texture.sub(low).mul(255.0).div(span).round().to(torch.uint8)

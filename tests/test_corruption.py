"""Corrupted images: their laws, what they keep of the figure, and what their chance depends on."""

import math

import numpy as np
import pytest
import torch
from raised import raises
from scipy import stats

from dropmax.data.corruption import CORRUPTIONS, _rotated, _textured, corrupted

FAILURE_RATE = 1e-6
"""Of each test of a law, over seeds."""


def dark(count, size=28):
    """Images that are black but for the bits of their number in the first row, as 0 and 1."""
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    images[:, 0, 0, :13] = torch.arange(count)[:, None] >> torch.arange(13) & 1
    return images


def bars(count):
    """Such images with a bright upright bar."""
    images = dark(count)
    images[:, :, 4:-4, 12:16] = 255
    return images


def orientation(image):
    """The angle of the bright pixels' longer axis, from 0 to pi, by their second moments."""
    rows, columns = np.nonzero(image.numpy() > 127)
    (yy, xy), (_, xx) = np.cov(rows, columns)
    return 0.5 * math.atan2(2.0 * xy, xx - yy) % math.pi


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_image_is_corrupted_alike_whatever_is_beside_it(name):
    images = bars(5000)
    whole = corrupted(images, name, seed=3)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    some = torch.tensor([4999, 7, 4100, 0, 7])
    assert torch.equal(corrupted(images[some], name, seed=3), whole[some])
    assert not torch.equal(corrupted(images[some], name, seed=4), whole[some])
    assert len({image.numpy().tobytes() for image in whole[:, :, 2:]}) == len(images)


def test_a_background_is_uniform_and_the_figure_is_on_top_of_it():
    images = bars(300)
    noisy = corrupted(images, "background", seed=0)
    assert (noisy >= images).all()
    counts = noisy[images == 0].bincount(minlength=256).numpy()
    assert stats.chisquare(counts).pvalue > FAILURE_RATE


def test_backgrounds_of_neighbors_images_and_seeds_are_independent():
    one, other = (corrupted(dark(400), "background", seed=s)[:, 0, 1:].double() for s in (0, 1))
    bound = stats.norm.isf(FAILURE_RATE / 2.0)
    for left, right in (
        (one[:, :, 1:], one[:, :, :-1]),
        (one[:, 1:], one[:, :-1]),
        (one[1:], one[:-1]),
        (one, other),
    ):
        correlation = np.corrcoef(left.flatten(), right.flatten())[0, 1]
        assert abs(correlation) < bound / math.sqrt(left.numel())


def test_the_amplitudes_of_textures_fall_as_one_over_the_frequency():
    textures = corrupted(dark(2000), "background_rotation", seed=0)[:, 0].double()
    assert (textures.amin((1, 2)) <= 1).all()
    assert (textures.amax((1, 2)) == 255).all()
    amplitude = torch.fft.fft2(textures).abs().pow(2).mean(0).sqrt()
    frequency = torch.hypot(*torch.meshgrid(*[torch.fft.fftfreq(28)] * 2, indexing="ij"))
    inside = (frequency > 0) & (frequency < 0.5)
    fit = stats.linregress(frequency[inside].log(), amplitude[inside].log())
    assert abs(fit.slope + 1.0) < 0.02
    assert fit.rvalue < -0.995


def test_a_texture_of_constant_noise_is_a_number():
    assert (_textured(torch.full((1, 1, 1, 1), 9, dtype=torch.uint8)) == 0).all()


def test_a_quarter_turn_is_that_of_the_pixels():
    image = torch.randint(0, 256, (1, 1, 9, 9), dtype=torch.uint8)
    for quarters in range(4):
        angle = torch.tensor([quarters * math.pi / 2.0], dtype=torch.float64)
        assert torch.equal(_rotated(image, angle), image.rot90(quarters, (2, 3)))


@pytest.mark.parametrize("shape", [(41, 41), (41, 61)])
def test_a_bar_turns_by_the_angle_whatever_the_shape(shape):
    image = torch.zeros(1, 1, *shape, dtype=torch.uint8)
    rows, columns = (size // 2 for size in shape)
    image[..., rows - 2 : rows + 3, columns - 15 : columns + 16] = 255
    for degrees in (0.0, 20.0, 45.0, 130.0):
        angle = torch.tensor([math.radians(degrees)], dtype=torch.float64)
        turned = _rotated(image, angle)
        # rows count downwards: a turn to the left lowers the angle
        difference = (orientation(turned[0, 0]) + math.radians(degrees) + 0.5) % math.pi - 0.5
        assert abs(difference) < math.radians(1.0), degrees
        assert turned.sum().item() == pytest.approx(image.sum().item(), rel=0.01)


def test_angles_are_uniform_over_the_whole_turn():
    images = dark(500, size=21)
    images[:, :, 9:12, 10:] = 255  # from the center to one side
    turned = corrupted(images, "background_rotation", seed=0)[:, 0] == 255
    rows, columns = torch.meshgrid(*[torch.arange(21.0) - 10.0] * 2, indexing="ij")
    angles = torch.atan2((rows * turned).sum((1, 2)), (columns * turned).sum((1, 2)))
    assert stats.kstest((angles / (2.0 * math.pi) % 1.0).numpy(), "uniform").pvalue > FAILURE_RATE


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("images", "options", "kind", "where"),
    [
        (bars(2), {"name": "backgrund", "seed": 0}, ValueError, "corrupted: name"),
        (bars(2), {"name": "background", "seed": -1}, ValueError, "corrupted: seed"),
        (bars(2).expand(-1, 3, -1, -1), {}, ValueError, "corrupted: images"),
        (bars(2) / 255.0, {}, ValueError, "corrupted: images"),
        (bars(2)[:, 0], {}, ValueError, "corrupted: images"),
        (bars(2)[:0], {}, ValueError, "corrupted: images"),
        ([[0]], {}, TypeError, "corrupted: images"),
    ],
)
def test_wrong_input(images, options, kind, where):
    with raises(kind, where):
        corrupted(images, **({"name": "background", "seed": 0} | options))

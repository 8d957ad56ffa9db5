"""The small networks of the experiments: images or rows of numbers to features.

Each maker takes the shape of one instance, `(C, H, W)` or `(D,)`, and returns an `nn.Sequential`
from `[N, *shape]` to features `[N, out_features]`, on which a head is put.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from dropmax import _check

__all__ = [
    "BACKBONES",
    "average_cnn",
    "backbone_for",
    "cnn",
    "hidden",
    "identity",
    "lenet",
    "make_backbone",
    "mlp",
    "mnist_cnn",
    "out_features",
]

Shape = tuple[int, ...]


def lenet(shape: Shape) -> nn.Sequential:
    """The authors' LeNet: conv 20 5x5, pool, conv 50 5x5, pool, dense 500, all ReLU.

    Convolutions are unpadded; weights start Glorot-uniform and biases at zero, as in their code.
    """
    channels = _image_channels(shape, smallest=16)
    return _glorot(
        _with_dense(
            shape,
            500,
            nn.Conv2d(channels, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
    )


def mnist_cnn(shape: Shape) -> nn.Sequential:
    """A wider network for digits: conv 32 5x5, pool, conv 64 5x5, pool, dense 1024, dropout 0.5."""
    channels = _image_channels(shape, smallest=8)
    network = _with_dense(
        shape,
        1024,
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    return network.append(nn.Dropout(0.5))


def cnn(shape: Shape) -> nn.Sequential:
    """Six 3x3 convolutions with batch normalization, two a width of 16, 32, 64, then dense 256.

    Small enough to train on two cores: 0.33 million parameters at 32 x 32.
    """
    channels = _image_channels(shape, smallest=8)
    layers: list[nn.Module] = []
    for width in (16, 32, 64):
        for _ in range(2):
            layers += _normalized(channels, width)
            channels = width
        layers.append(nn.MaxPool2d(2))
    return _with_dense(shape, 256, *layers)


def average_cnn(shape: Shape) -> nn.Sequential:
    """Seven 3x3 convolutions with batch normalization, of widths 32 to 256, then the average.

    The first is of stride 2. As it ends in an average over the image, its size does not grow with
    that of the image: 0.58 million parameters.
    """
    channels = _image_channels(shape, smallest=16)
    layers = [*_normalized(channels, 32, stride=2), *_normalized(32, 32)]
    for width in (64, 128):
        layers += [nn.MaxPool2d(2), *_normalized(width // 2, width), *_normalized(width, width)]
    return nn.Sequential(*layers, nn.MaxPool2d(2), *_normalized(128, 256), _Average(256))


def mlp(shape: Shape) -> nn.Sequential:
    """Two dense layers of 256, ReLU: for small images and rows of numbers."""
    _positive_shape(shape)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()
    )


def identity(shape: Shape) -> nn.Sequential:
    """The instances as they are: a head on them is linear."""
    _positive_shape(shape)
    return nn.Sequential(_Flat(shape))


def hidden(shape: Shape) -> nn.Sequential:
    """One dense layer of 512, ReLU: for rows of numbers that are features already."""
    _positive_shape(shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 512), nn.ReLU())


class _Average(nn.Module):
    """The mean of each channel over the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_features = channels

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))


class _Flat(nn.Flatten):
    """Flattens instances of a known size."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.out_features = math.prod(shape)


BACKBONES: Mapping[str, Callable[[Shape], nn.Sequential]] = MappingProxyType(
    {
        "lenet": lenet,
        "mnist_cnn": mnist_cnn,
        "cnn": cnn,
        "average_cnn": average_cnn,
        "mlp": mlp,
        "identity": identity,
        "hidden": hidden,
    }
)
"""The networks by name, each called with the shape of one instance."""


def backbone_for(shape: Shape) -> str:
    """The name of the network that suits instances of a shape.

    `mlp` for rows and for images below 16 x 16 pixels, `average_cnn` for images above 32 x 32.
    Between them `lenet` for gray images and `cnn` for colored ones.

    Examples:
        >>> from dropmax.training.networks import backbone_for
        >>> backbone_for((1, 28, 28)), backbone_for((3, 32, 32)), backbone_for((3, 64, 64))
        ('lenet', 'cnn', 'average_cnn')
    """
    _positive_shape(shape)
    if len(shape) != 3 or min(shape[1:]) < 16:
        return "mlp"
    if max(shape[1:]) > 32:
        return "average_cnn"
    return "lenet" if shape[0] == 1 else "cnn"


def make_backbone(name: str | None, shape: Shape) -> nn.Sequential:
    """Make a network for instances of a shape.

    Args:
        name: One of `BACKBONES`; None chooses by `backbone_for`.
        shape: `(C, H, W)` of an image, or `(D,)`.

    Returns:
        A network from `[N, *shape]` to features; `out_features(network)` is their width.

    Raises:
        ValueError: If there is no such network, or it does not take such a shape.

    Examples:
        >>> from dropmax.training.networks import make_backbone, out_features
        >>> out_features(make_backbone("lenet", (1, 28, 28)))
        500
    """
    if name is None:
        name = backbone_for(shape)
    _check.choice("name", name, BACKBONES)
    return BACKBONES[name](shape)


def out_features(network: nn.Sequential) -> int:
    """The width of a network's features."""
    kinds = nn.Linear | _Flat | _Average
    return next(layer.out_features for layer in reversed(network) if isinstance(layer, kinds))


def _with_dense(shape: Shape, width: int, *layers: nn.Module) -> nn.Sequential:
    """The layers, then a dense one of `width` with ReLU."""
    network = nn.Sequential(*layers, nn.Flatten()).eval()
    with torch.no_grad():
        (flat,) = network(torch.zeros(1, *shape)).shape[1:]
    return network.extend([nn.Linear(flat, width), nn.ReLU()]).train()


def _normalized(channels: int, width: int, *, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution, batch normalization and ReLU."""
    convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


def _glorot(network: nn.Sequential) -> nn.Sequential:
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return network


def _positive_shape(shape: Shape) -> None:
    """`shape` is a tuple of positive integers."""
    if not isinstance(shape, tuple | torch.Size) or not shape:
        _check.fail("shape", "be (C, H, W) or (D,)", shape, "pass a tuple", of=tuple)
    for size in shape:
        _check.integer("shape", size, low=1)


def _image_channels(shape: Shape, *, smallest: int) -> int:
    """The channels of an image shape of at least `smallest` pixels a side."""
    _positive_shape(shape)
    if len(shape) != 3 or min(shape[1:]) < smallest:
        must = f"be (C, H, W) of at least {smallest} x {smallest} pixels"
        _check.fail("shape", must, tuple(shape), "choose mlp, or larger images")
    return shape[0]

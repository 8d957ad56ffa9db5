"""The networks of the experiments."""

import pytest
import torch
from raised import raises
from torch import nn

from dropmax.training.networks import BACKBONES, backbone_for, make_backbone, out_features


@pytest.mark.parametrize(
    ("name", "shape", "width"),
    [
        ("lenet", (1, 28, 28), 500),
        ("lenet", (3, 16, 20), 500),
        ("mnist_cnn", (1, 28, 28), 1024),
        ("mnist_cnn", (1, 8, 8), 1024),
        ("cnn", (3, 32, 32), 256),
        ("cnn", (1, 9, 13), 256),
        ("average_cnn", (3, 64, 64), 256),
        ("average_cnn", (1, 16, 50), 256),
        ("mlp", (1, 8, 8), 256),
        ("mlp", (384,), 256),
        ("identity", (384,), 384),
        ("identity", (1, 8, 8), 64),
        ("hidden", (384,), 512),
    ],
)
def test_maps_instances_to_features(name, shape, width):
    network = make_backbone(name, shape)
    assert network.training
    assert network(torch.rand(4, *shape)).shape == (4, width)
    assert out_features(network) == width


def test_lenet_is_the_authors_network():
    network = make_backbone("lenet", (1, 28, 28))
    sizes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert list(sizes.values()) == [(20, 1, 5, 5), (20,), (50, 20, 5, 5), (50,), (500, 800), (500,)]
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))


def test_cnn_has_six_convolutions_in_three_widths():
    network = make_backbone("cnn", (3, 32, 32))
    widths = [layer.out_channels for layer in network if isinstance(layer, nn.Conv2d)]
    assert widths == [16, 16, 32, 32, 64, 64]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network) == 6
    statistics = [layer.running_mean for layer in network if isinstance(layer, nn.BatchNorm2d)]
    assert not any(mean.any() for mean in statistics), "making the network is no training step"


def test_average_cnn_is_of_one_size_whatever_that_of_the_image_and_averages_over_it():
    sizes = {
        sum(p.numel() for p in make_backbone("average_cnn", (3, side, side)).parameters())
        for side in (32, 64, 200)
    }
    assert len(sizes) == 1
    assert sizes.pop() < 600_000
    network = make_backbone("average_cnn", (3, 32, 32)).eval()
    tile = torch.rand(2, 3, 32, 32)
    before, last = network[:-1](tile), network(tile)
    assert torch.allclose(last, before.flatten(2).mean(-1))


def test_mnist_cnn_drops_half_of_its_features():
    *_, last = make_backbone("mnist_cnn", (1, 28, 28))
    assert isinstance(last, nn.Dropout)
    assert last.p == 0.5


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((1, 28, 28), "lenet"),
        ((3, 32, 32), "cnn"),
        ((3, 33, 32), "average_cnn"),
        ((1, 64, 64), "average_cnn"),
        ((3, 600, 450), "average_cnn"),
        ((3, 64, 15), "mlp"),
        ((1, 8, 8), "mlp"),
        ((3, 8, 8), "mlp"),
        ((20,), "mlp"),
    ],
)
def test_the_shape_chooses_the_network(shape, name):
    assert backbone_for(shape) == name
    assert type(make_backbone(None, shape)[0]) is type(BACKBONES[name](shape)[0])


def test_a_seed_gives_the_same_network():
    networks = []
    for _ in range(2):
        torch.manual_seed(5)
        networks.append(make_backbone("cnn", (3, 16, 16)).state_dict())
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("name", "shape", "kind", "where"),
    [
        ("lenett", (1, 28, 28), ValueError, "make_backbone: name"),
        ("lenet", (1, 8, 8), ValueError, "make_backbone: shape"),
        ("cnn", (20,), ValueError, "make_backbone: shape"),
        ("average_cnn", (3, 12, 64), ValueError, "make_backbone: shape"),
        ("mlp", (), ValueError, "make_backbone: shape"),
        ("mlp", (0,), ValueError, "make_backbone: shape"),
    ],
)
def test_wrong_input(name, shape, kind, where):
    with raises(kind, where):
        make_backbone(name, shape)

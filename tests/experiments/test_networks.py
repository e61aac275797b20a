"""Networks: shapes, sizes, and models of torchvision fitted to small images."""

import sys

import pytest
import torch
from torch import nn

from sparsetrain.experiments import networks


def build(name: str, channels: int = 1, size: int = 28) -> nn.Module:
    torch.manual_seed(0)
    return networks.build(name, channels=channels, size=size, classes=10)


@pytest.mark.parametrize("name", networks.NAMES)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_a_network_gives_one_logit_for_each_class(name, channels, size):
    network = build(name, channels, size)
    logits = network(torch.randn(3, channels, size, size))
    assert logits.shape == (3, 10)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", networks.NAMES)
def test_a_network_can_be_traced(name):
    torch.fx.symbolic_trace(build(name))


@pytest.mark.parametrize("depth", [8, 14, 20])
def test_a_residual_network_has_as_many_layers_as_its_name_says(depth):
    network = build(f"resnet{depth}", channels=3, size=32)
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == depth


def test_resnet20_has_as_many_parameters_as_in_the_paper():
    """He et al. (2016), table 6: 0.27 M. Shortcuts are not counted: ours are 1 x 1 convolutions."""
    network = build("resnet20", channels=3, size=32)
    count = sum(p.numel() for name, p in network.named_parameters() if "shortcut" not in name)
    assert round(count / 1e6, 2) == 0.27


def test_the_plain_network_has_no_normalization():
    modules = list(build("plain").modules())
    assert sum(isinstance(module, nn.Conv2d) for module in modules) == 5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in modules)


def test_weights_depend_only_on_the_seed_of_torch():
    networks = build("plain"), build("plain")
    for first, second in zip(*(each.parameters() for each in networks), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 28), ("squeezenet1_1", 28), ("alexnet", 64)]
)
def test_networks_of_torchvision_accept_small_gray_images(name, size):
    pytest.importorskip("torchvision")
    network = build(name)
    assert network[0].size == size
    assert network.training
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 1, 28, 28)).shape == (1, 10)


def test_the_stem_of_a_resnet_keeps_the_resolution_of_small_images():
    pytest.importorskip("torchvision")
    network = build("resnet18", channels=3, size=32)[1]
    assert network.conv1.stride == (1, 1) and isinstance(network.maxpool, nn.Identity)


def test_images_of_the_right_size_are_not_interpolated():
    images = torch.randn(2, 1, 4, 4)
    fitted = networks.FitImages(4)(images)
    assert torch.equal(fitted, images.expand(2, 3, 4, 4))
    assert networks.FitImages(8)(images).shape == (2, 3, 8, 8)


def test_an_unknown_network_lists_the_known_ones():
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match=r"expected name to be one of resnet8.*got 'lenet'"):
        build("lenet")
    with pytest.raises(ValueError, match=r"got 'resnet9'. Did you mean 'resnet\d+'"):
        build("resnet9")


def test_a_missing_torchvision_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"expected torchvision to be installed.*got none"
    ):
        build("resnet18")

"""Networks for experiments: residual and plain ones, and torchvision's, fitted to small images."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sparsetrain._checks import check_name

_LARGER_SIZES = (32, 64, 96, 128, 224)  # pixels; some networks of torchvision need larger images


class ResidualBlock(nn.Module):
    """ReLU(conv-BN-ReLU-conv-BN + shortcut), from [N, C, H, W] to [N, K, H/stride, W/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H/stride, W/stride]."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


class ResidualNet(nn.Sequential):
    """The residual network for CIFAR of He et al. (2016): three stages of `blocks` blocks.

    It has 6 * blocks + 2 layers with weights, not counting shortcuts. The input is
    [N, channels, H, W], the output logits [N, classes].
    """

    def __init__(self, blocks: int, *, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        inputs = width
        for stage in range(3):
            outputs = width << stage
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"block{stage + 1}_{block + 1}"
                self.add_module(name, ResidualBlock(inputs, outputs, stride))
                inputs = outputs
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(inputs, classes)


class PlainNet(nn.Sequential):
    """A network like AlexNet with 3 x 3 kernels: five conv-ReLU layers without normalization.

    The input is [N, channels, H, W] with H and W of at least 8, the output logits [N, classes].
    """

    def __init__(self, *, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        inputs = channels
        for number, factor in enumerate((1, 2, 3, 3, 2), start=1):
            conv = nn.Conv2d(inputs, factor * width, 3, 1, 1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            self.add_module(f"conv{number}", conv)
            self.add_module(f"relu{number}", nn.ReLU())
            if number in (1, 2, 5):
                self.add_module(f"pool{number}", nn.MaxPool2d(2))
            inputs = factor * width
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.25)
        self.linear = nn.Linear(9 * inputs, classes)


class FitImages(nn.Module):
    """Repeats gray images to three channels and enlarges images: [N, C, H, W] to [N, 3, S, S]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def extra_repr(self) -> str:
        """The size, as repr() shows it."""
        return f"size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        """[N, 1 or 3, H, W] to [N, 3, size, size]."""
        x = x.expand(-1, 3, -1, -1)
        if x.shape[-1] == self.size:
            return x
        return interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": partial(ResidualNet, 1),
    "resnet14": partial(ResidualNet, 2),
    "resnet20": partial(ResidualNet, 3),
    "plain": PlainNet,
}
NAMES = tuple(_BUILDERS)
"""The networks of this file. `build` also accepts every classification model of torchvision."""


def build(name: str, *, channels: int, size: int, classes: int) -> nn.Module:
    """Builds a network for images of [channels, size, size].

    The global generator of torch draws the initial weights. ResNets of torchvision get the usual
    stem for small images: 3 x 3 with stride 1, no pooling. Other networks of torchvision get the
    images at the smallest size that they accept: unchanged, or enlarged to 32, 64, 96, 128 or 224
    pixels.

    Args:
        name: One of `NAMES` or a classification model of torchvision.
        channels: 1 for gray images, 3 for color.
        size: Height and width in pixels.
        classes: Number of logits.

    Raises:
        ValueError: The name is unknown.
        ModuleNotFoundError: The network needs torchvision, which is not installed.
    """
    if name in _BUILDERS:
        return _BUILDERS[name](channels=channels, classes=classes)
    network = _torchvision_network(name, classes)
    return nn.Sequential(FitImages(_smallest_size(network, size)), network)


def check(name: str) -> None:
    """Raises the exception that `build` would raise for this name, without building anything."""
    if name not in NAMES:
        _torchvision_with(name)


def _torchvision_with(name: str) -> Any:
    """Returns torchvision.models, after a check that it has a network of this name."""
    try:
        import torchvision.models as zoo  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "sparsetrain.experiments.networks.build: expected torchvision to be installed for a "
            f"network other than {', '.join(NAMES)}, got none. Run pip install torchvision"
        ) from error
    known = zoo.list_models(module=zoo)
    check_name("experiments.networks.build", "name", name, (*NAMES, *known))
    return zoo


def _torchvision_network(name: str, classes: int) -> nn.Module:
    zoo = _torchvision_with(name)
    extra: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):  # with auxiliary heads they return tuples
        extra = {"aux_logits": False, "init_weights": True}
    network: Any = zoo.get_model(name, weights=None, num_classes=classes, **extra)
    if isinstance(network, zoo.ResNet):
        network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
    return network  # type: ignore[no-any-return]


def _smallest_size(network: nn.Module, size: int) -> int:
    """The smallest of `size` and the larger `_LARGER_SIZES` at which `network` accepts an image."""
    network.eval()
    candidates = [size, *(larger for larger in _LARGER_SIZES if larger > size)]
    with torch.no_grad():
        while len(candidates) > 1:
            try:
                network(torch.zeros(1, 3, candidates[0], candidates[0]))
                break
            except (RuntimeError, AssertionError):  # the image is too small
                del candidates[0]
    network.train()
    return candidates[0]

"""The convolutions that benchmarks/conv.py times, and the groups of its summary."""

from dataclasses import dataclass

AUTO_DENSITIES = (1.0, 0.8, 0.5, 0.2, 0.05)


@dataclass(frozen=True)
class Layer:
    """A shape: x [batch, inputs, size, size], weight [outputs, inputs/groups, kernel, kernel]."""

    name: str
    group: str  # "3x3", "1x1", "stride2" or "other"
    batch: int
    inputs: int
    outputs: int
    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


def _same(name: str, group: str, batch: int, c: int, k: int, size: int, kernel: int = 3) -> Layer:
    """A layer whose output is as large as its input."""
    return Layer(name, group, batch, c, k, size, kernel, padding=kernel // 2)


# ResNet-18 on CIFAR at batch 32. ResNet and VGG on ImageNet, at batches of similar work.
LAYERS = (
    _same("resnet-cifar-64", "3x3", 32, 64, 64, 32),
    _same("resnet-cifar-128", "3x3", 32, 128, 128, 16),
    _same("resnet-cifar-256", "3x3", 32, 256, 256, 8),
    _same("resnet-cifar-512", "3x3", 32, 512, 512, 4),
    _same("resnet-64", "3x3", 8, 64, 64, 56),
    _same("resnet-128", "3x3", 8, 128, 128, 28),
    _same("resnet-256", "3x3", 8, 256, 256, 14),
    _same("resnet-512", "3x3", 8, 512, 512, 7),
    _same("vgg-64-128", "3x3", 2, 64, 128, 112),
    _same("vgg-256", "3x3", 2, 256, 256, 56),
    _same("vgg-512", "3x3", 4, 512, 512, 14),
    _same("1x1-64-256", "1x1", 8, 64, 256, 56, 1),
    _same("1x1-256-64", "1x1", 8, 256, 64, 56, 1),
    _same("1x1-512-2048", "1x1", 8, 512, 2048, 7, 1),
    Layer("resnet-cifar-64-128-s2", "stride2", 32, 64, 128, 32, 3, 2, 1),
    Layer("resnet-cifar-256-512-s2", "stride2", 32, 256, 512, 8, 3, 2, 1),
    Layer("resnet-64-128-s2", "stride2", 8, 64, 128, 56, 3, 2, 1),
    Layer("resnet-128-256-s2", "stride2", 8, 128, 256, 28, 3, 2, 1),
    _same("5x5-64", "other", 16, 64, 64, 28, 5),
    Layer("stem-7x7", "other", 4, 3, 64, 224, 7, 2, 3),
    Layer("stem-alexnet-11x11", "other", 8, 3, 64, 224, 11, 4, 2),
    Layer("depthwise-256", "other", 8, 256, 256, 28, 3, 1, 1, 1, 256),
    Layer("grouped-128-g4", "other", 8, 128, 128, 28, 3, 1, 1, 1, 4),
    Layer("dilated-128-d2", "other", 8, 128, 128, 28, 3, 1, 2, 2),
    _same("tiny-16", "other", 2, 16, 16, 8),
)

# Layers of --quick: each size of feature map, and each group.
QUICK = {
    "resnet-cifar-64",
    "resnet-cifar-256",
    "resnet-512",
    "vgg-512",
    "1x1-256-64",
    "1x1-512-2048",
    "resnet-cifar-256-512-s2",
    "resnet-64-128-s2",
    "5x5-64",
    "stem-alexnet-11x11",
    "depthwise-256",
    "dilated-128-d2",
}

# The densities in the summary, by group and pass.
DENSITIES = {
    ("3x3", "backward"): (0.3, 0.2, 0.1, 0.05),
    ("3x3", "forward"): (0.5, 0.3),
    ("1x1", "backward"): (0.2, 0.1),
    ("stride2", "backward"): (0.2, 0.1),
}
# The lines of the summary: group, pass, and origin of the zeros.
SUMMARIES = {
    "backward_3x3": ("3x3", "backward", "uniform"),
    "backward_3x3_recorded": ("3x3", "backward", "recorded"),
    "forward_3x3": ("3x3", "forward", "uniform"),
    "backward_1x1": ("1x1", "backward", "uniform"),
    "backward_stride2": ("stride2", "backward", "uniform"),
}

# Layers that are also timed with output gradients recorded in training.
RECORDED = {"resnet-cifar-64", "resnet-cifar-128", "resnet-cifar-256", "resnet-cifar-512"}

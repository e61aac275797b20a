"""Every family of torchvision's classification models is converted, trained a step and reverted."""

import copy

import pytest
import torch
import torchvision
from helpers.nets import anatomy, same
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sparsetrain import convert, describe, revert

# A small member of each family. 96 x 96 pixels are the smallest images that all of them accept.
FAMILIES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vgg11",
    "wide_resnet50_2",
]


def build(name):
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name == "inception_v3":  # its auxiliary classifier requires larger images
        options["aux_logits"] = False
    return torchvision.models.get_model(name, num_classes=10, **options)


def gradients(model):
    """The gradients of one training step; only the running statistics of the model change."""
    torch.manual_seed(1)  # for dropout and stochastic depth
    y = model(torch.randn(2, 3, 96, 96))
    y = y[0] if isinstance(y, tuple) else y  # the others are those of auxiliary classifiers
    model.zero_grad()
    y.square().mean().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


# Placements read by hand from torchvision's source. All other convolutions of these models precede
# a norm, and the gradient of their output is pruned.
DESCRIBED = {
    "alexnet": {"features.0": "none", **{f"features.{i}": "input" for i in (3, 6, 8, 10)}},
    "resnet18": {},
    # The classifier is a convolution too. The input of the first convolution has no gradient.
    "squeezenet1_1": {
        "features.0": "none",
        "classifier.1": "input",
        **{
            f"features.{i}.{part}": "input"
            for i in (3, 4, 6, 7, 9, 10, 11, 12)
            for part in ("squeeze", "expand1x1", "expand3x3")
        },
    },
    # The depthwise convolution of a block is its second; that of the first block is its first.
    "mobilenet_v2": {f"features.{i}.conv.{min(i - 1, 1)}.0": "none" for i in range(1, 18)},
    # The first convolution of a block is depthwise; the others of the model precede a norm.
    "convnext_tiny": {
        f"features.{stage}.{i}.block.0": "none"
        for stage, blocks in ((1, 3), (3, 3), (5, 9), (7, 3))
        for i in range(blocks)
    },
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_describe_shows_the_placements_read_by_hand(name):
    model = convert(build(name))
    convolutions = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    wanted = {n: DESCRIBED[name].get(n, "output") for n in convolutions}
    assert {row.name: row.placement for row in describe(model)} == wanted
    assert set(DESCRIBED[name]) <= set(convolutions)


class ComparedWithDense(TorchDispatchMode):
    """Runs every convolution operator on both backends, and compares the results.

    Each result is a sum of n products. Added in any order in float32, it differs from the exact sum
    by at most n u / (1 - n u) times the sum of magnitudes, with u = 2^-24. Two such sums differ by
    at most twice that. A third time covers the rounding errors of the sum of magnitudes.
    """

    def __init__(self):
        super().__init__()
        self.forward = self.backward = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        if func.name() == "sparsetrain::conv2d":
            self.forward += 1
            terms, args = [args[1][0].numel() + 1], args[:7]  # without the backend
        elif func.name() == "sparsetrain::conv2d_backward":
            self.backward += 1
            dy, weight, groups = args[0], args[2], args[6]
            positions = dy.numel() // dy.shape[1]
            terms = [weight.numel() // weight.shape[1] // groups, positions, positions]
            args = args[:8]  # without the backend
        else:
            return results
        magnitudes = [a.abs() if isinstance(a, torch.Tensor) else a for a in args]
        dense, scales = func(*args, backend="dense"), func(*magnitudes, backend="dense")
        for candidates in (results, func(*args, backend="sparse")):
            for n, value, expected, scale in zip(
                terms, *map(listed, (candidates, dense, scales)), strict=True
            ):
                nu = n * 2.0**-24
                assert ((value - expected).abs() <= 3 * nu / (1 - nu) * scale).all()
        return results


def listed(results):
    return [results] if isinstance(results, torch.Tensor) else list(results)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_unpruned_family_has_the_gradients_of_the_plain_model(name):
    plain = build(name)
    model = copy.deepcopy(plain)
    before = anatomy(model)
    convert(model, 0, backend="dense")
    assert not any("registration order" in row.reason for row in describe(model))
    assert same(gradients(plain), gradients(model))
    assert anatomy(revert(model)) == before
    assert same(list(plain.state_dict().values()), list(model.state_dict().values()))

    convert(model, 0)
    with ComparedWithDense() as compared:
        gradients(model)
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert compared.forward == len(weights)
    assert compared.backward == sum(weight.grad is not None for weight in weights)

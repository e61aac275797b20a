"""Every family of torchvision's classification models: converted, trained a step, reverted."""

import copy

import pytest
import torch
import torchvision
from helpers.nets import anatomy, same
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sparsetrain import convert, describe, revert

# A small member of each; images of 96 x 96 are the smallest that all of them take.
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
    if name == "inception_v3":  # its auxiliary classifier takes larger images only
        options["aux_logits"] = False
    return torchvision.models.get_model(name, num_classes=10, **options)


def gradients(model):
    """Those of one training step; weights stay, and running statistics move alike in each call."""
    torch.manual_seed(1)  # dropout and stochastic depth draw the same
    y = model(torch.randn(2, 3, 96, 96))
    y = y[0] if isinstance(y, tuple) else y  # beside it the outputs of auxiliary classifiers
    model.zero_grad()
    y.square().mean().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


# By hand in torchvision's source; their other convolutions are before a BatchNorm.
DESCRIBED = {
    "alexnet": {"features.0": "none", **{f"features.{i}": "input" for i in (3, 6, 8, 10)}},
    "resnet18": {},
    # The classifier is a convolution; before the first one there is nothing to prune.
    "squeezenet1_1": {
        "features.0": "none",
        "classifier.1": "input",
        **{
            f"features.{i}.{part}": "input"
            for i in (3, 4, 6, 7, 9, 10, 11, 12)
            for part in ("squeeze", "expand1x1", "expand3x3")
        },
    },
    # The first block does not expand: its depthwise convolution comes first, then second.
    "mobilenet_v2": {f"features.{i}.conv.{min(i - 1, 1)}.0": "none" for i in range(1, 18)},
    # The three downsampling ones and the stem are before a norm.
    "convnext_tiny": {
        f"features.{stage}.{i}.block.0": "none"
        for stage, blocks in ((1, 3), (3, 3), (5, 9), (7, 3))
        for i in range(blocks)
    },
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_described_placements_are_those_by_hand(name):
    model = convert(build(name))
    convolutions = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    wanted = {n: DESCRIBED[name].get(n, "output") for n in convolutions}
    assert {row.name: row.placement for row in describe(model)} == wanted
    assert set(DESCRIBED[name]) <= set(convolutions)


class HeldToDense(TorchDispatchMode):
    """Runs every convolution of ours on both paths too, and holds its result to the dense one.

    Each result is a sum of n products and a bias; added up in any order in float32 it lies within
    n u / (1 - n u) of the exact one, u = 2^-24, in units of the same sum over magnitudes. Two such
    sums lie within twice that of each other, and once more covers the rounding of the magnitudes.
    """

    def __init__(self):
        super().__init__()
        self.forward = self.backward = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        if func.name() == "sparsetrain::conv2d":
            self.forward += 1
            terms = [args[1][0].numel() + 1]
        elif func.name() == "sparsetrain::conv2d_backward":
            self.backward += 1
            dy, weight, groups = args[0], args[2], args[6]
            positions = dy.numel() // dy.shape[1]
            terms = [weight.numel() // weight.shape[1] // groups, positions, positions]
        else:
            return results
        magnitudes = [a.abs() if isinstance(a, torch.Tensor) else a for a in args]
        dense, scales = func(*args, backend="dense"), func(*magnitudes, backend="dense")
        for ours in (results, func(*args, backend="sparse")):
            for n, one, other, scale in zip(
                terms, *map(listed, (ours, dense, scales)), strict=True
            ):
                nu = n * 2.0**-24
                assert ((one - other).abs() <= 3 * nu / (1 - nu) * scale).all()
        return results


def listed(results):
    return [results] if isinstance(results, torch.Tensor) else list(results)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_that_prunes_nothing_has_its_own_gradients(name):
    plain = build(name)
    model = copy.deepcopy(plain)
    before = anatomy(model)
    convert(model, 0, backend="dense")
    assert not any("registration order" in row.reason for row in describe(model))
    assert same(gradients(plain), gradients(model))
    assert anatomy(revert(model)) == before
    assert same(list(plain.state_dict().values()), list(model.state_dict().values()))

    convert(model, 0)
    with HeldToDense() as held:
        gradients(model)
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert held.forward == len(weights)
    assert held.backward == sum(weight.grad is not None for weight in weights)

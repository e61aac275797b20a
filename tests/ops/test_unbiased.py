"""Pruned weight gradients are unbiased: their mean over many draws is the dense gradient."""

import copy

import pytest
import torch
from scipy.stats import t as student
from torch import nn
from torch.nn.functional import cross_entropy

from sparsetrain import convert
from sparsetrain.experiments.networks import PlainNet, ResidualBlock

DRAWS, PROJECTIONS = 600, 16
FALSE_ALARM = 1e-6  # probability that any test of this file fails by chance


def residual_net() -> nn.Module:
    """Residual blocks with batch normalization: one of equal sizes, one with a strided shortcut."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        ResidualBlock(4, 4),
        ResidualBlock(4, 8, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


def plain_net() -> nn.Module:
    net = PlainNet(channels=1, classes=10, width=4)
    net.dropout.p = 0.0  # dropout masks would add noise
    return net


def gradients(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """The gradient of every parameter, flattened, in float64."""
    model.zero_grad()
    cross_entropy(model(images), labels).backward()
    return [p.grad.flatten().double() for p in model.parameters()]


@pytest.mark.parametrize("rule", [{"rate": 0.9}, {"density": 0.2}], ids=["rate", "density"])
@pytest.mark.parametrize("net", [residual_net, plain_net])
def test_mean_pruned_weight_gradients_are_the_dense_ones(net, rule):
    """Compares 16 fixed random projections of each layer, in units of their standard error.

    The limit is Student's quantile with Bonferroni's correction for all projections, layers and
    cases. A layer's gradient is computed from the pruned gradients of later layers. Each pruning is
    unbiased given its input and the backward pass is linear, so the whole must be unbiased.
    """
    torch.manual_seed(0)
    dense = net()
    images, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    exact = gradients(dense, images, labels)
    directions = [torch.randn(PROJECTIONS, g.numel(), dtype=torch.float64) for g in exact]
    pruned = convert(copy.deepcopy(dense), **rule)
    for _ in range(4):  # until the history is full
        gradients(pruned, images, labels)
    drawn = torch.stack(
        [
            torch.stack([d @ g for d, g in zip(directions, drawn, strict=True)])
            for drawn in (gradients(pruned, images, labels) for _ in range(DRAWS))
        ]
    )  # [draws, parameters, projections]
    wanted = torch.stack([d @ g for d, g in zip(directions, exact, strict=True)])
    deviation, error = drawn.mean(0) - wanted, drawn.std(0) / DRAWS**0.5
    random = error > 1e-4 * wanted.abs().mean()
    names = [name for name, _ in dense.named_parameters()]
    convolutions = [i for i, p in enumerate(dense.parameters()) if p.dim() == 4]
    if net is plain_net:  # it prunes gradients of inputs: its last convolution gets an unpruned one
        convolutions.pop()
    assert random[convolutions].all(), "pruning must change the gradient of every layer"
    cases, tests = 4, random.numel()
    most = student.ppf(1 - FALSE_ALARM / (2 * cases * tests), DRAWS - 1)
    scores = torch.where(random, deviation / error, 0).abs().amax(1)
    assert max(scores) < most, dict(zip(names, scores.tolist(), strict=True))
    assert (deviation.abs()[~random] <= 1e-3 * wanted.abs().mean()).all()

"""Runs the command line in this process, and small models for its MODEL argument."""

from click.testing import CliRunner
from torch import nn

from sparsetrain.__main__ import main

MODULE = __name__
TINY = [f"{MODULE}:tiny", "--input-shape", "3,8,8", "--batch-size", "2"]
"""MODEL and options of a training step that is estimated and simulated in milliseconds."""


def run(*arguments):
    """The result of `sparsetrain ARGUMENTS`: exit_code and output."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def tiny():
    """Two convolutions, named 0 and 2, and a linear layer, named 4."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1), nn.Flatten(),
        nn.Linear(4 * 64, 5),
    )  # fmt: skip


def without_convolution():
    return nn.Linear(3, 3)


def frozen():
    return tiny().requires_grad_(False)


def with_norm():
    """A model that refuses a batch of one image of one pixel."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def exits():
    raise SystemExit(0)


class RaisesKeyError(nn.Conv2d):
    """A model that fails with an exception that no torch operator raises."""

    def __init__(self):
        super().__init__(3, 4, 3)

    def forward(self, x):
        raise KeyError("mask")

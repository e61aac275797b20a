"""A small network with a stand-in for a pruner, and the recording of one of its training steps."""

import torch
from torch import nn

from sparsetrain import accel


class Halved(torch.autograd.Function):
    """Identity whose backward zeroes every second column, in place of a pruner."""

    @staticmethod
    def forward(_ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(_ctx, grad):
        grad = grad.clone()
        grad[..., ::2] = 0
        return grad


class Net(nn.Module):
    """Takes images [N, 3, H, W]; its convolutions are named a and b."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, (1, 3), stride=(1, 2), padding=(0, 1), groups=2)

    def forward(self, x):
        return self.b(torch.relu(Halved.apply(self.a(x))))


def recorded_step(model, x):
    """The workload of a training step of the model on x."""
    with accel.record(model) as recording:
        model(x).square().sum().backward()
    return recording.workload()

"""Small networks, one training step of them, and comparisons."""

import pytest
import torch
from torch import nn

from sparsetrain import PruneGrad, convert

# Arguments of convolutions with 4 input channels.
CONFIGURATIONS = [
    dict(kernel_size=3),
    dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    dict(kernel_size=3, padding=1, groups=2),
    dict(kernel_size=3, padding=1, groups=4, bias=False),
    dict(kernel_size=3, padding="valid"),
    dict(kernel_size=(3, 2), padding="same", dilation=2),
    *(
        dict(kernel_size=3, padding=padding, padding_mode=mode)
        for mode in ("reflect", "replicate", "circular")
        for padding in (1, (2, 1), "same", "valid")
    ),
]


def small_net():
    """One convolution of each kind: first layer, before a norm, before a ReLU, depthwise."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


# Names of the convolutions of small_net(), and the placements that convert() chooses for them.
NAMES = ["0", "2", "6", "8"]
PLACEMENTS = ["none", "output", "input", "none"]


def step(model, seed, batch=4):
    """The parameters' gradients of one training step on random images."""
    x = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    model.zero_grad()
    model(x).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


def same(first, second):
    """Whether two lists hold bit-equal tensors."""
    return len(first) == len(second) and all(map(torch.equal, first, second))


def message(kind, call):
    """The message of the exception, of type `kind`, that `call` must raise."""
    with pytest.raises(kind) as error:
        call()
    return str(error.value)


def pruner_states(model):
    """The state of every pruner in a model."""
    return [m.state for m in model.modules() if isinstance(m, PruneGrad)]


def anatomy(model):
    """Types, identities and attributes of all modules, to show that nothing changed."""
    parts = {}
    for name, module in model.named_modules():
        attributes = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        inner = {k: dict(v) for k, v in vars(module).items() if k in ("_parameters", "_modules")}
        keys = list(vars(module))
        parts[name] = (type(module), id(module), keys, attributes, inner)
    return parts


def density(tensor):
    """Nonzeros / elements."""
    return (tensor != 0).double().mean().item()


def trained(steps, model=None, optimizer=None, first=0):
    """A model and its optimizer after some training steps, of which the first has seed `first`."""
    model = model or convert(small_net(), 0.9, history=2)
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    for i in range(first, first + steps):
        step(model, i)
        optimizer.step()
    return model, optimizer

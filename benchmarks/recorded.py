"""Output gradients of real convolutions, recorded while ResNet-18 trains, pruned to a density."""

from collections.abc import Callable, Iterable

import torch
from layers import Layer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

import sparsetrain
from sparsetrain.experiments import datasets, networks

BATCH, SIZE = 32, 32  # of the resnet-cifar layers


def record(layers: Iterable[Layer], steps: int, advance: Callable[[], None]) -> dict[str, Tensor]:
    """The gradient [N, K, P, Q] of the first convolution of each layer's shape, by layer name.

    Trains on the shipped Fashion-MNIST images, enlarged and in three equal channels; the gradients
    are those of the step after `steps`. advance is called once a step.
    """
    torch.manual_seed(0)
    data = datasets.load("fashion-mnist", None)
    model = networks.build("resnet18", channels=3, size=SIZE, classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    gradients: dict[str, Tensor] = {}
    for step in range(steps + 1):
        if step == steps:
            _watch(model, layers, gradients)
        at = torch.arange(step * BATCH, (step + 1) * BATCH) % len(data.train)
        x, labels = data.batch(at, datasets.stream(step))
        x = interpolate(x, size=(SIZE, SIZE), mode="bilinear").expand(-1, 3, -1, -1).contiguous()
        optimizer.zero_grad()
        cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        advance()
    return gradients


def pruned(grad: Tensor, density: float) -> Tensor:
    """`grad` pruned by the method's rule to `density` (nonzeros / elements), or as it is if that is
    already lower."""
    magnitude = grad.abs().double()
    low, high = 0.0, magnitude.max().item() / max(density, 1e-3)
    for _ in range(40):  # halves until the expected density, mean of min(1, |g| / t), is met
        threshold = (low + high) / 2
        expected = (magnitude / threshold).clamp(max=1).mean().item()
        low, high = (threshold, high) if expected > density else (low, threshold)
    return sparsetrain.prune(grad, high, seed=0)


def _watch(model: nn.Module, layers: Iterable[Layer], gradients: dict[str, Tensor]) -> None:
    """Makes the next step keep the output gradient of one convolution for each layer."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            output.register_hook(lambda grad: gradients.__setitem__(name, grad.contiguous()))

        return hook

    for layer in layers:
        shape = (layer.inputs, layer.outputs, layer.kernel, layer.stride)
        for m in convolutions:
            if (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) == shape:
                m.register_forward_hook(keep(layer.name))
                break

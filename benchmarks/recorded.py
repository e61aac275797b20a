"""Gradients of convolutions recorded while ResNet-18 trains, for benchmarks/conv.py."""

from collections.abc import Callable, Iterable

import torch
from layers import Layer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

import sparsetrain
from sparsetrain.experiments import datasets, networks

BATCH, SIZE = 32, 32  # those of the layers resnet-cifar-*


def record(layers: Iterable[Layer], steps: int, advance: Callable[[], None]) -> dict[str, Tensor]:
    """Trains ResNet-18 on the shipped Fashion-MNIST images and records gradients of outputs.

    The images are enlarged to 32 x 32 pixels and repeated in three channels.

    Args:
        layers: The shapes whose gradients are needed.
        steps: Training steps before the recorded one.
        advance: Called after each step.

    Returns:
        By the name of the layer, the gradient [N, K, P, Q] of the output of the network's first
        convolution of that shape.
    """
    torch.manual_seed(0)
    data = datasets.load("fashion-mnist", None)
    model = networks.build("resnet18", channels=3, size=SIZE, classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    gradients: dict[str, Tensor] = {}
    for step in range(steps + 1):
        if step == steps:
            _record_next_step(model, layers, gradients)
        indices = torch.arange(step * BATCH, (step + 1) * BATCH) % len(data.train)
        x, labels = data.batch(indices, datasets.stream(step))
        x = interpolate(x, size=(SIZE, SIZE), mode="bilinear").expand(-1, 3, -1, -1).contiguous()
        optimizer.zero_grad()
        cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        advance()
    return gradients


def pruned(grad: Tensor, density: float) -> Tensor:
    """`grad` pruned to `density`, or with its own density if that is lower."""
    magnitude = grad.abs().double()
    low, high = 0.0, magnitude.max().item() / max(density, 1e-3)
    # Bisects for the threshold t with the expected density mean(min(1, |g| / t)) == density.
    for _ in range(40):
        threshold = (low + high) / 2
        expected = (magnitude / threshold).clamp(max=1).mean().item()
        low, high = (threshold, high) if expected > density else (low, threshold)
    return sparsetrain.prune(grad, high, seed=0)


def _record_next_step(
    model: nn.Module, layers: Iterable[Layer], gradients: dict[str, Tensor]
) -> None:
    """Registers hooks that store the gradient of one convolution for each layer."""
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

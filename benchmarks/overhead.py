"""Times calls of a layer so small that they are almost all overhead: conv2d, a layer, F.conv2d.

Run it as `python benchmarks/overhead.py`, alternately on the two versions that are compared. It
prints medians in microseconds, one thread, of a convolution [1, 8, 8, 8] with eight 3 x 3 filters.
"""

import time
from collections.abc import Callable
from statistics import median

import click
import torch
import torch.nn.functional as F
from torch import Tensor

import sparsetrain


def operands() -> tuple[Tensor, Tensor, Tensor]:
    """x [1, 8, 8, 8] and w [8, 8, 3, 3], which require gradients, and dy [1, 8, 8, 8]."""
    generator = torch.Generator().manual_seed(0)
    x, w, dy = (
        torch.randn(size, generator=generator)
        for size in ((1, 8, 8, 8), (8, 8, 3, 3), (1, 8, 8, 8))
    )
    return x.requires_grad_(), w.requires_grad_(), dy


def cases() -> dict[str, Callable[[], object]]:
    """What is timed, by name: forward alone, forward and backward, and steps of whole layers."""
    x, w, dy = operands()
    convolutions = {"torch": lambda: F.conv2d(x, w, padding=1)}
    for backend in ("auto", "sparse", "dense"):
        convolutions[f"conv2d {backend}"] = lambda backend=backend: sparsetrain.conv2d(
            x, w, padding=1, backend=backend
        )
    layers = {"nn.Conv2d": torch.nn.Conv2d(8, 8, 3, padding=1)}
    for backend in ("auto", "sparse"):
        layers[f"SparseConv2d {backend}"] = sparsetrain.SparseConv2d(
            8, 8, 3, padding=1, backend=backend, rate=0.9, seed=1
        )
    timed: dict[str, Callable[[], object]] = {}
    for name, call in convolutions.items():
        timed[f"{name}: forward"] = call
        timed[f"{name}: step"] = lambda call=call: torch.autograd.grad(call(), (x, w), dy)
    for name, layer in layers.items():
        timed[f"{name}: step"] = lambda layer=layer: torch.autograd.grad(
            layer(x), (x, layer.weight, layer.bias), dy
        )
    return timed


@click.command()
@click.option("--calls", default=5000, show_default=True, type=click.IntRange(1),
              help="Timed calls of each case.")  # fmt: skip
def main(calls: int) -> None:
    """Time all cases in turn and print the median time of each."""
    torch.set_num_threads(1)
    timed = cases()
    for call in timed.values():
        for _ in range(100):
            call()
    nanoseconds: dict[str, list[int]] = {name: [] for name in timed}
    for _ in range(calls):
        for name, call in timed.items():
            begin = time.perf_counter_ns()
            call()
            nanoseconds[name].append(time.perf_counter_ns() - begin)
    for name, times in nanoseconds.items():
        click.echo(f"{name:28} {median(times) / 1e3:7.2f} us")


if __name__ == "__main__":
    main()

"""Peak memory of a training step: dense, and converted on the sparse kernels, with its bound.

What torch's allocator hands out from the first of 6 steps on, scratch included, weights not: batch
32, random images of 32 x 32 pixels. A process each, so that no scratch waits there from the other.
The bound is that of docs/kernels.md.
"""

from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch
from measure import machine, write_json
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from sparsetrain import convert
from sparsetrain.experiments import networks

MIB = 2**20
BATCH, SIZE = 32, 32


def build(model: str) -> tuple[nn.Module, Tensor]:
    """The network for ten classes, and a batch."""
    torch.manual_seed(0)
    network = networks.build(model, channels=3, size=SIZE, classes=10)
    return network, torch.randn(BATCH, 3, SIZE, SIZE)


def peak_bytes(model: str, rate: float | None, threads: int) -> int:
    """The most that was allocated at once in steps of a network, converted at `rate` if given."""
    torch.set_num_threads(threads)
    network, x = build(model)
    if rate is not None:
        convert(network, rate, backend="sparse")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    labels = torch.zeros(BATCH, dtype=torch.int64)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        for _ in range(6):
            optimizer.zero_grad()
            cross_entropy(network(x), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    results = profiled.profiler.kineto_results  # type: ignore[union-attr]
    changes = [e for e in results.events() if e.name() == "[memory]"]
    held = accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns()))
    return max(held)


def bound_bytes(model: str, threads: int) -> int:
    """docs/kernels.md: two blocks of the largest scratch, and the largest pruned gradient."""
    network, x = build(model)
    scratch, gradients = [0], [0]

    def see(conv: nn.Module, _: object, y: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        r, s = conv.kernel_size
        packed = r * s * (conv.out_channels + 80) * 64 * 4
        lists = 2 * (8 * y.numel() + y.numel() // 2)
        scratch.append(lists + threads * (packed + MIB) + MIB)
        gradients.append(y.nbytes)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(see)
    network(x)
    return 2 * max(scratch) + max(gradients)


@click.command(help=__doc__)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="write the results here")
@click.option("--model", default="resnet18", show_default=True, help="a network of float32")
@click.option("--rate", default=0.9, show_default=True, type=click.FloatRange(0, 1, max_open=True))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1))
def main(json_path: Path | None, model: str, rate: float, threads: int) -> None:
    """See the module."""
    peaks = []
    for one in (None, rate):
        with get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(peak_bytes, (model, one, threads)))
    row: dict[str, Any] = {
        "model": model,
        "rate": rate,
        "dense_mib": peaks[0] / MIB,
        "converted_mib": peaks[1] / MIB,
        "extra_mib": (peaks[1] - peaks[0]) / MIB,
        "bound_mib": bound_bytes(model, threads) / MIB,
    }
    Console().print(
        f"{model}, batch {BATCH} of {SIZE} x {SIZE}: {row['dense_mib']:.0f} MiB dense, "
        f"{row['converted_mib']:.0f} converted: {row['extra_mib']:.1f} more, "
        f"of at most {row['bound_mib']:.1f}"
    )
    write_json(json_path, {"machine": machine(threads), "rows": [row]})


if __name__ == "__main__":
    main()

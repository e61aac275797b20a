"""Measures the peak memory of a training step of a network, dense and on backend `sparse`.

    python benchmarks/memory.py [--model NAME] [--rate R] [--json FILE]

Counts the bytes that PyTorch's allocator holds during 6 steps with a batch of 32 random images of
32 x 32 pixels. This includes the scratch memory of the kernels and excludes the weights. The
baseline is the network without conversion, in a process of its own. The difference is printed
beside its bound, which docs/kernels.md derives.
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
    """The network for ten classes, and a batch of images."""
    torch.manual_seed(0)
    network = networks.build(model, channels=3, size=SIZE, classes=10)
    return network, torch.randn(BATCH, 3, SIZE, SIZE)


def peak_bytes(model: str, rate: float | None, threads: int) -> int:
    """The most bytes that 6 steps hold at once; `rate` is None for the dense network."""
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
    held_bytes = accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns()))
    return max(held_bytes)


def bound_bytes(model: str, threads: int) -> int:
    """The bound in docs/kernels.md: twice the largest scratch block, and the largest gradient."""
    network, x = build(model)
    scratch, gradients = [0], [0]

    def measure(conv: nn.Module, _: object, y: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        r, s = conv.kernel_size
        packed = r * s * (conv.out_channels + 80) * 64 * 4
        lists = 2 * (8 * y.numel() + y.numel() // 2)
        scratch.append(lists + threads * (packed + MIB) + MIB)
        gradients.append(y.nbytes)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(measure)
    network(x)
    return 2 * max(scratch) + max(gradients)


@click.command(help=__doc__)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file."
)
@click.option("--model", default="resnet18", show_default=True, help="Name of the network.")
@click.option("--rate", default=0.9, show_default=True, type=click.FloatRange(0, 1, max_open=True),
              help="Pruning rate of the converted network.")  # fmt: skip
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1),
              help="Threads of all operators. The scratch memory depends on them.")  # fmt: skip
def main(json_path: Path | None, model: str, rate: float, threads: int) -> None:
    """Measures both networks, prints the difference and writes the file."""
    peaks = []
    for used_rate in (None, rate):
        with get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(peak_bytes, (model, used_rate, threads)))
    row: dict[str, Any] = {
        "model": model,
        "rate": rate,
        "dense_mib": peaks[0] / MIB,
        "converted_mib": peaks[1] / MIB,
        "extra_mib": (peaks[1] - peaks[0]) / MIB,
        "bound_mib": bound_bytes(model, threads) / MIB,
    }
    Console().print(
        f"{model}, batch {BATCH}, {SIZE} x {SIZE} pixels: dense {row['dense_mib']:.0f} MiB, "
        f"converted {row['converted_mib']:.0f} MiB. The difference is {row['extra_mib']:.1f} MiB, "
        f"its bound {row['bound_mib']:.1f} MiB."
    )
    write_json(json_path, {"machine": machine(threads), "rows": [row]})


if __name__ == "__main__":
    main()

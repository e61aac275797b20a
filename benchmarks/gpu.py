"""Times pruning, convolutions and training steps on a GPU.

    python benchmarks/gpu.py [--costs FILE] [--batch N] [--json FILE] [--text FILE]

Measures medians of the GPU's clock; all calls of a row run in turn. The baseline of pruning is a
copy (`torch.clone`). That of the convolutions is cuDNN, which first selects its fastest algorithm.
That of a training step is ResNet-50 without conversion. Every row names its precision: fp32 (TF32
off), tf32 or bf16. `make bench-gpu` runs this program. Without a GPU the exit code is 2.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from measure import geomean, progress, write_json
from rich.console import Console
from rich.table import Table
from torch import nn
from torchvision.models import resnet50

from sparsetrain import accel, convert, set_costs
from sparsetrain.tuning.cuda import nanoseconds

PRUNED = (1 << 20, 1 << 23, 50_000_000)
DENSITIES = (0.2, 0.1, 0.05, 0.02)
LAYERS = (  # channels and size of 3x3 layers, at batch 64
    (64, 56), (128, 28), (256, 14), (512, 7), (64, 112), (128, 56), (256, 56), (512, 28),
)  # fmt: skip
BACKENDS = {"dense_ms": "dense", "sparse_ms": "sparse", "cusparse_ms": "cusparse"}
MODES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
ROUNDS = 21
DEVICE, IMAGE = "cuda", 224


def milliseconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The median time of each call by the GPU's clock, after rounds that warm up."""
    return [ns / 1e6 for ns in nanoseconds(calls, ROUNDS)]


@contextmanager
def precision(mode: str) -> Iterator[torch.dtype]:
    """Turns TF32 on or off in cuDNN and cuBLAS, and yields the data type of the operands."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"
    try:
        yield MODES[mode]
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def machine() -> dict[str, Any]:
    """The GPU, and the versions of the libraries that run on it."""
    device = torch.cuda.get_device_properties(0)
    return {
        "gpu": device.name,
        "multiprocessors": device.multi_processor_count,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def prune_row(elements: int, dtype: torch.dtype) -> dict[str, Any]:
    """The row of pruning a tensor of one size and data type."""
    grad = torch.randn(elements, device=DEVICE).to(dtype)
    threshold = torch.tensor(2.5, dtype=torch.float64, device=DEVICE)
    rng = torch.tensor([1, 0], device=DEVICE)
    clone, prune = milliseconds(
        [grad.clone, lambda: torch.ops.sparsetrain.prune(grad, threshold, rng)]
    )
    name = str(dtype).removeprefix("torch.")
    return {
        "dtype": name,
        "elements": elements,
        "clone_ms": clone,
        "prune_ms": prune,
        "share": clone / prune,
    }


def conv_rows(channels: int, size: int, mode: str) -> Iterator[dict[str, Any]]:
    """The rows of both gradients of one layer, for each density, with the times of all backends."""
    with precision(mode) as dtype:
        x = torch.randn(64, channels, size, size, device=DEVICE, dtype=dtype)
        w = torch.randn(channels, channels, 3, 3, device=DEVICE, dtype=dtype)
        x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
        rest = ([1, 1], [1, 1], [1, 1], 1, [True, True, False])
        backward = torch.ops.sparsetrain.conv2d_backward
        for density in DENSITIES:
            dy = torch.randn_like(x) * (torch.rand_like(x) < density)
            times = milliseconds(
                [lambda b=b, dy=dy: backward(dy, x, w, *rest, b) for b in BACKENDS.values()]
            )
            yield {
                "precision": mode,
                "channels": channels,
                "size": size,
                "density": density,
                **dict(zip(BACKENDS, times, strict=True)),
                "speedup": times[0] / times[1],
            }


def step_row(mode: str, batch: int) -> dict[str, Any]:
    """The row of a training step of ResNet-50 in one precision, with the times of all variants."""

    def make(**options: Any) -> nn.Module:
        torch.manual_seed(0)
        model = resnet50()
        model = convert(model, 0.9, **options) if options else model
        return model.to(DEVICE, memory_format=torch.channels_last)

    models = [make(), make(backend="dense"), make(backend="dense", measure_every=1)]
    models.append(make(backend="auto", measure_every=1))
    x = torch.randn(batch, 3, IMAGE, IMAGE, device=DEVICE).to(memory_format=torch.channels_last)

    def step(model: nn.Module) -> None:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=mode == "bf16"):
            loss = model(x).float().square().mean()
        loss.backward()
        model.zero_grad()

    def recorded() -> None:
        with accel.record(models[2], images=1):
            step(models[2])

    with precision(mode):
        calls = [*(lambda m=m: step(m) for m in models), recorded]
        names = ("plain_ms", "pruned_ms", "measured_ms", "auto_ms", "recorded_ms")
        return {
            "precision": mode,
            "batch": batch,
            **dict(zip(names, milliseconds(calls), strict=True)),
        }


def tables(content: dict[str, Any]) -> list[Table]:
    """A table of all fields for each list of rows."""
    made = []
    for part in ("prune", "backward", "step"):
        table = Table(*content[part][0], title=part)
        for row in content[part]:
            table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
        made.append(table)
    return made


@click.command(help=__doc__)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file."
)
@click.option("--text", "text_path", type=click.Path(path_type=Path),
              help="Write the tables to this file instead of printing them.")  # fmt: skip
@click.option("--costs", type=click.Path(path_type=Path),
              help="Cost table of `auto`, which `sparsetrain tune` wrote.")  # fmt: skip
@click.option("--batch", default=128, show_default=True, help="Images in the training step.")
def main(json_path: Path | None, text_path: Path | None, costs: Path | None, batch: int) -> None:
    """Times everything and writes the tables and the file."""
    if not torch.cuda.is_available():
        click.echo("benchmarks/gpu.py: expected a GPU that torch can use, got none", err=True)
        sys.exit(2)
    torch.backends.cudnn.benchmark = True
    if costs:
        set_costs(costs)
    content: dict[str, Any] = {
        "machine": machine(),
        "prune": [],
        "backward": [],
        "step": [],
    }
    with progress() as bar:
        task = bar.add_task("cuda", total=2 * len(PRUNED) + len(MODES) * (len(LAYERS) + 1))
        for dtype in (torch.float32, torch.bfloat16):
            for elements in PRUNED:
                content["prune"].append(prune_row(elements, dtype))
                bar.advance(task)
        for mode in MODES:
            for channels, size in LAYERS:
                content["backward"] += conv_rows(channels, size, mode)
                bar.advance(task)
            content["step"].append(step_row(mode, batch))
            bar.advance(task)
    content["summary"] = {
        f"{mode} {density}": geomean(
            row["speedup"]
            for row in content["backward"]
            if (row["precision"], row["density"]) == (mode, density)
        )
        for mode in MODES
        for density in DENSITIES
    }
    with open(text_path, "w") if text_path else sys.stdout as out:
        for table in tables(content):
            Console(file=out, width=100).print(table)
    write_json(json_path, content)


if __name__ == "__main__":
    main()

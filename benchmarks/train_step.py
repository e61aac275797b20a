"""Times training steps of whole networks converted with pruning against the dense networks.

    python benchmarks/train_step.py [--quick] [--threads N] [--steps N] [--json FILE]

Measures medians of wall-clock time of a step: forward, backward and optimizer. All models run in
turn. Each network is first converted and trained for --steps steps on images of Fashion-MNIST or
CIFAR-10, which are enlarged to its input size. The baseline is the network without conversion,
with equal weights. Both run in both memory formats, and the faster format of each counts.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from measure import interleaved, machine, progress, settle_allocator, write_json
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

import sparsetrain
from sparsetrain.experiments import datasets, networks


@dataclass(frozen=True)
class Job:
    """A network, the size of its images, its batch size and the pruning rates to time."""

    model: str
    size: int
    batch: int
    rates: tuple[float, ...]

    def build(self) -> nn.Module:
        """The network for three channels and ten classes."""
        model = networks.build(self.model, channels=3, size=self.size, classes=10)
        if self.model.startswith("vgg") and self.size == 32:
            # On CIFAR, VGG has one linear layer instead of ImageNet's 120 million weights.
            network = model[1]
            network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 10)
        return model


JOBS = (
    Job("resnet18", 32, 32, (0.9, 0.0)),
    Job("vgg16_bn", 32, 32, (0.9,)),
    Job("alexnet", 224, 16, (0.9,)),
)


def batches(job: Job, data: datasets.Dataset) -> Callable[[int], tuple[Tensor, Tensor]]:
    """A function of the step: images, float32 [batch, 3, size, size], and labels, int64 [batch]."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        indices = torch.arange(step * job.batch, (step + 1) * job.batch) % len(data.train)
        x, labels = data.batch(indices, datasets.stream(step))
        x = interpolate(x, size=(job.size, job.size), mode="bilinear")
        return x.expand(-1, 3, -1, -1).contiguous(), labels

    return batch


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> None:
    """One training step."""
    optimizer.zero_grad()
    cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, at a rate at which networks without batch normalization train too."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def mean(values: list[float | None]) -> float | None:
    """The mean of the values that are not None; None without any."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def time_job(job: Job, rate: float, batch: Callable[[int], tuple[Tensor, Tensor]], steps: int,
             repeats: int, advance: Callable[[], None]) -> dict[str, Any]:  # fmt: skip
    """Trains a network at `rate` for `steps` steps, then times both networks in both formats."""
    torch.manual_seed(0)
    dense = job.build()
    sparse = sparsetrain.convert(copy.deepcopy(dense), rate=rate, measure_every=1)
    optimizer = optimizer_of(sparse)
    for i in range(steps):
        step(sparse, optimizer, *batch(i))
        advance()
    measured = sparsetrain.stats(sparse)
    dense.load_state_dict(sparse.state_dict())
    sparse = sparsetrain.convert(sparse, rate=rate)
    x, labels = batch(steps)
    calls = []
    for model in (dense, sparse):
        for layout in (torch.contiguous_format, torch.channels_last):
            copied = copy.deepcopy(model).to(memory_format=layout)
            arguments = (copied, optimizer_of(copied), x.to(memory_format=layout), labels)
            for _ in range(5):  # pruning begins when the history has 4 thresholds
                step(*arguments)
            calls.append(partial(step, *arguments))
    ms = [1e3 * s for s in interleaved(calls, repeats)]
    return {
        "model": job.model,
        "rate": rate,
        "dense_ms": min(ms[:2]),
        "sparse_ms": min(ms[2:]),
        "speedup": min(ms[:2]) / min(ms[2:]),
        "grad_density": mean([s.grad_density for s in measured.values()]),
        "input_density": mean([s.input_density for s in measured.values()]),
    }


@click.command(help=__doc__)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file."
)
@click.option("--quick", is_flag=True, help="Time only ResNet-18, after 10 training steps.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1),
              help="Threads of all operators.")  # fmt: skip
@click.option("--dataset", default="fashion-mnist", show_default=True,
              type=click.Choice(datasets.NAMES), help="Data set to train on.")  # fmt: skip
@click.option("--data-dir", type=click.Path(path_type=Path),
              help="Folder of its files.  [default: the shipped images]")  # fmt: skip
@click.option("--steps", default=100, show_default=True, help="Training steps before timing.")
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(min=7),
              help="Least number of timed rounds.")  # fmt: skip
@click.option("--only", default="", help="Time only networks whose name contains this text.")
def main(
    json_path: Path | None,
    quick: bool,
    threads: int,
    dataset: str,
    data_dir: Path | None,
    steps: int,
    repeats: int,
    only: str,
) -> None:
    """Times all networks, prints a table and writes the file."""
    torch.set_num_threads(threads)
    settle_allocator()
    jobs = [job for job in (JOBS[:1] if quick else JOBS) if only in job.model]
    if not jobs:
        names = ", ".join(job.model for job in JOBS)
        raise click.UsageError(f"train_step.py: expected --only to be part of {names}, got {only}")
    steps = min(steps, 10) if quick else steps
    data = datasets.load(dataset, data_dir)
    rows = []
    with progress() as bar:
        task = bar.add_task("", total=sum(steps * len(job.rates) for job in jobs))
        for job in jobs:
            for rate in job.rates:
                bar.update(task, description=f"{job.model} rate {rate:g}")
                advance = partial(bar.advance, task)
                rows.append(time_job(job, rate, batches(job, data), steps, repeats, advance))
    table = Table(title="a training step, each network in its faster memory format")
    for column in ("model", "rate", "dense ms", "sparse ms", "speedup", "grad density",
                   "input density"):  # fmt: skip
        table.add_column(column, justify="right")
    for r in rows:
        density = [f"{r[k]:.3f}" if r[k] is not None else "-"
                   for k in ("grad_density", "input_density")]  # fmt: skip
        table.add_row(r["model"], f"{r['rate']:g}", f"{r['dense_ms']:.1f}",
                      f"{r['sparse_ms']:.1f}", f"{r['speedup']:.2f}", *density)  # fmt: skip
    Console().print(table)
    write_json(json_path, {"machine": machine(threads), "rows": rows})


if __name__ == "__main__":
    main()

"""Time a training step of whole networks: dense, and converted, after some steps of training.

Each network is trained for --steps steps on real images (the shipped Fashion-MNIST subset, or
--dataset cifar10 --data-dir, enlarged to the network's size), converted; the dense network that is
timed beside it then gets the same weights, so that both do the work of a network in training.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
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
    """A network, its input and the pruning rates to be timed."""

    model: str
    size: int
    batch: int
    rates: tuple[float, ...]

    def build(self) -> nn.Module:
        """The network for three channels and ten classes."""
        model = networks.build(self.model, channels=3, size=self.size, classes=10)
        if self.model.startswith("vgg") and self.size == 32:
            # As VGG is used on CIFAR: one linear layer instead of ImageNet's 120 million weights.
            network = model[1]
            network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 10)
        return model


JOBS = (
    Job("resnet18", 32, 32, (0.9, 0.0)),
    Job("vgg16_bn", 32, 32, (0.9,)),
    Job("alexnet", 224, 16, (0.9,)),
)


def batches(job: Job, data: datasets.Dataset) -> Callable[[int], tuple[Tensor, Tensor]]:
    """step -> (float32 [batch, 3, size, size], int64 [batch])."""

    def batch(step: int) -> tuple[Tensor, Tensor]:
        at = torch.arange(step * job.batch, (step + 1) * job.batch) % len(data.train)
        x, labels = data.batch(at, datasets.stream(step))
        x = interpolate(x, size=(job.size, job.size), mode="bilinear")
        return x.expand(-1, 3, -1, -1).contiguous(), labels

    return batch


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> None:
    """One training step."""
    optimizer.zero_grad()
    cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, slow enough for networks without BN."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def mean(values: list[float | None]) -> float | None:
    """The mean of what was measured."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def time_job(job: Job, rate: float, batch: Callable[[int], tuple[Tensor, Tensor]], steps: int,
             repeats: int, advance: Callable[[], None]) -> dict[str, Any]:  # fmt: skip
    """Train, then time one step on dense in both formats and on the converted model in both."""
    torch.manual_seed(0)
    dense = job.build()
    sparse = sparsetrain.convert(copy.deepcopy(dense), rate=rate, measure_every=1)
    optimizer = optimizer_of(sparse)
    for i in range(steps):
        step(sparse, optimizer, *batch(i))
        advance()
    told = sparsetrain.stats(sparse)
    dense.load_state_dict(sparse.state_dict())
    sparse = sparsetrain.convert(sparse, rate=rate)
    x, labels = batch(steps)
    calls = []
    for model in (dense, sparse):
        for layout in (torch.contiguous_format, torch.channels_last):
            one = copy.deepcopy(model).to(memory_format=layout)
            inputs = x.to(memory_format=layout)
            used = optimizer_of(one)
            for _ in range(5):  # thresholds need their history
                step(one, used, inputs, labels)
            calls.append(lambda m=one, o=used, v=inputs: step(m, o, v, labels))
    ms = [1e3 * s for s in interleaved(calls, repeats)]
    return {
        "model": job.model,
        "rate": rate,
        "dense_ms": min(ms[:2]),
        "sparse_ms": min(ms[2:]),
        "speedup": min(ms[:2]) / min(ms[2:]),
        "grad_density": mean([s.grad_density for s in told.values()]),
        "input_density": mean([s.input_density for s in told.values()]),
    }


@click.command(help=__doc__)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="write the results here")
@click.option("--quick", is_flag=True, help="ResNet-18 only, 10 steps of training")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--dataset", default="fashion-mnist", show_default=True, help="or cifar10")
@click.option("--data-dir", type=click.Path(path_type=Path), help="where its files lie")
@click.option("--steps", default=100, show_default=True, help="of training before timing")
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(min=7))
@click.option("--only", default="", help="only networks whose name contains this")
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
    """See the module."""
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
                batch = batches(job, data)
                advance = lambda: bar.advance(task)  # noqa: E731
                rows.append(time_job(job, rate, batch, steps, repeats, advance))
    table = Table(title="one training step, the better memory format of each")
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

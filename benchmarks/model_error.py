"""The error of the accelerator's closed form against the simulator on recorded training steps.

    python benchmarks/model_error.py --model resnet18 --steps 150 --rate 0.9 [--json FILE]

It trains a network on the shipped Fashion-MNIST images at 32 x 32 pixels. Early and at the end it
records steps of 4 images, with pruning and without. It prints the errors of the cycles of the step
and of each pass, and the 95th percentile over (layer, pass), estimated from the recorded maps and
from the densities alone. docs/accelerator.md has the results.
"""

import copy
import math
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy, pad

import sparsetrain
from sparsetrain import accel
from sparsetrain.experiments import datasets, networks
from sparsetrain.experiments.files import write_json

IMAGES = 4


def batch(data: datasets.Dataset, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the images [size, 3, 32, 32] and labels of a step."""
    generator = torch.Generator().manual_seed(step)
    index = torch.randint(len(data.train), (size,), generator=generator)
    images = pad(data.normalize(data.train.images[index]), (2, 2, 2, 2)).expand(-1, 3, -1, -1)
    return images, data.train.labels[index]


def recorded(model: nn.Module, data: datasets.Dataset, rate: float) -> accel.Workload:
    """Records a step of a copy of the model, pruned at `rate`, or not pruned if `rate` is 0."""
    model = sparsetrain.revert(copy.deepcopy(model))
    if rate:
        sparsetrain.convert(model, rate=rate, history=2, backend="dense")
    for step in range(3 if rate else 1):  # two steps fill the history of thresholds
        images, labels = batch(data, 10**6 + step, IMAGES)
        with accel.record(model, images=IMAGES) as recorder:
            cross_entropy(model(images), labels).backward()
    return recorder.workload(batch=IMAGES)


def errors(closed: accel.Report, exact: accel.Report) -> dict[str, float]:
    """Returns relative errors of the cycles: of the step, of each pass, and over (layer, pass).

    Args:
        closed: The report of the closed form.
        exact: The report of the simulator.

    Returns:
        Signed errors by "step" and pass name; "p95" and "worst" are absolute errors over all
        pairs (layer, pass).
    """
    result = {"step": closed.cycles / exact.cycles - 1}
    cells = []
    for pass_name in accel.PASSES:
        pairs = [
            (getattr(a, pass_name).cycles, getattr(b, pass_name).cycles)
            for a, b in zip(closed.layers, exact.layers, strict=True)
            if getattr(b, pass_name).cycles
        ]
        result[pass_name] = sum(a for a, _ in pairs) / sum(b for _, b in pairs) - 1
        cells += [abs(a / b - 1) for a, b in pairs]
    result["p95"] = sorted(cells)[math.ceil(0.95 * len(cells)) - 1]  # nearest rank
    result["worst"] = max(cells)
    return result


def judge(work: accel.Workload) -> dict[str, Any]:
    """Returns densities and speedup of a step, and the errors with maps and with densities only."""
    exact = accel.simulate(work)
    without_maps = work.with_densities(
        {layer.name: layer.x_density for layer in work.layers},
        {layer.name: layer.dy_density for layer in work.layers},
    )
    return {
        "x_density": work.x_density,
        "dy_density": work.dy_density,
        "speedup": accel.simulate(work, accel.dense_twin168).cycles / exact.cycles,
        "maps": errors(accel.estimate(work), exact),
        "densities": errors(accel.estimate(without_maps), exact),
    }


@click.command()
@click.option("--model", "name", default="resnet18", show_default=True, help="Name of the network.")
@click.option("--steps", default=150, show_default=True, type=click.IntRange(20),
              help="Training steps. Steps 20 and STEPS are recorded.")  # fmt: skip
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1),
              help="Images in a training step.")  # fmt: skip
@click.option("--rate", default=0.9, show_default=True, type=float,
              help="Pruning rate in training; 0 trains dense.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path),
              help="Write the results to this file.")  # fmt: skip
def main(name: str, steps: int, batch_size: int, rate: float, json_file: Path | None) -> None:
    """Train a network, record steps, and print the errors of the closed form."""
    torch.manual_seed(0)
    data = datasets.load("fashion-mnist", None)
    model = networks.build(name, channels=3, size=32, classes=10)
    if rate:
        sparsetrain.convert(model, rate=rate, backend="dense")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    results = {}
    for step in range(steps + 1):
        if step in (20, steps):
            for pruned in (0.9, 0.0):
                results[f"step {step}, pruned at {pruned}"] = judge(recorded(model, data, pruned))
        images, labels = batch(data, step, batch_size)
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    table = Table(title=f"{name}: closed form / simulator - 1, in percent")
    densities = ("density of x", "density of dy")
    errors_of = ("step", *accel.PASSES, "p95", "worst")
    for column in ("step recorded", *densities, "speedup", "estimated from", *errors_of):
        table.add_column(column, justify="right")
    for title, result in results.items():
        for source in ("maps", "densities"):
            numbers = [f"{100 * value:+.2f}" for value in result[source].values()]
            step = (f"{result[key]:.2f}" for key in ("x_density", "dy_density", "speedup"))
            table.add_row(title, *step, source, *numbers)
    console = Console()
    console.width = max(console.width, 130)
    console.print(table)
    if json_file:
        write_json(json_file, {"model": name, "steps": steps, "rate": rate, "recorded": results})


if __name__ == "__main__":
    main()

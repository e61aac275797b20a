"""The paper's average speed and energy gains on our model of its chip, under several assumptions.

    python benchmarks/paper.py [--json FILE]

It uses the closed form without training, and takes less than a minute. The paper's abstract reports
2.7x speed and 2.2x energy efficiency on average over AlexNet and ResNets. Only the chip's 168 PEs,
386 KB and 14 nm come from the paper, some of them recalled. The other numbers of the chip, the
densities and the prices are ours. Several sets of assumptions give 2.7x and 2.2x, so this is
agreement, not validation. docs/accelerator.md has the results.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn

from sparsetrain import accel
from sparsetrain.experiments.files import write_json

NETWORKS = ("alexnet", "resnet18", "resnet34", "resnet152")
DATASETS = {"CIFAR": (3, 32, 32), "ImageNet": (3, 224, 224)}
BATCH = 32
# Density of x, falling with depth; the network's first convolution has 1. BLOCK is for convolutions
# that read the input of a residual block, INSIDE for the others. The values follow published
# statistics of ReLU networks (Gong et al., PACT 2020), not the SparseTrain paper.
BLOCK, INSIDE, ALEXNET = (0.70, 0.35), (0.45, 0.28), (0.5, 0.35, 0.3, 0.3)
# Density of dy after pruning and without pruning. Norms make the unpruned dy dense; ReLU does not.
PRUNED = {"alexnet": 0.08, "resnet18": 0.30, "resnet34": 0.30, "resnet152": 0.20}
UNPRUNED = {"alexnet": 0.28, "resnet18": 1.0, "resnet34": 1.0, "resnet152": 1.0}
# Densities of dy, and of x without the first layer, that `benchmarks/model_error.py` measured after
# 150 steps on Fashion-MNIST at rate 0.9. The deeper ResNets are assumed to be like ResNet-18.
MEASURED = {"alexnet": 0.07, "resnet18": 0.40, "resnet34": 0.40, "resnet152": 0.40}
MEASURED_X = {"alexnet": 0.34, "resnet18": 0.55, "resnet34": 0.55, "resnet152": 0.55}
SPEED, ENERGY = 2.7, 2.2  # the paper's averages


def network(name: str, dataset: str) -> nn.Module:
    """Returns a network without memory; its CIFAR form has a 3 x 3 stem and no early pooling."""
    with torch.device("meta"):
        if name == "alexnet" and dataset == "CIFAR":
            return small_alexnet()
        model: nn.Module = getattr(torchvision.models, name)()
        if dataset == "CIFAR":
            model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            model.maxpool = nn.Identity()
    return model


def small_alexnet() -> nn.Module:
    """Returns AlexNet's convolutions with 3 x 3 kernels, as is usual at 32 x 32 pixels."""

    def conv(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]

    return nn.Sequential(
        *conv(3, 64), nn.MaxPool2d(2), *conv(64, 192), nn.MaxPool2d(2), *conv(192, 384),
        *conv(384, 256), *conv(256, 256),
    )  # fmt: skip


def workload(
    name: str, dataset: str, dy: dict[str, float], x_factor: float | None
) -> accel.Workload:
    """Returns the step of a network with the densities above.

    Args:
        name: The network, one of NETWORKS.
        dataset: One of DATASETS, which sets the size of the images.
        dy: The density of dy by network.
        x_factor: A factor of the densities of x; None uses the measured densities.
    """
    work = accel.workload(network(name, dataset), DATASETS[dataset], BATCH)
    x = {layer.name: 1.0 for layer in work.layers}
    names = [layer.name for layer in work.layers][1:]
    for i, layer in enumerate(names):
        if x_factor is None:
            x[layer] = MEASURED_X[name]
            continue
        if name == "alexnet":
            density = ALEXNET[min(i, 3)]
        else:
            low, high = BLOCK if layer.endswith(("conv1", "downsample.0")) else INSIDE
            density = low + (high - low) * i / (len(names) - 1)
        x[layer] = min(1.0, density * x_factor)
    return work.with_densities(x, dy[name])


def row(work: accel.Workload, chip: accel.Config) -> dict[str, Any]:
    """Returns the speedup of the step and of each pass, and energy gains by price table."""
    comparison = accel.compare(work, chip)
    passes = {}
    for pass_name in accel.PASSES:
        sums = [
            sum(getattr(layer, pass_name).cycles for layer in report.layers)
            for report in (comparison.dense, comparison.report)
        ]
        passes[pass_name] = sums[0] / sums[1]
    return {"speedup": comparison.speedup, **passes, "gains": accel.gains(comparison)}


def mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns arithmetic means of speedup and energy gains, as we read the paper's averages."""
    result = {"speedup": sum(row["speedup"] for row in rows) / len(rows)}
    for i, gain in enumerate(rows[0]["gains"]):
        for key in ("energy_gain_chip", "energy_gain"):
            values = [row["gains"][i][key] for row in rows]
            result[f"{gain['prices']} {key}"] = sum(values) / len(values)
    return result


def scenarios() -> list[tuple[str, dict[str, float], float | None, accel.Config, int]]:
    """Returns (title, density of dy, factor of x's densities or None, chip, batch) for each row."""
    chip = accel.sparsetrain168
    ports = [(f"port {n} bytes a cycle", accel.chip(port_bytes_per_cycle=n)) for n in (4, 16)]
    return [
        ("default", PRUNED, 1.0, chip, BATCH),
        ("dy as we measured it at rate 0.9", MEASURED, 1.0, chip, BATCH),
        ("x and dy as we measured them", MEASURED, None, chip, BATCH),
        ("no pruning", UNPRUNED, 1.0, chip, BATCH),
        ("x a fifth sparser", PRUNED, 0.8, chip, BATCH),
        ("x a quarter denser", PRUNED, 1.25, chip, BATCH),
        ("x a quarter denser, dy 0.36 0.20 0.08", {**PRUNED, "resnet18": 0.36, "resnet34": 0.36},
         1.25, chip, BATCH),
        *((name, PRUNED, 1.0, other, BATCH) for name, other in ports),
        ("batch 1", PRUNED, 1.0, chip, 1),
    ]  # fmt: skip


def findings(assumptions: dict[str, dict[str, Any]]) -> str:
    """Returns text: which assumptions give the paper's averages, and the range of all of them."""
    speeds = {title: row["speedup"] for title, row in assumptions.items()}
    gains = {
        (title, key): value
        for title, row in assumptions.items()
        for key, value in row.items()
        if key != "speedup"
    }
    near = {title for title, value in speeds.items() if abs(value / SPEED - 1) < 0.05}
    fast = [f"{title} ({value:.2f})" for title, value in speeds.items() if title in near]
    both = [
        f"{title}, {key} ({value:.2f})"
        for (title, key), value in gains.items()
        if title in near and abs(value / ENERGY - 1) < 0.05
    ]
    return (
        f"The paper's abstract has averages of {SPEED}x speed and {ENERGY}x energy. The batch is "
        f"{BATCH} and the port 8 bytes a cycle unless the row has another.\n"
        f"Speed within 5 % of {SPEED}x: {'; '.join(fast) or 'none'}.\n"
        f"Of these, energy gain within 5 % of {ENERGY}x: {'; '.join(both) or 'none'}.\n"
        f"The range of all rows: {min(speeds.values()):.1f}x to {max(speeds.values()):.1f}x speed, "
        f"{min(gains.values()):.1f}x to {max(gains.values()):.1f}x energy. 168 PEs, 386 KB and "
        "14 nm are the paper's, recalled. All other numbers of the chip and the densities are "
        "assumed, except the measured ones, and the prices are from other sources. This is "
        "agreement, not validation."
    )


@click.command()
@click.option("--json", "json_file", type=click.Path(path_type=Path),
              help="Write the results to this file.")  # fmt: skip
def main(json_file: Path | None) -> None:
    """Print speed and energy of each network, and their means under other assumptions."""
    console = Console()
    console.width = max(console.width, 160)
    keys = [(name, dataset) for name in NETWORKS for dataset in DATASETS]
    works: dict[tuple[Any, ...], accel.Workload] = {}
    table = Table(title=f"gains over the dense twin, default densities, batch {BATCH}")
    for column in ("network", "speed", *accel.PASSES, "energy chip/total (eyeriss)"):
        table.add_column(column, justify="left" if column == "network" else "right")
    means = Table(title="mean of the networks under other assumptions")
    for column in ("assumption", "speed", *(f"{name} chip/total" for name in accel.PRICES)):
        means.add_column(column, justify="left" if column == "assumption" else "right")
    content: dict[str, Any] = {"networks": {}, "assumptions": {}}
    for title, dy, factor, chip, batch in scenarios():
        rows = []
        for name, dataset in keys:
            key = (name, dataset, tuple(dy.items()), factor)
            if key not in works:
                works[key] = workload(name, dataset, dy, factor)
            work = works[key]
            if batch != BATCH:
                work = accel.Workload(tuple(replace(layer, N=batch) for layer in work.layers))
            rows.append(row(work, chip))
            if title == "default":
                content["networks"][f"{name} {dataset}"] = rows[-1]
                gain = next(g for g in rows[-1]["gains"] if g["prices"] == "eyeriss_ratios")
                numbers = (rows[-1][k] for k in ("speedup", *accel.PASSES))
                table.add_row(
                    f"{name} {dataset}", *(f"{number:.2f}" for number in numbers),
                    f"{gain['energy_gain_chip']:.2f} / {gain['energy_gain']:.2f}",
                )  # fmt: skip
        average = mean(rows)
        content["assumptions"][title] = average
        gains = (
            f"{average[f'{name} energy_gain_chip']:.2f} / {average[f'{name} energy_gain']:.2f}"
            for name in accel.PRICES
        )
        means.add_row(title, f"{average['speedup']:.2f}", *gains)
    console.print(table, means)
    console.print(findings(content["assumptions"]))
    if json_file:
        write_json(json_file, content)


if __name__ == "__main__":
    main()

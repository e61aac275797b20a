"""Reports the accelerator's cost of every n-th training step: `python examples/chip_cost.py`.

accel.CostMeter records the live tensors of these steps. The other steps run at full speed. It works
with any model that has convolutions, converted or not.
"""

from pathlib import Path

import click
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import sparsetrain
from sparsetrain import accel
from sparsetrain.experiments import datasets, networks


@click.command()
@click.option("--every", default=50, help="Steps from one report to the next.", show_default=True)
@click.option("--steps", default=150, help="Steps to train.", show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of Fashion-MNIST files.")
def main(every: int, steps: int, data_dir: Path | None) -> None:
    """Train ResNet-8 and print cycles and energy on the SparseTrain chip and on its dense twin."""
    torch.manual_seed(0)
    data = datasets.load(data_dir=data_dir)
    train = TensorDataset(data.normalize(data.train.images), data.train.labels)
    model = networks.build("resnet8", channels=1, size=28, classes=10)
    sparsetrain.convert(model, rate=0.9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    meter = accel.CostMeter(model, every=every)

    while meter.steps < steps:
        for images, labels in DataLoader(train, batch_size=16, shuffle=True, drop_last=True):
            if meter.steps == steps:
                break
            reported = len(meter.costs)
            optimizer.zero_grad()
            with meter.step():  # goes around the forward and the backward pass
                cross_entropy(model(images), labels).backward()
            optimizer.step()
            for cost in meter.costs[reported:]:
                click.echo(
                    f"step {cost.step}: {cost.cycles:,} cycles, {cost.energy_pj / 1e9:.3f} mJ, "
                    f"{cost.dense_cycles / cost.cycles:.2f}x faster than its dense twin; "
                    f"density of the gradients {cost.dy_density:.3f}"
                )
    click.echo(f"speedup over the dense twin: {meter.speedup:.2f}x")


if __name__ == "__main__":
    main()

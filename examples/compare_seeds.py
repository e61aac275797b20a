"""Compares dense and pruned training over several seeds: `python examples/compare_seeds.py`.

Runs with equal seeds have equal initial weights, batches and augmentation, so that differences are
taken seed by seed. `sparsetrain sweep` does this for many models and rules, and can be resumed.
"""

from pathlib import Path
from statistics import mean, stdev

import click

from sparsetrain.experiments import datasets
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer


def test_accuracy(settings: Settings, data: datasets.Dataset) -> float:
    """Trains one run to its end."""
    trainer = Trainer(settings, data)
    for event in trainer.run():
        if event.record is not None:
            click.echo(
                f"{settings.rule}, seed {settings.seed}, epoch {event.record.epoch}: "
                f"test accuracy {event.record.test_accuracy:.2%}"
            )
    return trainer.epochs[-1].test_accuracy


@click.command()
@click.option("--seeds", default=3, help="Number of seeds.", show_default=True)
@click.option("--epochs", default=2, help="Epochs of each run.", show_default=True)
@click.option("--rate", default=0.9, help="Pruning rate in [0, 1).", show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of Fashion-MNIST files.")
def main(seeds: int, epochs: int, rate: float, data_dir: Path | None) -> None:
    """Print how much test accuracy pruning costs, in percentage points."""
    data = datasets.load(data_dir=data_dir)
    differences = []
    for seed in range(seeds):
        dense = test_accuracy(Settings(dense=True, epochs=epochs, seed=seed), data)
        pruned = test_accuracy(Settings(rate=rate, epochs=epochs, seed=seed), data)
        differences.append(100 * (pruned - dense))
    error = stdev(differences) / seeds**0.5 if seeds > 1 else float("nan")
    click.echo(
        f"pruned minus dense, {seeds} seeds: {mean(differences):+.2f} percentage points "
        f"(standard error {error:.2f})"
    )


if __name__ == "__main__":
    main()

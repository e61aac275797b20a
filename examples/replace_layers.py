"""Replaces the layers of a plain PyTorch training script: `python examples/replace_layers.py`.

Two calls turn an ordinary script into this one: sparsetrain.convert() and sparsetrain.stats().
"""

from pathlib import Path

import click
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sparsetrain
from sparsetrain.experiments import datasets


@click.command()
@click.option("--epochs", default=2, help="Epochs to train.", show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of Fashion-MNIST files.")
def main(epochs: int, data_dir: Path | None) -> None:
    """Train a small network whose gradients are pruned at rate 0.9."""
    torch.manual_seed(0)
    data = datasets.load(data_dir=data_dir)
    train = TensorDataset(data.normalize(data.train.images), data.train.labels)

    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    # Parameters and state_dict stay as they are. Pruning begins with the fifth batch.
    sparsetrain.convert(model, rate=0.9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    for epoch in range(epochs):
        model.train()
        for images, labels in DataLoader(train, batch_size=64, shuffle=True, drop_last=True):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            predicted = model(data.normalize(data.test.images)).argmax(1)
        accuracy = (predicted == data.test.labels).float().mean()
        click.echo(f"epoch {epoch + 1}: loss {loss:.3f}, test accuracy {accuracy:.1%}")

    for name, layer in sparsetrain.stats(model).items():
        if layer.pruned_density is not None:
            click.echo(f"layer {name}: density of the pruned gradient {layer.pruned_density:.3f}")


if __name__ == "__main__":
    main()

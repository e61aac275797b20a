"""TensorBoard scalars of a run, for `sparsetrain train --tensorboard FOLDER`."""

from dataclasses import asdict
from pathlib import Path

from sparsetrain.experiments.training import Trainer


class Scalars:
    """Event files in `folder`: a scalar for each field of an epoch's record, densities by layer.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "sparsetrain.experiments.scalars.Scalars: expected tensorboard to be installed, "
                "got none. Run pip install tensorboard"
            ) from error
        self._writer = SummaryWriter(str(folder))
        self._written = 0

    def write(self, trainer: Trainer) -> None:
        """Writes the epochs that finished since the last call."""
        for record in trainer.epochs[self._written :]:
            for name, value in asdict(record).items():
                if name != "epoch":
                    self._writer.add_scalar(f"epoch/{name}", value, record.epoch)
        for layer in trainer.density_log:
            if layer["epoch"] > self._written:
                for name in ("input_density", "grad_density_unpruned", "grad_density"):
                    self._writer.add_scalar(f"{name}/{layer['name']}", layer[name], layer["epoch"])
        self._written = len(trainer.epochs)
        self._writer.flush()

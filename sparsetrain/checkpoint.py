"""Checkpoints of a run: one file, whole or not there, that says what it belongs to."""

import pickle
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from sparsetrain.datasets import Dataset
from sparsetrain.files import write_atomically
from sparsetrain.training import Settings, Trainer

VERSION = 2


def save(path: Path, trainer: Trainer) -> None:
    """Write everything `trainer` needs to go on; `torch.load(weights_only=True)` can read it.

    Raises OSError with one sentence; the file that was there before is then unchanged.
    """
    content = {
        "sparsetrain_checkpoint": VERSION,
        "settings": asdict(trainer.settings),
        "data": trainer.data.fingerprint,
        **trainer.state_dict(),
    }
    write_atomically(path, lambda file: torch.save(content, file))


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote. Nothing in the file is executed.

    Raises FileNotFoundError if there is none, ValueError if it is damaged, of another kind or of
    another version.
    """
    where = f"sparsetrain.checkpoint.load: expected {path} to be"
    if not path.is_file():
        raise FileNotFoundError(f"{where} a checkpoint, got no file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError),
        *(KeyError, TypeError, AttributeError),
    ) as error:
        raise ValueError(f"{where} a checkpoint of a run, got a damaged or foreign file") from error
    version = content.get("sparsetrain_checkpoint") if isinstance(content, dict) else None
    if version is None:
        raise ValueError(f"{where} a checkpoint of a run, got some other file of torch's")
    if version != VERSION:
        raise ValueError(f"{where} a checkpoint of version {VERSION}, got version {version}")
    wanted, got = {f.name for f in fields(Settings)}, content.get("settings")
    if not isinstance(got, dict) or got.keys() != wanted or "data" not in content:
        raise ValueError(f"{where} a whole checkpoint of this version, got one of other contents")
    return content  # type: ignore[no-any-return]


def settings(content: dict[str, Any]) -> Settings:
    """The settings of a checkpoint's run. Raises ValueError for impossible ones."""
    try:
        return Settings(**content["settings"])
    except TypeError as error:
        raise ValueError(
            f"sparsetrain.checkpoint.settings: expected settings of a run, got: {error}"
        ) from error


def restore(path: Path, content: dict[str, Any], data: Dataset) -> Trainer:
    """A trainer that goes on where the run of the checkpoint `content`, read from `path`, stopped.

    Raises ValueError if `data` are not the data of that run, or if its tensors do not fit the
    model that its settings name.
    """
    where = f"sparsetrain.checkpoint.restore: expected {path} to be a checkpoint of"
    if content["data"] != data.fingerprint:
        raise ValueError(
            f"{where} a run on these {len(data.train)} + {len(data.test)} images of {data.name}, "
            "got one of a run on others"
        )
    trainer = Trainer(settings(content), data)
    try:
        trainer.load_state_dict(content)
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        model = trainer.settings.model
        raise ValueError(f"{where} this version's {model}, got one of another network") from error
    return trainer

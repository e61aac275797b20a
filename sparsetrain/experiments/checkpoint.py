"""Checkpoints of training runs: written by `sparsetrain train` and `sparsetrain sweep`.

A checkpoint is one file of torch.save(). It names the settings and the data of its run, and is
replaced as a whole, so that an interrupted write leaves the previous one.
"""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import torch
from torch import Tensor

from sparsetrain.experiments.datasets import Dataset
from sparsetrain.experiments.files import write_atomically
from sparsetrain.experiments.older_files import with_current_names
from sparsetrain.experiments.records import EpochRecord, LayerRecord
from sparsetrain.experiments.settings import TYPES, Settings, is_a
from sparsetrain.experiments.training import Trainer

VERSION = 4
_OLDER_VERSION = 3  # has other names of some fields: older_files.py
_CONTENT: dict[str, Any] = {
    "sparsetrain_checkpoint": int,
    "settings": dict,
    "data": str,
    "model": dict,
    "optimizer": dict,
    "scheduler": dict,
    "ranks": list,
    "epoch": int,
    "step": int,
    "seconds": float,
    "cpu_seconds": float,
    "epochs": list,
    "sparse_shares": list,
    "layers": list,
    "passes": list,
    "density_log": list,
    "parts": dict,
}
_RANK: dict[str, Any] = {"pruning": dict | None, "random": Tensor, "loss_sum": float}


def save(path: Path, trainer: Trainer) -> None:
    """Writes everything that a new trainer needs to continue the run of `trainer`.

    `torch.load(weights_only=True)` can read the file. In a process group all processes must call
    this function together; rank 0 writes.

    Raises:
        OSError: The file cannot be written. An existing file is then unchanged.
    """
    content = {
        "sparsetrain_checkpoint": VERSION,
        "settings": asdict(trainer.settings),
        "data": trainer.data.fingerprint,
        **trainer.state_dict(),
    }
    if trainer.rank == 0:
        memory = io.BytesIO()  # torch.save() into a file does not raise OSError for a full disk
        torch.save(content, memory)
        write_atomically(path, lambda file: file.write(memory.getbuffer()))


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint that `save` wrote, also in version 3. Executes nothing from the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, no checkpoint, or of an unknown version.
    """
    where = f"sparsetrain.experiments.checkpoint.load: expected {path} to be"
    if not path.is_file():
        raise FileNotFoundError(f"{where} a checkpoint, got no file")
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # torch.load() ignores the checksums
                if archive.testzip() is not None:
                    raise zipfile.BadZipFile
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (
            *(zipfile.BadZipFile, zlib.error, struct.error, OverflowError, OSError),
            *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError),
            *(KeyError, TypeError, AttributeError),
        ) as error:
            raise ValueError(
                f"{where} a checkpoint of a run, got a damaged or foreign file"
            ) from error
    version = content.get("sparsetrain_checkpoint") if isinstance(content, dict) else None
    if version is None:
        raise ValueError(f"{where} a checkpoint of a run, got another file of torch.save()")
    if version not in (_OLDER_VERSION, VERSION):
        raise ValueError(f"{where} a checkpoint of version {VERSION}, got version {version}")
    content = with_current_names(content)
    if not _is_complete(content):
        raise ValueError(
            f"{where} a complete checkpoint of version {version}, got missing or unexpected fields"
        )
    return content


def settings(content: dict[str, Any]) -> Settings:
    """The settings of a checkpoint's run. Raises ValueError for values out of range."""
    return Settings(**content["settings"])


def restore(path: Path, content: dict[str, Any], data: Dataset) -> Trainer:
    """Makes a trainer that continues the run of a checkpoint.

    Args:
        path: The file, for messages.
        content: What `load(path)` returned.
        data: The data set of the run.

    Raises:
        ValueError: `data` or the number of processes are not those of the run, or tensors do not
            fit the model that the settings name.
    """
    where = f"sparsetrain.experiments.checkpoint.restore: expected {path} to be a checkpoint of"
    if content["data"] != data.fingerprint:
        raise ValueError(
            f"{where} a run on these {len(data.train)} + {len(data.test)} images of {data.name}, "
            "got one of a run on other images"
        )
    trainer = Trainer(settings(content), data)
    if len(content["ranks"]) != trainer.processes:
        raise ValueError(
            f"{where} a run of world size {trainer.processes}, got one of world size "
            f"{len(content['ranks'])}. Start as many processes with torchrun --nproc-per-node"
        )
    try:
        trainer.load_state_dict(content)
    except ValueError as error:
        raise ValueError(f"{where} a run, got impossible content: {error}") from error
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        model = trainer.settings.model
        raise ValueError(f"{where} this version's {model}, got one of another network") from error
    epochs = trainer.settings.epochs
    is_possible = 0 <= trainer.epoch <= epochs and 0 <= trainer.step <= trainer.steps
    if not (is_possible and len(trainer.epochs) == len(trainer.sparse_shares) == trainer.epoch):
        raise ValueError(
            f"{where} {epochs} x {trainer.steps} steps, got one of {trainer.epoch} epochs and "
            f"{trainer.step} steps with records of {len(trainer.epochs)} epochs"
        )
    return trainer


def _is_complete(content: dict[str, Any]) -> bool:
    """Whether every field that `save` writes, and no other, is there with its type."""
    return (
        _fits(content, _CONTENT)
        and _fits(content["settings"], TYPES)
        and all(_fits(rank, _RANK) for rank in content["ranks"])
        and all(_fits(record, get_type_hints(EpochRecord)) for record in content["epochs"])
        and all(_fits(layer, get_type_hints(LayerRecord)) for layer in content["layers"])
        and all(type(share) is float for share in content["sparse_shares"])
    )


def _fits(values: object, types: Mapping[str, Any]) -> bool:
    return (
        isinstance(values, dict)
        and values.keys() == types.keys()
        and all(
            is_a(values[name], get_origin(kind) if get_origin(kind) is list else kind)
            for name, kind in types.items()
        )
    )

"""Checkpoints of a run: one file, whole or not there, that says what it belongs to."""

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
from sparsetrain.experiments.records import EpochRecord, LayerRecord
from sparsetrain.experiments.training import Settings, Trainer

VERSION = 3
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
    "records": list,
    "sparse_shares": list,
    "layers": list,
    "passes": list,
    "density_log": list,
    "parts": dict,
}
_RANK: dict[str, Any] = {"pruning": dict | None, "random": Tensor, "loss_sum": float}


def save(path: Path, trainer: Trainer) -> None:
    """Write everything `trainer` needs to go on; `torch.load(weights_only=True)` can read it.

    Of a process group rank 0 writes; all its processes make this call together.
    Raises OSError with one sentence; the file that was there before is then unchanged.
    """
    content = {
        "sparsetrain_checkpoint": VERSION,
        "settings": asdict(trainer.settings),
        "data": trainer.data.fingerprint,
        **trainer.state_dict(),
    }
    if trainer.rank == 0:
        memory = io.BytesIO()  # into a file, torch reports a full disk as an error of its own
        torch.save(content, memory)
        write_atomically(path, lambda file: file.write(memory.getbuffer()))


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote. Nothing in the file is executed.

    Raises FileNotFoundError if there is none, ValueError if it is damaged, of another kind or of
    another version.
    """
    where = f"sparsetrain.experiments.checkpoint.load: expected {path} to be"
    if not path.is_file():
        raise FileNotFoundError(f"{where} a checkpoint, got no file")
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:  # torch writes checksums but reads none
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
        raise ValueError(f"{where} a checkpoint of a run, got some other file of torch's")
    if version != VERSION:
        raise ValueError(f"{where} a checkpoint of version {VERSION}, got version {version}")
    if not _is_whole(content):
        raise ValueError(f"{where} a whole checkpoint of this version, got one of other contents")
    return content  # type: ignore[no-any-return]


def settings(content: dict[str, Any]) -> Settings:
    """The settings of a checkpoint's run. Raises ValueError for impossible ones."""
    return Settings(**content["settings"])


def restore(path: Path, content: dict[str, Any], data: Dataset) -> Trainer:
    """A trainer that goes on where the run of the checkpoint `content`, read from `path`, stopped.

    Raises ValueError if `data` are not the data of that run, if that was one of another
    number of processes, or if its tensors do not fit the model that its settings name.
    """
    where = f"sparsetrain.experiments.checkpoint.restore: expected {path} to be a checkpoint of"
    if content["data"] != data.fingerprint:
        raise ValueError(
            f"{where} a run on these {len(data.train)} + {len(data.test)} images of {data.name}, "
            "got one of a run on others"
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
        raise ValueError(f"{where} this run, got one that is refused: {error}") from error
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        model = trainer.settings.model
        raise ValueError(f"{where} this version's {model}, got one of another network") from error
    epochs, lists = trainer.settings.epochs, (trainer.epochs, trainer.sparse_shares)
    within = 0 <= trainer.epoch <= epochs and 0 <= trainer.step <= trainer.steps
    if not within or any(len(each) != trainer.epoch for each in lists):
        raise ValueError(
            f"{where} {epochs} x {trainer.steps} steps, got one of {trainer.epoch} epochs and "
            f"{trainer.step} steps with records of {len(trainer.epochs)} epochs"
        )
    return trainer


def _is_whole(content: dict[str, Any]) -> bool:
    """Whether everything that `save` writes is there and of its type."""
    return (
        _fits(content, _CONTENT)
        and _fits(content["settings"], get_type_hints(Settings))
        and all(_fits(rank, _RANK) for rank in content["ranks"])
        and all(_fits(record, get_type_hints(EpochRecord)) for record in content["records"])
        and all(_fits(layer, get_type_hints(LayerRecord)) for layer in content["layers"])
        and all(type(share) is float for share in content["sparse_shares"])
    )


def _fits(values: object, types: Mapping[str, Any]) -> bool:
    return (
        isinstance(values, dict)
        and values.keys() == types.keys()
        and all(_is_a(values[name], wanted) for name, wanted in types.items())
    )


def _is_a(value: object, wanted: Any) -> bool:
    """isinstance() as annotations mean it: an int is a float, a bool is no int."""
    if type(value) is bool:
        return wanted is bool
    wanted = get_origin(wanted) if get_origin(wanted) is list else wanted
    return isinstance(value, wanted) or (type(value) is int and isinstance(0.0, wanted))

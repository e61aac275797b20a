"""Sweeps: many runs in one folder, shared by any number of processes, for `sparsetrain sweep`.

A folder holds `results.jsonl`, with one line for each finished run, and `runs/`, with a checkpoint
of each run in progress and lock files. A lock is an flock(): the kernel releases it when its
process ends, so that no lock outlives its owner.
"""

import fcntl
import hashlib
import itertools
import json
import logging
import os
import re
import time
import tomllib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sparsetrain._checks import did_you_mean
from sparsetrain.cost_table import set_costs
from sparsetrain.experiments import checkpoint, networks
from sparsetrain.experiments.datasets import Dataset
from sparsetrain.experiments.results import read_results, run_results
from sparsetrain.experiments.settings import SHARED, Settings
from sparsetrain.experiments.training import Event, Trainer

_log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 60.0
"""Time between two checkpoints of a run in progress."""
KEYS = ("models", "rules", "seeds", *SHARED, "data_dir")
"""The keys of a sweep's TOML file."""


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep in their order, and the folder of its data (None: shipped images)."""

    runs: tuple[Settings, ...]
    data_dir: Path | None


def plan(content: Mapping[str, Any]) -> Plan:
    """Plans a run of every model under every rule with every seed.

    All models and rules run with one seed before the next seed begins, so that the finished runs of
    an interrupted sweep can be compared.

    Args:
        content: Lists `models` and `rules` (`dense`, `rate 0.9`, `density 0.1`), and optionally
            `seeds` (a list of seeds or their number), `data_dir` and the `settings.SHARED`.

    Raises:
        ValueError: A key is unknown, a value is impossible, a list is empty or a model unknown.
        ModuleNotFoundError: A model needs torchvision, which is not installed.
    """
    where = "sparsetrain.experiments.sweep.plan: expected"
    for key in content:
        if key not in KEYS:
            raise ValueError(f"{where} keys of a sweep, got {key!r}; {did_you_mean(key, KEYS)}")
    seeds = content.get("seeds", [0])
    seeds = list(range(seeds)) if type(seeds) is int else seeds
    lists = {
        "models": _list("models", content.get("models"), str),
        "rules": _list("rules", content.get("rules"), str),
        "seeds": _list("seeds", seeds, int),
    }
    shared = {key: content[key] for key in SHARED if key in content}
    for model in lists["models"]:
        networks.check(model)
    runs = [
        Settings(model=model, seed=seed, **parse_rule(rule), **shared)
        for seed, model, rule in itertools.product(seeds, lists["models"], lists["rules"])
    ]
    data_dir = content.get("data_dir")
    if not isinstance(data_dir, str | Path | None):
        raise ValueError(f"{where} data_dir to be of type str, got {data_dir!r}")
    return Plan(tuple(dict.fromkeys(runs)), None if data_dir is None else Path(data_dir))


def read_toml(path: Path) -> dict[str, Any]:
    """Reads the keys of a sweep from a TOML file. Raises FileNotFoundError or ValueError."""
    where = f"sparsetrain.experiments.sweep.read_toml: expected {path} to be"
    if not path.is_file():
        raise FileNotFoundError(f"{where} a TOML file, got none")
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} TOML, got: {error}") from error


def parse_rule(text: str) -> dict[str, Any]:
    """The settings of a rule `dense`, `rate R` or `density D`. Raises ValueError for another."""
    if text == "dense":
        return {"dense": True}
    found = re.fullmatch(r"(rate|density) *([\d.]+(?:e-?\d+)?)", text)
    if found is None or found[2].count(".") > 1:
        raise ValueError(
            "sparsetrain.experiments.sweep.plan: expected a rule to be dense, rate R or density D, "
            f"got {text!r}"
        )
    return {found[1]: float(found[2])}


def _list(key: str, values: Any, kind: type) -> list[Any]:
    if not isinstance(values, list) or not values or any(type(v) is not kind for v in values):
        raise ValueError(
            f"sparsetrain.experiments.sweep.plan: expected {key} to be a list of at least one "
            f"{kind.__name__}, got {values!r}"
        )
    return values


class Folder:
    """The folder of a sweep, created if it does not exist.

    Attributes:
        path: The folder.
        results: The file `results.jsonl` in it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.results = path, path / "results.jsonl"
        self._runs = path / "runs"
        self._runs.mkdir(parents=True, exist_ok=True)

    def finished(self) -> list[dict[str, Any]]:
        """The results of the finished runs, in the order in which they ended."""
        return read_results(self.results) if self.results.exists() else []

    def names(self) -> set[str]:
        """The names of the finished runs."""
        return {result["run"] for result in self.finished()}

    def checkpoint(self, name: str) -> Path:
        """The path of the checkpoint of a run in progress."""
        return self._runs / f"{name}.pt"

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Locks the run of this name while the context is active.

        Yields:
            True if this process may train the run: it is not finished, and no other process holds
            its lock.
        """
        with (self._runs / f"{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield name not in self.names()

    def append(self, result: dict[str, Any]) -> None:
        """Appends one line to the results and waits until it is on the disk.

        An incomplete last line, which a killed process left, is removed first.
        """
        line = json.dumps(result, allow_nan=False) + "\n"
        with self.results.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            content = file.read()
            complete = content.rfind(b"\n") + 1
            if complete != len(content):
                file.truncate(complete)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def name(settings: Settings, data: Dataset) -> str:
    """The name of a run. It ends in a digest of settings and data: equal names, equal results."""
    content = json.dumps([asdict(settings), data.fingerprint])
    digest = hashlib.blake2b(content.encode(), digest_size=4).hexdigest()
    return f"{settings.model}-{settings.dataset}-{settings.rule}-seed{settings.seed}-{digest}"


def train(folder: Folder, settings: Settings, data: Dataset) -> Generator[Event, None, None]:
    """Trains one claimed run, resuming from its checkpoint if there is one, and appends its result.

    Closing the generator early writes a checkpoint. A loss that is not finite ends the run, and the
    result has the message as `failure`.

    Raises:
        ValueError: The checkpoint is damaged or belongs to another run.
    """
    run = name(settings, data)
    path = folder.checkpoint(run)
    torch.set_num_threads(settings.threads)
    if path.exists():
        trainer = checkpoint.restore(path, checkpoint.load(path), data)
    else:
        set_costs(None)  # a run that this process resumed before may have loaded its own costs
        trainer = Trainer(settings, data)
    _log.info("%s: from epoch %d, step %d", run, trainer.epoch + 1, trainer.step)
    failure = None
    saved = time.monotonic()
    try:
        for event in trainer.run():
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                checkpoint.save(path, trainer)
                saved = time.monotonic()
            yield event
    except GeneratorExit:
        checkpoint.save(path, trainer)
        raise
    except FloatingPointError as error:
        failure = str(error)
        _log.warning("%s: %s", run, failure)
    folder.append(
        {
            "run": run,
            "failure": failure,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **run_results(trainer),
        }
    )
    path.unlink(missing_ok=True)


def work(
    folder: Folder, runs: Sequence[Settings], data: Dataset
) -> Generator[tuple[str, Event], None, None]:
    """Trains every run that is neither finished nor held by another process.

    Repeats until no run can be claimed; runs that other processes hold are left to them.

    Yields:
        (name of the run, event) after each step. Closing the generator writes a checkpoint.
    """
    claimed = True
    while claimed:
        claimed = False
        for settings in runs:
            run = name(settings, data)
            with folder.claim(run) as is_mine:
                if is_mine:
                    claimed = True
                    with closing(train(folder, settings, data)) as events:
                        for event in events:
                            yield run, event

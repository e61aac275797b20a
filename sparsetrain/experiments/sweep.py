"""Sweeps: many runs in one folder, each one line of its results, by any number of processes.

A folder holds `results.jsonl` and, in `runs/`, a checkpoint of each run in progress and a lock.
Locks are the kernel's: one dies with its process, so none is ever stale.
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
from typing import Any, get_type_hints

import torch

from sparsetrain._checks import check_name, did_you_mean
from sparsetrain.cost_table import set_costs
from sparsetrain.experiments import checkpoint, machine, networks
from sparsetrain.experiments.datasets import Dataset
from sparsetrain.experiments.training import Event, Settings, Trainer
from sparsetrain.ops import CPU_BACKENDS
from sparsetrain.pruning import target

_log = logging.getLogger(__name__)
SAVE_SECONDS = 60.0  # between checkpoints of a run in progress
_SHARED = ("dataset", "backend", "epochs", "batch_size", "learning_rate", "threads")
KEYS = ("models", "rules", "seeds", *_SHARED, "data_dir")


@dataclass(frozen=True)
class Plan:
    """What a sweep runs, in its order, and where its data lie (None: the shipped subset)."""

    runs: tuple[Settings, ...]
    data_dir: Path | None


def plan(content: Mapping[str, Any]) -> Plan:
    """The runs of every model under every rule with every seed; seed by seed.

    `content` has lists `models` and `rules` (`dense`, `rate 0.9`, `density 0.1`), `seeds` (a list,
    or how many), and may have `data_dir` and fields of `Settings` that all runs share.

    Raises ValueError for an unknown key, a value that cannot be, or nothing to run, and what
    networks.check raises.
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
    shared = {key: _typed(key, content[key]) for key in _SHARED if key in content}
    check_name("sweep.plan", "backend", shared.get("backend", "auto"), CPU_BACKENDS)
    for model in lists["models"]:
        networks.check(model)
    runs = [
        Settings(model=model, seed=seed, **_rule(rule), **shared)
        for seed, model, rule in itertools.product(seeds, lists["models"], lists["rules"])
    ]
    folder = content.get("data_dir")
    if not isinstance(folder, str | None):
        raise ValueError(f"{where} data_dir to be of type str, got {folder!r}")
    return Plan(tuple(dict.fromkeys(runs)), None if folder is None else Path(folder))


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says for `plan`. Raises FileNotFoundError or ValueError."""
    where = f"sparsetrain.experiments.sweep.read_toml: expected {path} to be"
    if not path.is_file():
        raise FileNotFoundError(f"{where} a TOML file, got none")
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} TOML, got: {error}") from error


def _list(key: str, values: Any, kind: type) -> list[Any]:
    if not isinstance(values, list) or not values or any(type(v) is not kind for v in values):
        raise ValueError(
            f"sparsetrain.experiments.sweep.plan: expected {key} to be a list of at least one {kind.__name__}, "
            f"got {values!r}"
        )
    return values


def _rule(text: str) -> dict[str, Any]:
    if text == "dense":
        return {"dense": True}
    found = re.fullmatch(r"(rate|density) *([\d.]+(?:e-?\d+)?)", text)
    if found is None or found[2].count(".") > 1:
        raise ValueError(
            "sparsetrain.experiments.sweep.plan: expected a rule to be dense, rate R or density D, "
            f"got {text!r}"
        )
    rule = {found[1]: float(found[2])}
    target(rule.get("rate"), rule.get("density"), "sweep.plan")
    return rule


def _typed(key: str, value: Any) -> Any:
    """`value` if it has the type of that field of Settings, an int for a float made one."""
    kind = get_type_hints(Settings)[key]
    value = float(value) if kind is float and type(value) is int else value
    if type(value) is not kind:
        raise ValueError(
            f"sparsetrain.experiments.sweep.plan: expected {key} to be of type {kind.__name__}, got {value!r}"
        )
    return value


class Folder:
    """A sweep's folder, made if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path, self.results = path, path / "results.jsonl"
        self._runs = path / "runs"
        self._runs.mkdir(parents=True, exist_ok=True)

    def finished(self) -> list[dict[str, Any]]:
        """The results so far, one object a run, in the order in which they ended."""
        return read_results(self.results) if self.results.exists() else []

    def names(self) -> set[str]:
        """The names of the finished runs."""
        return {result["run"] for result in self.finished()}

    def checkpoint(self, name: str) -> Path:
        """Where the run of this name has its checkpoint while it is in progress."""
        return self._runs / f"{name}.pt"

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether the run of this name is this process's alone: neither finished nor another's."""
        with (self._runs / f"{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield name not in self.names()

    def append(self, result: dict[str, Any]) -> None:
        """Add one line, on the disk when this returns; half a line of a killed process goes."""
        line = json.dumps(result, allow_nan=False) + "\n"
        with self.results.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole != len(content):
                file.truncate(whole)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


RESULT = {"config", "epochs", "layers", "passes", "density_log", "parts"}  # what each run shows


def read_results(path: Path) -> list[dict[str, Any]]:
    """The objects of a results file; a last line without its end does not count.

    Raises FileNotFoundError, or ValueError for a line that is not a run's results.
    """
    where = f"sparsetrain.experiments.sweep.read_results: expected {path} to be"
    if not path.is_file():
        raise FileNotFoundError(f"{where} a results file, got none")
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        results = [json.loads(line) for line in lines]
    except ValueError as error:
        raise ValueError(f"{where} a line of JSON for each run, got: {error}") from error
    for number, result in enumerate(results, start=1):
        if not isinstance(result, dict) or not RESULT | {"run"} <= result.keys():
            raise ValueError(f"{where} the results of runs, got something else in line {number}")
    return results


def name(settings: Settings, data: Dataset) -> str:
    """A run's name: what it is, and a digest by which equal names mean equal results."""
    whole = json.dumps([asdict(settings), data.fingerprint])
    digest = hashlib.blake2b(whole.encode(), digest_size=4).hexdigest()
    return f"{settings.model}-{settings.dataset}-{settings.rule}-seed{settings.seed}-{digest}"


def train(folder: Folder, settings: Settings, data: Dataset) -> Generator[Event, None, None]:
    """Train one claimed run to its end, from its checkpoint where there is one; its line follows.

    Whoever stops listening leaves a checkpoint. A loss that is not finite ends the run, and its
    line says so. Raises ValueError for a checkpoint that is damaged or not of this run.
    """
    run = name(settings, data)
    path = folder.checkpoint(run)
    torch.set_num_threads(settings.threads)
    if path.exists():
        trainer = checkpoint.restore(path, checkpoint.load(path), data)
    else:
        set_costs(None)  # a run before may have brought its own
        trainer = Trainer(settings, data)
    _log.info("%s: from epoch %d, step %d", run, trainer.epoch + 1, trainer.step)
    failure = None
    saved = time.monotonic()
    try:
        for event in trainer.run():
            if time.monotonic() - saved > SAVE_SECONDS:
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
            **machine.origin(settings.threads),
            **trainer.results(),
        }
    )
    path.unlink(missing_ok=True)


def work(
    folder: Folder, runs: Sequence[Settings], data: Dataset
) -> Generator[tuple[str, Event], None, None]:
    """Do every run that is neither finished nor another process's, until none is left to take.

    Yields (name, event) after each step. Runs that others hold at the end are theirs to finish.
    """
    taken = True
    while taken:
        taken = False
        for settings in runs:
            run = name(settings, data)
            with folder.claim(run) as mine:
                if mine:
                    taken = True
                    with closing(train(folder, settings, data)) as events:
                        for event in events:
                            yield run, event

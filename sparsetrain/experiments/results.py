"""Results of runs: what `sparsetrain train --json` and a sweep write, and how files are read."""

import json
from pathlib import Path
from typing import Any

from sparsetrain.experiments import machine
from sparsetrain.experiments.older_files import with_current_names
from sparsetrain.experiments.training import Trainer

KEYS = frozenset({"config", "epochs", "layers", "passes", "density_log", "parts"})
"""What the results of every run have."""


def run_results(trainer: Trainer) -> dict[str, Any]:
    """The command and the machine of this process, then the results of the run so far."""
    return {**machine.origin(trainer.settings.threads), **trainer.results()}


def read_results(path: Path) -> list[dict[str, Any]]:
    """Reads the runs of a sweep's folder, of its `results.jsonl` or of a `.json` file of one run.

    A last line without a line end is left out: its process was killed while it wrote. Files of
    earlier versions are read with today's names.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds something else than results.
    """
    if path.is_dir():
        path = path / "results.jsonl"
    where = f"sparsetrain.experiments.results.read_results: expected {path} to be"
    if not path.is_file():
        raise FileNotFoundError(f"{where} a results file, got none")
    content = path.read_bytes()
    is_one_run = path.suffix == ".json"
    try:
        results = [json.loads(each) for each in ([content] if is_one_run else _lines(content))]
    except ValueError as error:
        wanted = "JSON" if is_one_run else "a line of JSON for each run"
        raise ValueError(f"{where} {wanted}, got: {error}") from error
    results = [with_current_names(each) if isinstance(each, dict) else each for each in results]
    wanted_keys = KEYS if is_one_run else KEYS | {"run"}
    for number, result in enumerate(results, start=1):
        if not isinstance(result, dict) or not wanted_keys <= result.keys():
            wanted, line = ("a run", "") if is_one_run else ("runs", f" in line {number}")
            raise ValueError(f"{where} the results of {wanted}, got something else{line}")
    return results


def _lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]

"""`sparsetrain train` under torchrun: processes train, stop, resume and refuse together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import small_data
from helpers.paths import TESTS

TRAIN = ["-m", "sparsetrain", "train"]
OPTIONS = ["--epochs", "2", "--batch-size", "16", "--rate", "0.9"]


def torchrun(*arguments: object, ranks: int = 2) -> subprocess.Popen[str]:
    """Starts a script, or a module after -m, on several processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    environment = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(TESTS),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "100",
    }
    return subprocess.Popen(
        [*launch, str(ranks), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"), train=96)


def errors_of(text: str) -> list[str]:
    """The messages of the command in what torchrun wrote to stderr."""
    return [line for line in text.splitlines() if line.startswith("error: ")]


def test_interrupted_ranks_resume_bit_exactly(tmp_path, folder):
    """A resumed command has the results of the uninterrupted run in training_ranks.py."""
    laws = torchrun(TESTS / "experiments" / "training_ranks.py", folder, tmp_path)
    _, errors = laws.communicate(timeout=300)
    assert laws.returncode == 0, errors

    saved, results = tmp_path / "command.pt", tmp_path / "command.json"
    page = tmp_path / "page.html"
    outputs = ["--data-dir", folder, "--json", results, "--report", page]
    process = torchrun(*TRAIN, *OPTIONS, "--checkpoint", saved, *outputs)
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip().startswith("1 "):  # the row of the first epoch
            break
    process.send_signal(signal.SIGINT)  # torchrun passes it on to its processes
    rest, errors = process.communicate(timeout=120)
    assert rest.count("Stopped at epoch 2") == 1, errors
    command = f"--resume {saved} --data-dir {folder} --json {results} --report {page}"
    assert f"torchrun --nproc-per-node 2 -m sparsetrain train {command}" in rest
    assert rest.count(f"Report: {page}") == 1 and page.exists()
    assert errors_of(errors) == []
    assert len(json.loads(results.read_text())["epochs"]) == 1

    resumed = torchrun(*TRAIN, "--resume", saved, *outputs)
    printed, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    assert printed.count("epoch sparse") == printed.count("Report: ") == 1  # only rank 0 prints
    assert "processes: 2" in printed
    found, expected = (
        json.loads(path.read_text()) for path in (results, tmp_path / "uninterrupted.json")
    )
    assert small_data.without_times(found) == small_data.without_times(expected)

    alone = subprocess.run(
        [sys.executable, *TRAIN, "--resume", str(saved), "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 2 and alone.stderr == (
        "error: sparsetrain.experiments.checkpoint.restore: expected "
        f"{saved} to be a checkpoint of a run of world size 1, got one of world size 2. Start as "
        "many processes with torchrun --nproc-per-node\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--batch-size", 21],
            "error: sparsetrain.experiments.training.Trainer: expected batch_size to be a multiple "
            "of 2, the number of processes, got 21",
        ),
        (
            ["--epochs", "many"],
            "Error: Invalid value for '--epochs': 'many' is not a valid integer.",
        ),
        (
            [*OPTIONS, "--checkpoint", "/dev/full"],  # rank 0 alone fails to write it
            "error: sparsetrain.experiments.files.write_atomically: expected /dev/full to be "
            "written, got No space left on device. The previous content is kept",
        ),
    ],
    ids=["trainer", "usage", "full disk"],
)
def test_ranks_refuse_with_one_message(folder, options, message):
    process = torchrun(*TRAIN, *options, "--data-dir", folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert [line for line in errors.splitlines() if line.lower().startswith("error: ")] == [message]
    assert "[rank" not in errors  # the traceback of a rank begins with it

"""examples/train.py under torchrun: two gloo processes train, stop, resume and refuse as one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import small_data
from helpers.paths import TESTS

EXAMPLE = TESTS.parent / "examples" / "train.py"
OPTIONS = ["--epochs", "2", "--batch-size", "16", "--rate", "0.9"]


def torchrun(*arguments: object, ranks: int = 2) -> subprocess.Popen[str]:
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


def test_interrupted_ranks_resume_bit_exactly(tmp_path, folder):
    """Runs tests/experiments/training_ranks.py, then the example: its results are those of the run there."""
    laws = torchrun(TESTS / "training_ranks.py", folder, tmp_path)
    _, errors = laws.communicate(timeout=300)
    assert laws.returncode == 0, errors

    saved, results = tmp_path / "example.pt", tmp_path / "example.json"
    page = tmp_path / "page.html"
    common = ["--data-dir", folder, "--json", results, "--report", page]
    process = torchrun(EXAMPLE, *OPTIONS, "--checkpoint", saved, *common)
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip().startswith("1 "):  # the row of the first epoch
            break
    process.send_signal(signal.SIGINT)  # torchrun hands it to its processes
    rest, errors = process.communicate(timeout=120)
    assert rest.count("Stopped at epoch 2") == 1, errors
    again = f"--resume {saved} --data-dir {folder} --json {results} --report {page}"
    assert f"torchrun --nproc-per-node 2 {EXAMPLE} {again}" in rest
    assert rest.count(f"Report: {page}") == 1 and page.exists()
    assert "train.py: " not in errors
    assert len(json.loads(results.read_text())["epochs"]) == 1

    resumed = torchrun(EXAMPLE, "--resume", saved, *common)
    shown, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    assert shown.count("Report: ") == 1
    assert shown.count("epoch sparse") == 1 and "processes: 2" in shown  # one process speaks
    whole = tmp_path / "whole.json"
    one, other = (json.loads(path.read_text()) for path in (results, whole))
    assert small_data.without_times(one) == small_data.without_times(other)

    alone = subprocess.run(
        [sys.executable, str(EXAMPLE), "--resume", str(saved), "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert alone.returncode == 2 and alone.stderr == (
        f"train.py: sparsetrain.checkpoint.restore: expected {saved} to be a checkpoint of a run "
        "of world size 1, got one of world size 2. Start as many processes with torchrun "
        "--nproc-per-node\n"
    )


def test_ranks_refuse_in_one_sentence(tmp_path, folder):
    process = torchrun(EXAMPLE, "--batch-size", 22, "--data-dir", folder, ranks=4)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    sentences = [line for line in errors.splitlines() if line.startswith("train.py: ")]
    assert sentences == [
        "train.py: sparsetrain.Trainer: expected batch_size to be a multiple of 4, the number of "
        "processes, got 22"
    ]


def test_a_disk_that_is_full_for_rank_0_stops_all(tmp_path, folder):
    process = torchrun(EXAMPLE, *OPTIONS, "--data-dir", folder, "--checkpoint", "/dev/full")
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    sentences = [line for line in errors.splitlines() if line.startswith("train.py: ")]
    assert len(sentences) == 1, errors
    assert "expected /dev/full to be written, got No space left on device" in sentences[0]
    assert "[rank" not in errors  # how torch begins a rank's traceback

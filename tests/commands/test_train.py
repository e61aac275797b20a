"""`sparsetrain train`: outputs, interruption and resumption, and refusals in one sentence."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import small_data
from helpers.paths import ROOT
from helpers.runs import TINY, assert_bit_equal, exhaust
from helpers.small_data import without_times

from sparsetrain.__main__ import main
from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.training import Trainer

SHORT = ["--epochs", 1, "--batch-size", 96]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path_factory, monkeypatch):
    """Checkpoints go to runs/ of the current folder."""
    monkeypatch.chdir(tmp_path_factory.mktemp("current"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def data(folder) -> datasets.Dataset:
    return datasets.load(data_dir=folder)


@pytest.fixture
def saved(tmp_path, data) -> Path:
    """A checkpoint of a run of TINY that has done two steps."""
    trainer = Trainer(TINY, data)
    exhaust(zip(range(2), trainer.run(), strict=False))
    checkpoint.save(tmp_path / "run.pt", trainer)
    return tmp_path / "run.pt"


@pytest.fixture
def train(folder):
    """Calls the command in this process on the images in `folder`."""

    def call(*arguments, data_dir=folder):
        command = ["train", "--data-dir", data_dir, *arguments]
        return CliRunner().invoke(main, [*map(str, command)])

    return call


# Outputs


def test_all_outputs_show_the_same_run(tmp_path, train):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    saved, results = tmp_path / "run.pt", tmp_path / "run.json"
    page, board = tmp_path / "report.html", tmp_path / "board"
    options = ["--epochs", 2, "--batch-size", 96, "--checkpoint", saved, "--json", results]
    done = train(*options, "--report", page, "--tensorboard", board)
    assert done.exit_code == 0, done.output
    content = json.loads(results.read_text())
    assert content["command"] and content["machine"]["threads"] == 1
    assert [f"{epoch['train_loss']:.3f}" in done.stdout for epoch in content["epochs"]] == [
        True
    ] * 2
    for layer in content["layers"]:
        assert layer["name"] in done.stdout and layer["name"] in page.read_text()
    assert f"Checkpoint: {saved}" in done.stdout and f"Report: {page}" in done.stdout
    for what in ("command", "machine", "sparsetrain", "torch", "Python", "data", "training"):
        assert f"<dt>{what}</dt>" in page.read_text()

    scalars = accumulator.EventAccumulator(str(board)).Reload()
    for name in ("train_loss", "grad_density", "cycles"):
        found = [(each.step, each.value) for each in scalars.Scalars(f"epoch/{name}")]
        assert found == [(e["epoch"], pytest.approx(e[name])) for e in content["epochs"]]
    found = [each.value for each in scalars.Scalars("grad_density/block1_1.conv1")]
    log = [entry for entry in content["density_log"] if entry["name"] == "block1_1.conv1"]
    assert found == pytest.approx([entry["grad_density"] for entry in log])


def test_a_finished_run_resumes_to_its_own_results(tmp_path, train):
    saved, results = tmp_path / "run.pt", tmp_path / "run.json"
    options = [*SHORT, "--checkpoint", saved, "--json", results]
    done = train(*options)
    assert done.exit_code == 0 and "will be overwritten" not in done.stdout
    first = json.loads(results.read_text())
    results.unlink()
    assert train("--resume", saved, "--json", results).exit_code == 0
    assert json.loads(results.read_text()) == first
    assert f"{saved} will be overwritten" in train(*options).stdout


def test_checkpoints_go_to_runs_by_default(train):
    for rule in (["--dense"], ["--density", 0.2], []):
        assert train(*SHORT, *rule).exit_code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        f"resnet8-fashion-mnist-{rule}-seed0.pt" for rule in ("dense", "density0.2", "rate0.9")
    ]


# Interruption


def test_an_interrupted_process_resumes_bit_exactly(tmp_path, folder, data, train):
    uninterrupted = Trainer(replace(TINY, batch_size=16, learning_rate=0.05), data)
    exhaust(uninterrupted.run())
    saved, results = tmp_path / "run.pt", tmp_path / "run.json"
    options = ["--epochs", 2, "--batch-size", 16, "--checkpoint", saved, "--json", results]
    command = [sys.executable, "-m", "sparsetrain", "train", *options, "--data-dir", folder]
    process = subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip().startswith("1 "):  # the row of the first epoch
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors == ""
    assert f"To continue: sparsetrain train --resume {saved} --data-dir {folder}" in rest
    assert len(json.loads(results.read_text())["epochs"]) < 2
    assert train("--resume", saved, "--json", results).exit_code == 0
    assert without_times(json.loads(results.read_text())) == without_times(uninterrupted.results())
    state = checkpoint.load(saved)
    for key, value in without_times(uninterrupted.state_dict()).items():
        assert_bit_equal(without_times(state)[key], value)


def test_a_second_interrupt_stops_at_once(tmp_path, train, monkeypatch):
    def step(self: Trainer) -> float:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return 0.0

    monkeypatch.setattr(Trainer, "_train_step", step)
    before = signal.getsignal(signal.SIGINT)
    done = train("--checkpoint", tmp_path / "run.pt")
    assert done.exit_code == 130
    assert done.stderr.strip() == "error: stopped at once. The last checkpoint is unchanged"
    assert not (tmp_path / "run.pt").exists()
    assert signal.getsignal(signal.SIGINT) is before


# Refusals: one sentence on stderr, exit code 2, nothing lost


def assert_refused(done, message):
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", 1], "expected rate to be in [0, 1), got 1.0"),
        (["--rate", 0.9, "--density", 0.2], "exactly one of rate, density and dense"),
        (["--epochs", 0], "expected epochs to be of type int, at least 1, got 0"),
        (["--json", "same", "--checkpoint", "same"], "another file than the checkpoint, got same"),
        (["--batch-size", 193], "expected batch_size to be at most 192"),
        (["--model", "lenet"], "expected name to be one of resnet8"),
        (["--dataset", "cifar10", "--data-dir", "/nowhere"], "expected /nowhere to be a folder"),
        (["--data-dir", "/nowhere"], "to be in /nowhere or its FashionMNIST/raw, got neither"),
        (["--resume", "/nowhere.pt"], "expected /nowhere.pt to be a checkpoint, got no file"),
        (["--json", "/nowhere/run.json"], "got no folder /nowhere"),
        (["--checkpoint", "/"], "expected / to be writable, got a folder"),
        (["--json", "/proc/run.json"], "expected /proc/run.json to be writable"),
        (["--report", "/nowhere/report.html"], "got no folder /nowhere"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_impossible_options_are_refused(train, options, message):
    assert_refused(train(*options), message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "mnist"], "'--dataset': 'mnist' is not one of"),
        (["--epochs", "many"], "'--epochs': 'many' is not a valid int"),
        (["--nonsense"], "No such option"),
    ],
)
def test_options_that_do_not_parse_are_usage_errors(train, options, message):
    done = train(*options)
    assert done.exit_code == 2 and message in done.stderr and "Usage: " in done.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--model", "plain"), ("--density", 0.2), ("--epochs", 5), ("--seed", 1)]
)
def test_options_that_contradict_the_checkpoint_are_refused(saved, train, option, value):
    assert_refused(train("--resume", saved, option, value), f"expected {option} to be")


def test_a_damaged_checkpoint_is_refused(saved, train):
    saved.write_bytes(saved.read_bytes()[:1000])
    assert_refused(train("--resume", saved), "to be a checkpoint of a run, got a damaged")


def test_a_checkpoint_of_other_data_is_refused(tmp_path, saved, train):
    other = small_data.write(tmp_path / "other", train=168)
    done = train("--resume", saved, data_dir=other)
    assert_refused(done, "a run on these 168 + 100 images")


def test_a_full_disk_keeps_the_last_checkpoint(saved, train, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    done = train("--resume", saved)
    assert done.exit_code == 2
    assert "to be written, got No space left on device" in done.stderr
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_loss_that_is_not_finite_is_reported(train):
    done = train("--model", "plain", "--learning-rate", 1e9, "--batch-size", 24)
    assert done.exit_code == 2
    assert "expected the loss of epoch 1 to be finite, got" in done.stderr


def test_a_missing_tensorboard_is_named(tmp_path, train, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    done = train("--tensorboard", tmp_path / "board")
    assert_refused(done, "got none. Run pip install tensorboard")


def test_the_number_of_threads_is_set_for_the_run(train):
    before = torch.get_num_threads()
    try:
        assert train(*SHORT, "--threads", 2).exit_code == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

"""`sparsetrain sweep`: nothing that stops a sweep loses or repeats a run."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import small_data
from helpers.paths import ROOT
from helpers.runs import exhaust
from helpers.small_data import without_times

import sparsetrain
from sparsetrain.__main__ import main
from sparsetrain.experiments import datasets, sweep
from sparsetrain.experiments.results import read_results
from sparsetrain.experiments.settings import TYPES, Settings
from sparsetrain.experiments.training import Trainer

OPTIONS = ["--epochs", 2, "--batch-size", 24, "--rule", "dense", "--rule", "rate 0.9", "--seeds", 2]
FOUR = [(rule, seed) for seed in (0, 1) for rule in ("dense", "rate0.9")]
SHORT = ["--epochs", 1, "--batch-size", 96]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"))


def start(folder, images, *options, environment=(), launch=()):
    """Starts a sweep in a new process."""
    command = [sys.executable, *launch, "-m", "sparsetrain", "sweep", folder, *options]
    return subprocess.Popen(
        [*map(str, command), "--data-dir", str(images)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **dict(environment)},
    )


def run(*arguments):
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


def finished(folder) -> list[tuple[str, int]]:
    """(rule, seed) of each line of the results, in their order."""
    configs = [result["config"] for result in read_results(folder)]
    rules = ["dense" if config["dense"] else f"rate{config['rate']}" for config in configs]
    return [(rule, config["seed"]) for rule, config in zip(rules, configs, strict=True)]


def test_each_line_has_the_results_of_a_trainer(tmp_path, images):
    done = run(tmp_path, *OPTIONS, "--data-dir", images)
    assert done.exit_code == 0 and "4 of 4 runs are in" in done.output
    assert finished(tmp_path) == FOUR  # all rules with one seed, then the next seed
    data = datasets.load(data_dir=images)
    for result in read_results(tmp_path):
        trainer = Trainer(Settings(**{name: result["config"][name] for name in TYPES}), data)
        exhaust(trainer.run())
        alone = json.loads(json.dumps(trainer.results()))
        assert without_times({part: result[part] for part in alone}) == without_times(alone)
        assert result["failure"] is None
    assert not list((tmp_path / "runs").glob("*.pt"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_sweep_continues_to_the_same_results(tmp_path, images, number):
    """Stopped in its second run: Ctrl-C leaves a checkpoint of it, and a kill restarts it."""
    folder = tmp_path / "stopped"
    process = start(folder, images, *OPTIONS)
    while not (folder / "results.jsonl").exists():
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    # A killed process can leave an incomplete last line.
    lines, end, _ = (folder / "results.jsonl").read_bytes().rpartition(b"\n")
    assert lines.count(b"\n") < 3
    if number == signal.SIGINT:
        assert process.returncode == 130 and "Stopped. The same command continues." in out
        assert len(list((folder / "runs").glob("*.pt"))) == 1
    assert run(folder, *OPTIONS, "--data-dir", images).exit_code == 0
    assert run(tmp_path / "uninterrupted", *OPTIONS, "--data-dir", images).exit_code == 0
    assert (folder / "results.jsonl").read_bytes().startswith(lines + end)
    keys = ("run", "config", "epochs", "layers", "density_log")
    continued, expected = (
        [without_times({key: result[key] for key in keys}) for result in read_results(path)]
        for path in (folder, tmp_path / "uninterrupted")
    )
    assert continued == expected


def test_processes_share_a_folder(tmp_path, images):
    processes = [start(tmp_path, images, *OPTIONS) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert sorted(finished(tmp_path)) == sorted(FOUR)


def test_ranks_of_torchrun_share_a_folder(tmp_path, images):
    """Each run belongs to one rank, and its results do not depend on which."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    process = start(tmp_path, images, *OPTIONS, launch=launch)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    shared = read_results(tmp_path)
    assert sorted(finished(tmp_path)) == sorted(FOUR)
    assert {result["config"]["processes"] for result in shared} == {1}
    assert run(tmp_path / "alone", *OPTIONS, "--data-dir", images).exit_code == 0
    by_name = [
        {r["run"]: without_times({key: r[key] for key in ("epochs", "layers")}) for r in results}
        for results in (shared, read_results(tmp_path / "alone"))
    ]
    assert by_name[0] == by_name[1]


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path, images):
    data = datasets.load(data_dir=images)
    settings = Settings(dense=True, epochs=1, batch_size=96)
    folder = sweep.Folder(tmp_path)
    with folder.claim(sweep.name(settings, data)) as is_mine:
        assert is_mine
        done = run(tmp_path, *SHORT, "--data-dir", images)
        assert "1 of 2 runs are in" in done.output
        assert "1 are in progress in other processes" in done.output
    assert run(tmp_path, *SHORT, "--data-dir", images).stdout.startswith("2 of 2 runs are in")
    assert finished(tmp_path) == [("rate0.9", 0), ("dense", 0)]


def test_a_run_whose_loss_is_not_finite_is_a_result_and_not_repeated(tmp_path, images):
    options = ["--model", "plain", "--learning-rate", 1e9, "--batch-size", 24, "--rule", "dense"]
    for _ in range(2):
        assert run(tmp_path, *options, "--data-dir", images).exit_code == 0
        (result,) = read_results(tmp_path)
        assert "expected the loss of epoch 1 to be finite, got" in result["failure"]
        assert result["epochs"] == []


def test_a_run_does_not_inherit_the_costs_of_the_process(tmp_path, images):
    table = sparsetrain.costs()
    other = {**table, "float32": {**table["float32"], "forward": table["float32"]["grad_input"]}}
    sparsetrain.set_costs(other)
    assert run(tmp_path, *SHORT, "--data-dir", images).exit_code == 0
    assert sparsetrain.costs() == table


def test_the_command_is_recorded_as_a_shell_takes_it(tmp_path, images):
    process = start(tmp_path, images, *SHORT)
    process.communicate(timeout=120)
    for result in read_results(tmp_path):
        assert shlex.split(result["command"]) == process.args


def test_only_the_first_local_rank_shows_progress(tmp_path, images):
    process = start(tmp_path, images, *SHORT, environment={"LOCAL_RANK": "1"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == ""


# Options and TOML


def test_a_toml_file_has_the_options_and_the_command_line_wins(tmp_path, images):
    file = tmp_path / "sweep.toml"
    file.write_text(
        f'models = ["resnet8"]\nrules = ["density 0.2"]\nseeds = [3]\nepochs = 2\n'
        f'batch_size = 96\nlearning_rate = 1\ndata_dir = "{images}"\n'
    )
    assert run(tmp_path, "--toml", file, "--epochs", 1).exit_code == 0
    (result,) = read_results(tmp_path)
    expected = dict(model="resnet8", density=0.2, seed=3, epochs=1, batch_size=96, learning_rate=1)
    assert {key: result["config"][key] for key in expected} == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch = 2", "plan: expected keys of a sweep, got 'epoch'; did you mean 'epochs'"),
        ("epochs = 1.5", "Settings: expected epochs to be of type int, at least 1, got 1.5"),
        ("epochs = ", "read_toml: expected"),
    ],
)
def test_an_impossible_toml_file_is_refused(tmp_path, content, message):
    file = tmp_path / "sweep.toml"
    file.write_text(content)
    done = run(tmp_path / "folder", "--toml", file)
    assert done.exit_code == 2 and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_toml_file_is_refused(tmp_path):
    done = run(tmp_path / "folder", "--toml", tmp_path / "none.toml")
    assert done.exit_code == 2 and "to be a TOML file, got none" in done.stderr


def test_a_foreign_results_file_is_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text("not json\n")
    done = run(tmp_path)
    assert done.exit_code == 2 and "results.jsonl to be a line of JSON" in done.stderr

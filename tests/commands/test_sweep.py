"""A sweep loses no run and repeats none, whatever stops it; runs are those of the trainer."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import small_data
from helpers.paths import ROOT
from helpers.small_data import without_times
from test_formats import RUN, assert_documented

import sparsetrain
from sparsetrain.__main__ import main
from sparsetrain.experiments import datasets, sweep
from sparsetrain.experiments.files import write_json
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer

OPTIONS = ["--epochs", 2, "--batch-size", 24, "--rule", "dense", "--rule", "rate 0.9", "--seeds", 2]
FOUR = [(rule, seed) for seed in (0, 1) for rule in ("dense", "rate0.9")]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"))


def start(folder, images, *options):
    command = [sys.executable, "-m", "sparsetrain", "sweep", folder, *OPTIONS, *options]
    return subprocess.Popen(
        [*map(str, command), "--data-dir", str(images)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def run(*arguments):
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


def ran(folder) -> list[tuple[str, int]]:
    """(rule, seed) of each line of the results, in their order."""
    results = results.read_results(Path(folder) / "results.jsonl")
    return [
        ("dense" if c["dense"] else f"rate{c['rate']}", c["seed"])
        for c in (result["config"] for result in results)
    ]


def test_each_line_is_what_a_trainer_alone_gives(tmp_path, images):
    result = run(tmp_path, *OPTIONS, "--data-dir", images)
    assert result.exit_code == 0 and "4 of 4 runs are in" in result.output
    assert ran(tmp_path) == FOUR  # whole seeds first: half a sweep is worth something
    data = datasets.load(data_dir=images)
    for line in (tmp_path / "results.jsonl").read_text().splitlines():
        content = json.loads(line)
        settings = {name: content["config"][name] for name in Settings.__dataclass_fields__}
        trainer = Trainer(Settings(**settings), data)
        for _ in trainer.run():
            pass
        write_json(tmp_path / "one.json", trainer.results())
        alone = json.loads((tmp_path / "one.json").read_text())
        assert without_times({part: content[part] for part in alone}) == without_times(alone)
        assert content["failure"] is None
    assert not list((tmp_path / "runs").glob("*.pt"))


def test_lines_are_as_documented(tmp_path, images):
    assert run(tmp_path, "--epochs", 1, "--batch-size", 96, "--data-dir", images).exit_code == 0
    for result in results.read_results(tmp_path / "results.jsonl"):
        assert_documented(result, "## Results of a sweep: `sparsetrain sweep FOLDER`")
        assert_documented(result["machine"], "### `machine`")
        assert_documented(result["parts"], RUN, "### `parts`")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_sweep_goes_on_to_the_same_results(tmp_path, images, number):
    """Stopped in its second run; after a kill that run begins anew, after Ctrl-C it goes on."""
    folder = tmp_path / "stopped"
    process = start(folder, images)
    while not (folder / "results.jsonl").exists():
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    before, end, _ = (folder / "results.jsonl").read_bytes().rpartition(b"\n")  # a kill may halve
    before += end
    assert before.count(b"\n") < 4
    if number == signal.SIGINT:
        assert process.returncode == 130 and "Stopped. The same command goes on." in out
        assert len(list((folder / "runs").glob("*.pt"))) == 1
    assert run(folder, *OPTIONS, "--data-dir", images).exit_code == 0
    assert run(tmp_path / "whole", *OPTIONS, "--data-dir", images).exit_code == 0
    assert (folder / "results.jsonl").read_bytes().startswith(before)
    parts = [
        [
            without_times({p: r[p] for p in ("run", "config", "epochs", "layers", "density_log")})
            for r in results.read_results(each / "results.jsonl")
        ]
        for each in (folder, tmp_path / "whole")
    ]
    assert parts[0] == parts[1]


def test_processes_share_a_folder(tmp_path, images):
    processes = [start(tmp_path, images) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert sorted(ran(tmp_path)) == sorted(FOUR)


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path, images):
    data = datasets.load(data_dir=images)
    settings = Settings(dense=True, epochs=1, batch_size=96)
    folder = sweep.Folder(tmp_path)
    with folder.claim(sweep.name(settings, data)) as mine:
        assert mine
        options = ["--epochs", 1, "--batch-size", 96, "--data-dir", images]
        result = run(tmp_path, *options)
        assert "1 of 2 runs are in" in result.output
        assert "1 are in progress in other processes" in result.output
    assert run(tmp_path, *options).stdout.startswith("2 of 2 runs are in")
    assert ran(tmp_path) == [("rate0.9", 0), ("dense", 0)]


def test_half_a_line_of_a_killed_process_is_replaced(tmp_path):
    folder = sweep.Folder(tmp_path)
    whole = {"run": "a", **dict.fromkeys(sorted(results.KEYS))}
    folder.append(whole)
    with folder.results.open("ab") as file:
        file.write(b'{"run": "b", "conf')
    assert folder.finished() == [whole]
    folder.append({**whole, "run": "c"})
    assert folder.names() == {"a", "c"}
    assert len(folder.results.read_text().splitlines()) == 2


def test_a_run_whose_loss_is_not_finite_is_a_result(tmp_path, images):
    options = ["--model", "plain", "--learning-rate", 1e9, "--batch-size", 24, "--rule", "dense"]
    for _ in range(2):  # and is not tried again
        assert run(tmp_path, *options, "--data-dir", images).exit_code == 0
        (result,) = results.read_results(tmp_path / "results.jsonl")
        assert "expected the loss of epoch 1 to be finite, got" in result["failure"]
        assert result["epochs"] == []


def test_names_tell_runs_apart(images):
    data = datasets.load(data_dir=images)
    one = Settings(rate=0.9)
    others = [replace(one, epochs=6), replace(one, seed=1), replace(one, rate=0.8), one]
    assert len({sweep.name(each, data) for each in others}) == 4


def test_a_toml_file_is_the_options(tmp_path, images):
    file = tmp_path / "sweep.toml"
    file.write_text(
        f'models = ["resnet8"]\nrules = ["density 0.2"]\nseeds = [3]\nepochs = 2\n'
        f'batch_size = 96\nlearning_rate = 1\ndata_dir = "{images}"\n'
    )
    assert run(tmp_path, "--toml", file, "--epochs", 1).exit_code == 0
    (result,) = results.read_results(tmp_path / "results.jsonl")
    wanted = dict(model="resnet8", density=0.2, seed=3, epochs=1, batch_size=96, learning_rate=1)
    assert {key: result["config"][key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("epoch = 2", "plan: expected keys of a sweep, got 'epoch'; did you mean 'epochs'"),
        ("models = 'plain'", "plan: expected models to be a list of at least one str, got 'plain'"),
        ("models = []", "plan: expected models to be a list of at least one str, got []"),
        ("seeds = [0.5]", "plan: expected seeds to be a list of at least one int, got [0.5]"),
        ("seeds = 0", "plan: expected seeds to be a list of at least one int, got []"),
        ("rules = ['0.9']", "plan: expected a rule to be dense, rate R or density D, got '0.9'"),
        ("rules = ['rate 1..2']", "a rule to be dense, rate R or density D, got 'rate 1..2'"),
        ("rules = ['rate 1.5']", "sweep.plan: expected rate to be in [0, 1), got 1.5"),
        ("epochs = 1.5", "plan: expected epochs to be of type int, got 1.5"),
        ("data_dir = 3", "plan: expected data_dir to be of type str, got 3"),
        ("epochs = ", "read_toml: expected"),
    ],
)
def test_bad_sweeps_are_refused(tmp_path, content, sentence):
    file = tmp_path / "sweep.toml"
    file.write_text(content)
    result = run(tmp_path / "folder", "--toml", file)
    assert result.exit_code == 2 and sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_file_is_refused(tmp_path):
    result = run(tmp_path / "folder", "--toml", tmp_path / "none.toml")
    assert result.exit_code == 2 and "to be a TOML file, got none" in result.stderr


@pytest.mark.parametrize("text", ["not json\n", "[1]\n", '{"run": "a"}\n'])
def test_a_foreign_results_file_is_refused(tmp_path, text):
    (tmp_path / "results.jsonl").write_text(text)
    result = run(tmp_path)
    assert result.exit_code == 2 and "results.jsonl to be" in result.stderr
    with pytest.raises(FileNotFoundError, match="to be a results file, got none"):
        results.read_results(tmp_path / "other.jsonl")


def test_ranks_of_torchrun_share_a_folder(tmp_path, images):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    command += ["-m", "sparsetrain", "sweep", tmp_path, *OPTIONS, "--data-dir", images]
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    results = results.read_results(tmp_path / "results.jsonl")
    assert sorted(ran(tmp_path)) == sorted(FOUR)
    assert {result["config"]["processes"] for result in results} == {1}  # each run is one rank's
    assert run(tmp_path / "alone", *OPTIONS, "--data-dir", images).exit_code == 0
    by_name = [
        {r["run"]: without_times({p: r[p] for p in ("epochs", "layers")}) for r in each}
        for each in (results, results.read_results(tmp_path / "alone" / "results.jsonl"))
    ]
    assert by_name[0] == by_name[1]  # whichever rank it was


@pytest.mark.parametrize(
    ("option", "value"), [("backend", "spares"), ("models", ["resnet8", "resnet9"])]
)
def test_what_a_later_run_would_refuse_is_refused_at_once(option, value):
    content = {"models": ["resnet8"], "rules": ["dense"], option: value}
    with pytest.raises(ValueError, match=r"to be one of .*(spares|resnet9)"):
        sweep.plan(content)


def test_costs_that_one_run_brought_are_not_the_next_ones(tmp_path, images):
    table = sparsetrain.costs()
    other = {**table, "float32": {**table["float32"], "forward": table["float32"]["grad_input"]}}
    sparsetrain.set_costs(other)
    assert run(tmp_path, "--epochs", 1, "--batch-size", 96, "--data-dir", images).exit_code == 0
    assert sparsetrain.costs() == table


def test_the_command_is_kept_as_a_shell_takes_it(tmp_path, images):
    process = start(tmp_path, images)
    process.communicate(timeout=120)
    for result in results.read_results(tmp_path / "results.jsonl"):
        assert shlex.split(result["command"]) == process.args


def test_ranks_but_the_first_show_no_bar(tmp_path, images):
    environment = {**os.environ, "LOCAL_RANK": "1"}
    command = [sys.executable, "-m", "sparsetrain", "sweep", tmp_path, "--epochs", 1]
    done = subprocess.run(
        [*map(str, command), "--batch-size", "96", "--data-dir", str(images)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=True,
    )
    assert done.stderr == ""

"""Training: what it must not change, resumption bit for bit, and every refusal."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import small_data
from helpers.paths import EXAMPLES
from helpers.small_data import without_times

from sparsetrain import accel
from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer

EXAMPLE = EXAMPLES
TINY = Settings(rate=0.9, epochs=2, batch_size=24, learning_rate=0.02, threads=1)  # 8 steps


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small_data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def data(folder) -> datasets.Dataset:
    return datasets.load(data_dir=folder)


@pytest.fixture
def train(monkeypatch, capsys):
    """Calls examples/train.py in this process: (exit code, stdout, stderr)."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setenv("COLUMNS", "100")
    import train as script

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = script.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def losses(settings: Settings, data: datasets.Dataset, steps: int = 4) -> list[float]:
    events = Trainer(settings, data).run()
    return [next(events).loss for _ in range(steps)]


def assert_equal(one: Any, other: Any) -> None:
    """Bit equality of nested state."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


# What training must not change


@pytest.mark.parametrize("model", ["resnet8", "plain"])
def test_with_nothing_pruned_losses_are_the_plain_models(data, model):
    plain = replace(TINY, model=model, rate=None, dense=True)
    unpruned = replace(TINY, model=model, rate=0.0, backend="dense")
    assert losses(plain, data, 16) == losses(unpruned, data, 16)


@pytest.mark.parametrize("model", ["resnet8", "plain"])
def test_sparse_convolutions_train_like_dense_ones(data, model):
    unpruned = replace(TINY, model=model, rate=0.0)
    sparse = losses(replace(unpruned, backend="sparse"), data)
    dense = losses(replace(unpruned, backend="dense"), data)
    assert sparse == pytest.approx(dense, rel=1e-4)


def test_pruned_steps_agree_on_sparse_and_dense_convolutions(data):
    sparse = losses(replace(TINY, backend="sparse"), data, 6)  # pruned from the fifth on
    dense = losses(replace(TINY, backend="dense"), data, 6)
    assert sparse == pytest.approx(dense, rel=1e-2)  # a rounding may move a gradient over its bound


@pytest.mark.parametrize("backend", ["sparse", "dense"])
def test_the_profile_tells_compression_from_sparse_convolutions(data, backend):
    trainer = Trainer(replace(TINY, backend=backend, epochs=1), data)
    for _ in trainer.run():
        pass
    parts = trainer.parts
    assert (parts["compress"] > 0) == (backend == "sparse")
    assert all(parts[part] > 0 for part in ("sparse", "dense", "prune", "normalize", "other"))


def test_recording_a_step_does_not_change_it(data, monkeypatch):
    recorded = losses(replace(TINY, epochs=1, model="plain"), data, 8)
    monkeypatch.setattr(accel.CostMeter, "due", False)
    assert recorded == losses(replace(TINY, epochs=1, model="plain"), data, 8)


def test_every_image_is_trained_on_once_an_epoch(data):
    trainer = Trainer(TINY, data)
    order = trainer._epoch_order()
    assert torch.equal(order.sort().values, torch.arange(len(data.train)))
    trainer.epoch = 1
    assert not torch.equal(trainer._epoch_order(), order)


def test_pruning_lowers_densities_and_costs(data):
    trainer = Trainer(replace(TINY, epochs=1), data)
    for _ in trainer.run():
        pass
    record = trainer.epochs[0]
    assert record.grad_density < 0.5 < 0.9 < record.grad_density_unpruned
    assert record.cycles < record.dense_cycles and record.energy_pj < record.dense_energy_pj
    assert len(trainer.layers) == 9
    assert trainer.layers[0].grad_input is None


def test_colour_images_train_a_network_of_torchvision():
    pytest.importorskip("torchvision")

    def split(count: int) -> datasets.Split:
        images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
        return datasets.Split(images, torch.arange(count) % 10)

    scale = (0.5, 0.5, 0.5)
    colours = datasets.Dataset("cifar10", split(8), split(2), tuple("0123456789"), scale, scale, 4)
    trainer = Trainer(replace(TINY, model="squeezenet1_1", epochs=1, batch_size=4), colours)
    for _ in trainer.run():
        pass
    assert len(trainer.layers) == 26
    assert all(layer.cycles > 0 for layer in trainer.layers)


# Resumption


@pytest.mark.parametrize(
    ("model", "rule", "events"),
    [
        ("resnet8", {"rate": 0.9}, 3),  # inside the first epoch
        ("plain", {"rate": 0.9}, 11),  # inside the second, with dropout
        ("resnet8", {"rate": None, "density": 0.2}, 8),  # trained, not tested
        ("plain", {"rate": None, "dense": True}, 10),  # at the end of an epoch
    ],
)
def test_resumption_is_bit_exact(tmp_path, data, model, rule, events):
    settings = replace(TINY, model=model, **rule)
    whole = Trainer(settings, data)
    for _ in whole.run():
        pass
    stopped = Trainer(settings, data)
    for _, _ in zip(range(events), stopped.run(), strict=False):
        pass
    path = tmp_path / "run.pt"
    checkpoint.save(path, stopped)
    torch.manual_seed(123)  # what the process did before must not matter
    resumed = checkpoint.restore(path, checkpoint.load(path), data)
    for _ in resumed.run():
        pass
    assert_equal(without_times(whole.state_dict()), without_times(resumed.state_dict()))


def test_interrupted_process_resumes_bit_exactly(tmp_path, folder, data, train):
    settings = replace(TINY, batch_size=16, learning_rate=0.05)
    whole = Trainer(settings, data)
    for _ in whole.run():
        pass
    saved, results = tmp_path / "run.pt", tmp_path / "run.json"
    common = ["--data-dir", str(folder), "--json", str(results)]
    options = ["--epochs", "2", "--batch-size", "16", "--threads", "1", "--checkpoint", str(saved)]
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "train.py"), *options, *common],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLE.parent), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip().startswith("1 "):  # the row of the first epoch
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors == ""
    assert f"--resume {saved}" in rest
    assert len(json.loads(results.read_text())["epochs"]) < 2
    assert train("--resume", saved, *common)[0] == 0
    assert without_times(json.loads(results.read_text())) == without_times(whole.results())
    state = checkpoint.load(saved)
    for key, value in without_times(whole.state_dict()).items():
        assert_equal(without_times(state)[key], value)


def test_a_second_interrupt_stops_at_once(tmp_path, folder, train, monkeypatch):
    def step(self: Trainer) -> float:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return 0.0

    monkeypatch.setattr(Trainer, "_train_step", step)
    before = signal.getsignal(signal.SIGINT)
    code, _, err = train("--data-dir", folder, "--checkpoint", tmp_path / "run.pt")
    assert code == 130
    assert err.strip() == "train.py: stopped at once; the last checkpoint is as it was"
    assert not (tmp_path / "run.pt").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_writes_its_report(tmp_path, folder, train):
    page = tmp_path / "report.html"
    options = ["--epochs", 1, "--batch-size", 96, "--checkpoint", tmp_path / "run.pt"]
    code, out, _ = train(*options, "--data-dir", folder, "--report", page)
    assert code == 0 and "Report: " in out
    text = page.read_text()
    assert "block3_1.conv2" in text
    for what in ("command", "machine", "sparsetrain", "torch", "Python", "data", "setting"):
        assert f"<dt>{what}</dt>" in text


def test_finished_run_resumes_to_its_own_results(tmp_path, folder, train):
    saved, results = tmp_path / "run.pt", tmp_path / "run.json"
    common = ["--data-dir", folder, "--json", results]
    options = ["--epochs", 1, "--batch-size", 24, "--threads", 1, "--checkpoint", saved]
    code, out, _ = train(*options, *common)
    assert code == 0 and "block3_1.conv2" in out and f"Checkpoint: {saved}" in out
    assert "will be overwritten" not in out
    first = json.loads(results.read_text())
    assert first["command"] and first["machine"]["threads"] == 1
    results.unlink()
    assert train("--resume", saved, *common)[0] == 0
    assert json.loads(results.read_text()) == first
    assert "will be overwritten" in train(*options, *common)[1]


def test_checkpoints_lie_in_runs_by_default(tmp_path, folder, train, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--epochs", 1, "--batch-size", 96, "--threads", 1, "--data-dir", folder]
    for rule in (["--dense"], ["--density", 0.2], []):
        assert train(*options, *rule)[0] == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        f"resnet8-fashion-mnist-{rule}-seed0.pt" for rule in ("dense", "density0.2", "rate0.9")
    ]


# Refusals: one sentence on stderr, exit code 2, nothing lost


def assert_refused(result: tuple[int, str, str], expected: str) -> None:
    code, out, err = result
    assert code == 2 and out == ""
    assert err.startswith("train.py: ") and err.count("\n") == 1 and expected in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--rate", 1], "expected rate to be in [0, 1), got 1.0"),
        (["--density", 0], "expected density to be in (0, 1], got 0.0"),
        (["--rate", 0.9, "--density", 0.2], "exactly one of rate, density and dense"),
        (["--rate", 0.9, "--dense"], "exactly one of rate, density and dense"),
        (["--epochs", 0], "'--epochs': 0 is not in the range"),
        (["--learning-rate", 0], "learning_rate to be positive and below 3e38, got 0.0"),
        (["--density", "1e-320"], "density to be in (0, 1], got 1e-320"),
        (["--json", "same", "--checkpoint", "same"], "another file than the checkpoint, got same"),
        (["--batch-size", 193], "expected batch_size to be at most 192"),
        (["--dataset", "mnist"], "'--dataset': 'mnist' is not one of"),
        (["--backend", "fast"], "'--backend': 'fast' is not one of"),
        (["--model", "lenet"], "expected name to be one of resnet8"),
        (["--dataset", "cifar10", "--data-dir", "/nowhere"], "expected /nowhere to be a folder"),
        (["--data-dir", "/nowhere"], "to be in /nowhere or its FashionMNIST/raw, got neither"),
        (["--resume", "/nowhere.pt"], "expected /nowhere.pt to be a checkpoint, got no file"),
        (["--json", "/nowhere/run.json"], "got no folder /nowhere"),
        (["--checkpoint", "/"], "expected / to be a file that can be written, got a folder"),
        (["--json", "/proc/run.json"], "expected /proc/run.json to be a file"),
        (["--report", "/nowhere/report.html"], "got no folder /nowhere"),
        (["--nonsense"], "No such option"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_bad_options_are_refused(tmp_path, folder, train, monkeypatch, options, expected):
    monkeypatch.chdir(tmp_path)
    assert_refused(train("--data-dir", folder, "--threads", 1, *options), expected)


@pytest.fixture
def saved(tmp_path, data) -> Path:
    """A checkpoint of a run of TINY that has done two steps."""
    trainer = Trainer(TINY, data)
    events = trainer.run()
    next(events), next(events)
    checkpoint.save(tmp_path / "run.pt", trainer)
    return tmp_path / "run.pt"


def change(path: Path, **changes: Any) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, path)


def test_checkpoint_of_other_settings_is_refused(saved, folder, train):
    resume = ["--resume", saved, "--data-dir", folder]
    for option, value in {"--model": "plain", "--density": 0.2, "--epochs": 5, "--seed": 1}.items():
        assert_refused(train(*resume, option, value), f"expected {option} to be")


def test_checkpoint_of_another_network_is_refused(saved, folder, train, data):
    other = Trainer(replace(TINY, model="plain"), data).state_dict()
    change(saved, model=other["model"])
    result = train("--resume", saved, "--data-dir", folder)
    assert_refused(result, "a checkpoint of this version's resnet8, got one of another network")


def test_checkpoint_of_other_data_is_refused(tmp_path, saved, train):
    other = small_data.write(tmp_path / "other", train=168)
    result = train("--resume", saved, "--data-dir", other)
    assert_refused(result, "a run on these 168 + 100 images")


def test_checkpoint_of_another_version_is_refused(saved, folder, train):
    change(saved, sparsetrain_checkpoint=99)
    result = train("--resume", saved, "--data-dir", folder)
    assert_refused(result, "a checkpoint of version 3, got version 99")


def test_a_checkpoint_without_its_settings_is_refused(tmp_path, train):
    path = tmp_path / "foreign.pt"
    torch.save({"sparsetrain_checkpoint": checkpoint.VERSION}, path)
    assert_refused(train("--resume", path), "a whole checkpoint of this version")


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "state_dict", "executable"])
def test_what_is_no_checkpoint_is_refused(saved, folder, train, kind):
    whole = saved.read_bytes()
    if kind in ("state_dict", "executable"):
        torch.save({"weight": torch.zeros(1)} if kind == "state_dict" else print, saved)
    else:
        saved.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[kind])
    assert_refused(train("--resume", saved, "--data-dir", folder), "to be a checkpoint of a run")


def test_a_full_disk_leaves_the_last_checkpoint(saved, folder, train, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = train("--resume", saved, "--data-dir", folder)
    assert code == 2 and "to be written, got No space left on device" in err
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, folder, train):
    options = ["--model", "plain", "--learning-rate", 1e9, "--batch-size", 24, "--threads", 1]
    code, _, err = train(*options, "--data-dir", folder, "--checkpoint", tmp_path / "run.pt")
    assert code == 2 and "expected the loss of epoch 1 to be finite, got" in err


def test_tensorboard_holds_the_epochs_numbers(tmp_path, folder, train):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board, results = tmp_path / "board", tmp_path / "run.json"
    options = ["--epochs", 2, "--batch-size", 96, "--checkpoint", tmp_path / "run.pt"]
    options += ["--data-dir", folder, "--json", results]
    assert train(*options, "--tensorboard", board)[0] == 0
    read = events.EventAccumulator(str(board)).Reload()
    content = json.loads(results.read_text())
    for name in ("train_loss", "grad_density", "cycles"):
        found = [(each.step, each.value) for each in read.Scalars(f"epoch/{name}")]
        assert found == [(e["epoch"], pytest.approx(e[name])) for e in content["epochs"]]
    shown = [each.value for each in read.Scalars("grad_density/block1_1.conv1")]
    rows = [row for row in content["density_log"] if row["name"] == "block1_1.conv1"]
    assert shown == pytest.approx([row["grad_density"] for row in rows])


def test_a_missing_tensorboard_is_named(tmp_path, folder, train, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    options = ["--tensorboard", tmp_path / "board", "--checkpoint", tmp_path / "run.pt"]
    assert_refused(train(*options, "--data-dir", folder), "got none. Run pip install tensorboard")

"""Checkpoints: a damaged, foreign or impossible one is refused in one sentence."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import small_data
from helpers.runs import TINY

from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.training import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return datasets.load("fashion-mnist", small_data.write(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def saved_bytes(tmp_path_factory, data):
    """The bytes of a checkpoint at the end of its first epoch."""
    trainer = Trainer(TINY, data)
    for event in trainer.run():
        if event.record is not None:
            break
    path = tmp_path_factory.mktemp("runs") / "run.pt"
    checkpoint.save(path, trainer)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, saved_bytes):
    (tmp_path / "run.pt").write_bytes(saved_bytes)
    return tmp_path / "run.pt"


def refused(call):
    with pytest.raises(ValueError, match=r"^sparsetrain\.") as error:
        call()
    return str(error.value)


def test_an_undamaged_checkpoint_is_accepted(path, data):
    trainer = checkpoint.restore(path, checkpoint.load(path), data)
    assert (trainer.epoch, trainer.step, len(trainer.layers)) == (1, 0, 9)


def test_one_damaged_byte_of_a_tensor_is_detected(path, saved_bytes):
    weights = next(iter(checkpoint.load(path)["model"].values()))
    begin = saved_bytes.index(weights.numpy().tobytes())
    path.write_bytes(
        saved_bytes[:begin] + bytes([saved_bytes[begin] ^ 1]) + saved_bytes[begin + 1 :]
    )
    assert refused(lambda: checkpoint.load(path)).endswith("got a damaged or foreign file")


def test_a_damaged_directory_of_the_archive_is_refused_or_harmless(path, saved_bytes):
    """Whatever byte is damaged, no other exception escapes. The step of 7 meets every field."""
    for i in range(len(saved_bytes) - 700, len(saved_bytes), 7):
        path.write_bytes(saved_bytes[:i] + bytes([saved_bytes[i] ^ 0xFF]) + saved_bytes[i + 1 :])
        try:
            checkpoint.load(path)
        except ValueError as error:
            assert "to be a checkpoint of a run, got" in str(error)


CHANGED = {
    "epoch": "1",
    "step": None,
    "seconds": True,
    "epochs": [{"epoch": 1}],
    "sparse_shares": ["half"],
    "layers": [3],
    "model": [],
    "ranks": [{"pruning": "none", "random": torch.zeros(1), "loss_sum": 0.0}],
}


@pytest.mark.parametrize("key", CHANGED)
def test_content_of_another_type_is_refused(path, key):
    torch.save({**checkpoint.load(path), key: CHANGED[key]}, path)
    sentence = "to be a complete checkpoint of version 4, got missing or unexpected fields"
    assert sentence in refused(lambda: checkpoint.load(path))


@pytest.mark.parametrize(
    "field, value",
    [("epochs", "2"), ("epochs", 2.0), ("epochs", True), ("model", 8), ("rate", "0.9")],
)
def test_settings_of_another_type_are_refused(path, field, value):
    content = checkpoint.load(path)
    content["settings"][field] = value
    torch.save(content, path)
    assert "to be a complete checkpoint of version 4" in refused(lambda: checkpoint.load(path))


@pytest.mark.parametrize(
    "field, value, sentence",
    [
        ("epochs", 0, "Settings: expected epochs to be of type int, at least 1, got 0"),
        ("learning_rate", math.nan, "Settings: expected learning_rate to be of type float, above"),
        ("rate", 1.5, "Settings: expected rate to be in [0, 1), got 1.5"),
        ("backend", "gpu", "Settings: expected backend to be one of auto, sparse, dense, got"),
        ("model", "resnet9", "networks.build: expected name to be one of"),
    ],
)
def test_impossible_settings_are_refused(path, data, field, value, sentence):
    content = checkpoint.load(path)
    content["settings"][field] = value
    assert sentence in refused(lambda: checkpoint.restore(path, content, data))


@pytest.mark.parametrize(
    "changes",
    [dict(epoch=-1), dict(epoch=3), dict(step=-1), dict(step=9), dict(epochs=[]), dict(epoch=0)],
)
def test_impossible_positions_are_refused(path, data, changes):
    content = {**checkpoint.load(path), **changes}
    sentence = refused(lambda: checkpoint.restore(path, content, data))
    assert "to be a checkpoint of 2 x 8 steps, got one of" in sentence


def test_impossible_pruning_is_refused(path, data):
    content = checkpoint.load(path)
    next(iter(content["ranks"][0]["pruning"]["pruners"].values()))[0] = math.nan
    assert "run.pt to be a checkpoint of" in refused(
        lambda: checkpoint.restore(path, content, data)
    )


def test_a_checkpoint_of_another_network_is_refused(path, data):
    other = Trainer(replace(TINY, model="plain"), data).state_dict()
    content = {**checkpoint.load(path), "model": other["model"]}
    assert "a checkpoint of this version's resnet8, got one of another network" in refused(
        lambda: checkpoint.restore(path, content, data)
    )


def test_a_checkpoint_of_other_data_is_refused(tmp_path, path):
    other = datasets.load(data_dir=small_data.write(tmp_path / "other", train=168))
    assert "a run on these 168 + 100 images" in refused(
        lambda: checkpoint.restore(path, checkpoint.load(path), other)
    )


def test_a_checkpoint_of_an_unknown_version_is_refused(path):
    torch.save({**checkpoint.load(path), "sparsetrain_checkpoint": 99}, path)
    sentence = f"a checkpoint of version {checkpoint.VERSION}, got version 99"
    assert sentence in refused(lambda: checkpoint.load(path))


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "state_dict", "executable"])
def test_a_file_that_is_no_checkpoint_is_refused(path, saved_bytes, kind):
    if kind in ("state_dict", "executable"):
        torch.save({"weight": torch.zeros(1)} if kind == "state_dict" else print, path)
    else:
        half = saved_bytes[: len(saved_bytes) // 2]
        path.write_bytes({"cut": half, "empty": b"", "text": b"hello"}[kind])
    assert "to be a checkpoint of a run" in refused(lambda: checkpoint.load(path))

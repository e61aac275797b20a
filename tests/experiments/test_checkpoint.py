"""A checkpoint that was damaged or made up is refused in one sentence."""

import math

import pytest
import torch
from helpers import small_data

from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer

TINY = Settings(rate=0.9, epochs=2, batch_size=24)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return datasets.load("fashion-mnist", small_data.write(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """The bytes of a checkpoint at the end of its first epoch."""
    trainer = Trainer(TINY, data)
    for event in trainer.run():
        if event.record is not None:
            break
    path = tmp_path_factory.mktemp("runs") / "run.pt"
    checkpoint.save(path, trainer)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, whole):
    (tmp_path / "run.pt").write_bytes(whole)
    return tmp_path / "run.pt"


def refused(call):
    with pytest.raises(ValueError, match=r"^sparsetrain\.") as error:
        call()
    return str(error.value)


def test_a_whole_checkpoint_is_taken(path, data):
    trainer = checkpoint.restore(path, checkpoint.load(path), data)
    assert (trainer.epoch, trainer.step, len(trainer.layers)) == (1, 0, 9)


def test_one_damaged_byte_of_a_tensor_is_noticed(path, whole):
    weights = next(iter(checkpoint.load(path)["model"].values()))
    begin = whole.index(weights.numpy().tobytes())
    path.write_bytes(whole[:begin] + bytes([whole[begin] ^ 1]) + whole[begin + 1 :])
    assert refused(lambda: checkpoint.load(path)).endswith("got a damaged or foreign file")


def test_a_damaged_directory_of_the_archive_is_one_sentence(path, whole):
    """Each damaged byte is noticed, or says nothing that matters; the step falls on every field."""
    for i in range(len(whole) - 700, len(whole), 7):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :])
        try:
            checkpoint.load(path)
        except ValueError as error:
            assert "to be a checkpoint of a run, got" in str(error)


CHANGED = {
    "epoch": "1",
    "step": None,
    "seconds": True,
    "records": [{"epoch": 1}],
    "sparse_shares": ["half"],
    "layers": [3],
    "model": [],
    "ranks": [{"pruning": "none", "random": torch.zeros(1), "loss_sum": 0.0}],
}


@pytest.mark.parametrize("key", CHANGED)
def test_content_of_another_type_is_refused(path, key):
    torch.save({**checkpoint.load(path), key: CHANGED[key]}, path)
    sentence = "to be a whole checkpoint of this version, got one of other contents"
    assert sentence in refused(lambda: checkpoint.load(path))


@pytest.mark.parametrize(
    "field, value",
    [("epochs", "2"), ("epochs", 2.0), ("epochs", True), ("model", 8), ("rate", "0.9")],
)
def test_settings_of_another_type_are_refused(path, field, value):
    content = checkpoint.load(path)
    content["settings"][field] = value
    torch.save(content, path)
    assert "whole checkpoint of this version" in refused(lambda: checkpoint.load(path))


@pytest.mark.parametrize(
    "field, value, sentence",
    [
        ("epochs", 0, "Settings: expected epochs to be positive and below 3e38, got 0"),
        ("learning_rate", math.nan, "Settings: expected learning_rate to be positive and below"),
        ("seed", -1, "Settings: expected seed to be an int of at least 0 and below"),
        ("threads", 2000, "Settings: expected threads to be at most 1024, got 2000"),
        ("rate", 1.5, "convert: expected rate to be in [0, 1), got 1.5"),
        (
            "backend",
            "gpu",
            "convert: expected backend to be one of auto, sparse, dense, cusparse, got",
        ),
        ("model", "resnet9", "networks.build: expected name to be one of"),
    ],
)
def test_impossible_settings_are_refused(path, data, field, value, sentence):
    content = checkpoint.load(path)
    content["settings"][field] = value
    assert sentence in refused(lambda: checkpoint.restore(path, content, data))


@pytest.mark.parametrize(
    "changes",
    [dict(epoch=-1), dict(epoch=3), dict(step=-1), dict(step=9), dict(records=[]), dict(epoch=0)],
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

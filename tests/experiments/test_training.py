"""The trainer: what recording and pruning must not change, what they show, and resumption."""

from dataclasses import replace

import pytest
import torch
from helpers import small_data
from helpers.runs import TINY, assert_bit_equal, exhaust
from helpers.small_data import without_times
from torch import nn

from sparsetrain import accel
from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> datasets.Dataset:
    return datasets.load(data_dir=small_data.write(tmp_path_factory.mktemp("data")))


def losses(settings: Settings, data: datasets.Dataset, steps: int = 4) -> list[float]:
    events = Trainer(settings, data).run()
    return [next(events).loss for _ in range(steps)]


# Pruning and recording


@pytest.mark.parametrize("model", ["resnet8", "plain"])
def test_at_rate_0_losses_are_bit_equal_to_the_unconverted_model(data, model):
    unconverted = replace(TINY, model=model, rate=None, dense=True)
    unpruned = replace(TINY, model=model, rate=0.0, backend="dense")
    assert losses(unconverted, data, 16) == losses(unpruned, data, 16)


@pytest.mark.parametrize("model", ["resnet8", "plain"])
def test_sparse_convolutions_train_like_dense_ones(data, model):
    unpruned = replace(TINY, model=model, rate=0.0)
    sparse = losses(replace(unpruned, backend="sparse"), data)
    dense = losses(replace(unpruned, backend="dense"), data)
    assert sparse == pytest.approx(dense, rel=1e-4)


def test_pruned_steps_agree_on_sparse_and_dense_convolutions(data):
    """A rounding error can move a gradient across the threshold, hence the tolerance."""
    sparse = losses(replace(TINY, backend="sparse"), data, 6)  # pruned from the fifth step on
    dense = losses(replace(TINY, backend="dense"), data, 6)
    assert sparse == pytest.approx(dense, rel=1e-2)


def test_recording_a_step_does_not_change_it(data, monkeypatch):
    recorded = losses(replace(TINY, epochs=1, model="plain"), data, 8)
    monkeypatch.setattr(accel.CostMeter, "due", False)
    assert recorded == losses(replace(TINY, epochs=1, model="plain"), data, 8)


def test_every_image_is_trained_on_once_in_each_epoch(data, monkeypatch):
    indices = []
    batch = datasets.Dataset.batch

    def noted(self, chosen, generator):
        indices.append(chosen)
        return batch(self, chosen, generator)

    monkeypatch.setattr(datasets.Dataset, "batch", noted)
    trainer = Trainer(TINY, data)
    exhaust(trainer.run())
    first, second = torch.cat(indices).chunk(2)
    assert torch.equal(first.sort().values, torch.arange(len(data.train)))
    assert torch.equal(second.sort().values, first.sort().values)
    assert not torch.equal(first, second)


def test_events_name_epoch_phase_and_step(data):
    trainer = Trainer(TINY, data)
    found = [(event.epoch, event.phase, event.step, event.steps) for event in trainer.run()]
    train = [[(epoch, "train", step, 8) for step in range(1, 9)] for epoch in (0, 1)]
    test = [[(epoch, "test", 1, 1)] * 2 for epoch in (0, 1)]  # one batch, then the record
    assert found == train[0] + test[0] + train[1] + test[1]


def test_pruning_lowers_densities_and_costs(data):
    trainer = Trainer(replace(TINY, epochs=1), data)
    exhaust(trainer.run())
    (record,) = trainer.epochs
    assert record.grad_density < 0.5 < 0.9 < record.grad_density_unpruned
    assert record.cycles < record.dense_cycles and record.energy_pj < record.dense_energy_pj


def test_every_convolution_has_a_record(data):
    trainer = Trainer(replace(TINY, epochs=1), data)
    convolutions = [n for n, m in trainer.model.named_modules() if isinstance(m, nn.Conv2d)]
    exhaust(trainer.run())
    assert sorted(layer.name for layer in trainer.layers) == sorted(convolutions)
    assert trainer.layers[0].grad_input is None  # nothing needs the gradient of the images
    assert all(layer.grad_input for layer in trainer.layers[1:])


@pytest.mark.parametrize("backend", ["sparse", "dense"])
def test_the_profile_separates_compression_from_sparse_convolutions(data, backend):
    trainer = Trainer(replace(TINY, backend=backend, epochs=1), data)
    exhaust(trainer.run())
    parts = trainer.parts
    assert (parts["compress"] > 0) == (backend == "sparse")
    assert all(parts[part] > 0 for part in ("sparse", "dense", "prune", "normalize", "other"))


def test_color_images_train_a_network_of_torchvision():
    pytest.importorskip("torchvision")

    def split(count: int) -> datasets.Split:
        images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
        return datasets.Split(images, torch.arange(count) % 10)

    scale = (0.5, 0.5, 0.5)
    colors = datasets.Dataset("cifar10", split(8), split(2), tuple("0123456789"), scale, scale, 4)
    trainer = Trainer(replace(TINY, model="squeezenet1_1", epochs=1, batch_size=4), colors)
    exhaust(trainer.run())
    assert len(trainer.layers) == sum(isinstance(m, nn.Conv2d) for m in trainer.model.modules())
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
    uninterrupted = Trainer(settings, data)
    exhaust(uninterrupted.run())
    stopped = Trainer(settings, data)  # seeds torch's generator again
    exhaust(zip(range(events), stopped.run(), strict=False))
    path = tmp_path / "run.pt"
    checkpoint.save(path, stopped)
    torch.manual_seed(123)  # what the process did before must not matter
    resumed = checkpoint.restore(path, checkpoint.load(path), data)
    exhaust(resumed.run())
    assert_bit_equal(without_times(uninterrupted.state_dict()), without_times(resumed.state_dict()))


# Refusals


def test_a_batch_larger_than_the_training_set_is_refused(data):
    with pytest.raises(ValueError, match="expected batch_size to be at most 192, the number of"):
        Trainer(replace(TINY, batch_size=193), data)


def test_a_loss_that_is_not_finite_ends_the_run(data):
    trainer = Trainer(replace(TINY, model="plain", learning_rate=1e9), data)
    with pytest.raises(FloatingPointError, match="expected the loss of epoch 1 to be finite, got"):
        exhaust(trainer.run())

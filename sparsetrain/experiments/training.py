"""The training loop: `Trainer`, which `sparsetrain train`, `sparsetrain sweep` and tests run."""

import copy
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from sparsetrain import accel
from sparsetrain.conversion import convert, revert
from sparsetrain.distributed import has_process_group, rank_and_world
from sparsetrain.experiments import networks
from sparsetrain.experiments.datasets import Dataset, stream
from sparsetrain.experiments.ranks import gather
from sparsetrain.experiments.records import (
    PRICE_TABLE,
    EpochRecord,
    LayerRecord,
    density_log,
    layer_records,
    means,
    parts_of,
    pass_records,
    sparse_share,
)
from sparsetrain.experiments.settings import Settings
from sparsetrain.state import load_pruning_state, pruning_state

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Event:
    """The position of a run, yielded after each step.

    Attributes:
        epoch: Index of the epoch, from 0.
        phase: "train" or "test".
        step: Finished steps (batches) of the phase.
        steps: Steps that the phase has.
        loss: In "train", the loss of the step over this process's images.
        record: Record of the epoch; only in the last event of an epoch.
    """

    epoch: int
    phase: str
    step: int
    steps: int
    loss: float | None = None
    record: EpochRecord | None = None


class Trainer:
    """One run: a model, its optimizer, its schedule and its position.

    Trains with SGD, Nesterov momentum, weight decay and a one-cycle schedule. All batches are full.
    Their order and augmentation depend only on (seed, epoch, step). Construction seeds the global
    generator of torch. The last step of each epoch is recorded.

    In a process group every process has a trainer and takes an equal share of every batch and of
    the test set. Gradients are averaged. BatchNorm and pruning work on the process's share, and
    records describe rank 0's. All processes must call `run`, `state_dict` and `load_state_dict`
    together.

    Args:
        settings: What to train and how.
        data: The data set that `settings.dataset` names.

    Attributes:
        steps: Training steps of an epoch.
        epoch: Finished epochs.
        step: Finished training steps of the epoch in progress.
        epochs: A record of each finished epoch.
        sparse_shares: For each finished epoch, the share of the last step's convolution calls that
            ran sparse.
        layers: The last recorded step, layer by layer.
        passes: The last recorded step, pass by pass.
        density_log: Densities of each layer at the end of each finished epoch.
        parts: Milliseconds of the run's last step by kind of operator; empty before that step.

    Raises:
        ValueError: The batch is larger than the training set, or the processes cannot share it
            equally, or `networks.build` or `convert` refuses a setting.
        ModuleNotFoundError: The model needs torchvision, which is not installed.
    """

    def __init__(self, settings: Settings, data: Dataset) -> None:
        self.settings, self.data = settings, data
        self.rank, self.processes = rank_and_world() if has_process_group() else (0, 1)
        if settings.batch_size % self.processes:
            raise ValueError(
                "sparsetrain.experiments.training.Trainer: expected batch_size to be a multiple of "
                f"{self.processes}, the number of processes, got {settings.batch_size}"
            )
        self.steps = len(data.train) // settings.batch_size
        if self.steps == 0:
            raise ValueError(
                "sparsetrain.experiments.training.Trainer: expected batch_size to be at most "
                f"{len(data.train)}, the number of training images, got {settings.batch_size}"
            )
        torch.manual_seed(settings.seed)
        self.model = networks.build(
            settings.model, channels=data.channels, size=data.size, classes=len(data.classes)
        )
        if not settings.dense:
            convert(self.model, settings.rate, density=settings.density, backend=settings.backend)
        self.meter = accel.CostMeter(
            self.model, every=self.steps, first=self.steps - 1, prices=accel.prices(PRICE_TABLE)
        )
        # Seeded again, so that dropout does not depend on how many numbers convert() drew. Every
        # rank draws other dropout masks.
        torch.manual_seed(settings.seed + self.rank)
        self.optimizer = SGD(
            self.model.parameters(),
            lr=settings.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
        )
        total = self.steps * settings.epochs
        self.scheduler = OneCycleLR(
            self.optimizer,
            settings.learning_rate,
            total_steps=total,
            # 4 steps at 0.25 give a warm-up of one step, for which OneCycleLR divides by zero.
            pct_start=0.25 if total != 4 else 0.3,
            cycle_momentum=False,
        )
        self.epoch = self.step = 0
        self.epochs: list[EpochRecord] = []
        self.sparse_shares: list[float] = []
        self.layers: list[LayerRecord] = []
        self.passes: list[dict[str, Any]] = []
        self.density_log: list[dict[str, Any]] = []
        self.parts: dict[str, float] = {}
        self._loss_sum = self._seconds = self._cpu_seconds = 0.0
        self._order: tuple[int, Tensor] | None = None
        self._parallel: nn.Module | None = None

    def run(self) -> Iterator[Event]:
        """Trains from the current position to the end; close the generator to stop earlier.

        The trainer changes only between two events, so that `state_dict()` can be called after any
        of them.

        Yields:
            An event after each training step, after each batch of the test set, and at the end of
            each epoch.

        Raises:
            FloatingPointError: At the end of an epoch whose mean loss is not finite.
        """
        while self.epoch < self.settings.epochs:
            while self.step < self.steps:
                loss = self._train_step()
                yield Event(self.epoch, "train", self.step, self.steps, loss)
            correct = 0
            batches = range(0, len(self.data.test), EVALUATION_BATCH)
            for number, first in enumerate(batches, start=1):
                correct += self._count_correct(first)
                yield Event(self.epoch, "test", number, len(batches))
            record = self._close_epoch(sum(gather(correct)) / len(self.data.test))
            yield Event(record.epoch - 1, "test", len(batches), len(batches), record=record)

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during a run, in types that weights_only loading accepts.

        `ranks` holds one dict for each process. Every other entry is rank 0's.
        """
        rank_state = {
            "pruning": None if self.settings.dense else pruning_state(self.model),
            "random": torch.get_rng_state(),
            "loss_sum": self._loss_sum,
        }
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "ranks": gather(rank_state),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self._seconds,
            "epochs": [asdict(record) for record in self.epochs],
            "sparse_shares": list(self.sparse_shares),
            "cpu_seconds": self._cpu_seconds,
            "layers": [asdict(layer) for layer in self.layers],
            "passes": list(self.passes),
            "density_log": list(self.density_log),
            "parts": dict(self.parts),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues bit for bit where `state_dict()` was called.

        The saved trainer must have had the same settings, data and number of processes.
        """
        rank_state = state["ranks"][self.rank]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if not self.settings.dense:
            load_pruning_state(self.model, rank_state["pruning"])
        torch.set_rng_state(rank_state["random"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.meter.steps = self.epoch * self.steps + self.step
        self._loss_sum, self._seconds = rank_state["loss_sum"], state["seconds"]
        self._cpu_seconds = state["cpu_seconds"]
        self.epochs = [EpochRecord(**record) for record in state["epochs"]]
        self.sparse_shares = list(state["sparse_shares"])
        self.layers = [LayerRecord(**layer) for layer in state["layers"]]
        self.passes, self.density_log = list(state["passes"]), list(state["density_log"])
        self.parts = dict(state["parts"])

    def results(self) -> dict[str, Any]:
        """What the run showed so far: `config`, `epochs`, `layers`, `passes`, ...

        docs/formats.md describes every field.
        """
        config = {
            **asdict(self.settings),
            "processes": self.processes,
            "data": self.data.fingerprint,
            "train_images": len(self.data.train),
            "test_images": len(self.data.test),
            "steps_per_epoch": self.steps,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "prices": PRICE_TABLE,
            "python_version": platform.python_version(),
            "torch_version": torch.__version__,
        }
        return {
            "config": config,
            "epochs": [asdict(record) for record in self.epochs],
            "layers": [asdict(layer) for layer in self.layers],
            "passes": list(self.passes),
            "density_log": list(self.density_log),
            "parts": dict(self.parts),
        }

    def _train_step(self) -> float:
        """Does one training step. Returns its loss over this process's images."""
        seed, size = self.settings.seed, self.settings.batch_size
        start, cpu_start = time.perf_counter(), time.process_time()
        indices = self._epoch_order()[self.step * size : (self.step + 1) * size]
        images, labels = self.data.batch(indices, stream(seed, self.epoch, self.step))
        batch = self._share(images), self._share(labels)
        self.model.train()
        self.optimizer.zero_grad()
        is_recorded = self.meter.due
        unpruned = self._unpruned(*batch) if is_recorded and not self.settings.dense else None
        with self.meter.step():
            loss = self._backward(self._parallel_model(), *batch)
        if is_recorded:
            self._keep_record(unpruned, *batch)
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        self._loss_sum += loss
        # The recorded step is left out of the times, unless it is the only one.
        if self.step < self.steps or self.steps == 1:
            self._seconds += time.perf_counter() - start
            self._cpu_seconds += time.process_time() - cpu_start
        return loss

    def _keep_record(self, unpruned: accel.Workload | None, images: Tensor, labels: Tensor) -> None:
        """Keeps what the recorded step showed, and profiles the last step of a run."""
        cost = self.meter.costs[-1]
        self.layers = layer_records(self.model, cost, unpruned)
        self.passes = pass_records(cost, self.layers)
        if self.epoch + 1 == self.settings.epochs:
            twin = copy.deepcopy(self.model)
            with torch.random.fork_rng(devices=[]):
                self.parts = parts_of(lambda: self._backward(twin, images, labels))

    def _share(self, batch: Tensor) -> Tensor:
        """The part of a batch that this process takes: every `processes`-th image."""
        return batch[self.rank :: self.processes]

    def _parallel_model(self) -> nn.Module:
        """The module that a step calls: the model, or DDP around it if there are several processes.

        Made by the first step, as DDP waits for all processes.
        """
        if self._parallel is None:
            several = self.processes > 1
            self._parallel = DistributedDataParallel(self.model) if several else self.model
        return self._parallel

    def _epoch_order(self) -> Tensor:
        """The order of the training images in this epoch, int64 [images]."""
        if self._order is None or self._order[0] != self.epoch:
            generator = stream(self.settings.seed, self.epoch)
            order = torch.randperm(len(self.data.train), generator=generator)
            self._order = (self.epoch, order)
        return self._order[1]

    @staticmethod
    def _backward(model: nn.Module, images: Tensor, labels: Tensor) -> float:
        loss = cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _unpruned(self, images: Tensor, labels: Tensor) -> accel.Workload:
        """Records this step without pruning, in a reverted copy of the model.

        The random generator is forked, so that recording does not change the step itself.
        """
        twin = revert(copy.deepcopy(self.model))
        with torch.random.fork_rng(devices=[]), accel.record(twin, images=0) as recording:
            self._backward(twin, images, labels)
        return recording.workload()

    @torch.no_grad()
    def _count_correct(self, first: int) -> int:
        """Counts correctly classified test images of this process's share of one batch.

        `first` is the index of the batch's first image.
        """
        self.model.eval()
        images, labels = (
            self._share(part[first : first + EVALUATION_BATCH])
            for part in (self.data.test.images, self.data.test.labels)
        )
        logits = self._parallel_model()(self.data.normalize(images))
        return int((logits.argmax(1) == labels).sum())

    def _close_epoch(self, accuracy: float) -> EpochRecord:
        """Adds the record of the finished epoch and moves to the next one."""
        loss = sum(gather(self._loss_sum)) / self.processes / self.steps
        if not abs(loss) < float("inf"):
            raise FloatingPointError(
                f"sparsetrain.experiments.training.Trainer: expected the loss of epoch "
                f"{self.epoch + 1} to be finite, got {loss}. Lower the learning rate"
            )
        record = EpochRecord(
            epoch=self.epoch + 1,
            train_loss=loss,
            test_accuracy=accuracy,
            step_seconds=self._seconds / max(self.steps - 1, 1),
            step_cpu_seconds=self._cpu_seconds / max(self.steps - 1, 1),
            **means(self.layers),
        )
        self.epochs.append(record)
        self.sparse_shares.append(sparse_share(self.layers))
        self.density_log += density_log(record.epoch, self.layers)
        self.epoch, self.step = self.epoch + 1, 0
        self._loss_sum = self._seconds = self._cpu_seconds = 0.0
        return record

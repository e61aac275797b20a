"""The training loop: one class that the example, the sweep and the tests all drive.

A trainer changes only inside `run()`, between two of its events; wherever the caller stops
listening, `state_dict()` holds all that a new trainer needs to go on bit for bit.
"""

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
from sparsetrain._checks import check_count
from sparsetrain.conversion import convert, revert
from sparsetrain.distributed import grouped, rank_and_world
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
from sparsetrain.state import load_pruning_state, pruning_state

EVALUATION_BATCH = 500
MOST_THREADS = 1024


@dataclass(frozen=True)
class Settings:
    """What defines a run: two runs of equal settings on equal data give equal numbers.

    Exactly one of `rate`, `density` and `dense` says how gradients are pruned; `dense` leaves the
    model unconverted. `threads` is part of it, as torch's own kernels add in another order on
    another number of threads; one is the default because it gives the same run on any number of
    cores, busy or not. Raises ValueError for a value out of range.
    """

    model: str = "resnet8"
    dataset: str = "fashion-mnist"
    rate: float | None = None
    density: float | None = None
    dense: bool = False
    backend: str = "auto"
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 0.05
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if (self.rate is not None) + (self.density is not None) + self.dense != 1:
            raise ValueError(
                "sparsetrain.Settings: expected exactly one of rate, density and dense, "
                f"got rate {self.rate}, density {self.density}, dense {self.dense}"
            )
        for name in ("epochs", "batch_size", "learning_rate", "threads"):
            if not 0 < getattr(self, name) < 3e38:
                raise ValueError(
                    f"sparsetrain.Settings: expected {name} to be positive and below 3e38, "
                    f"got {getattr(self, name)}"
                )
        check_count("Settings", "seed", self.seed, 2**63)
        if self.threads > MOST_THREADS:
            raise ValueError(
                f"sparsetrain.Settings: expected threads to be at most {MOST_THREADS}, "
                f"got {self.threads}"
            )

    @property
    def rule(self) -> str:
        """How gradients are pruned, in one word: dense, rate0.9 or density0.2."""
        if self.dense:
            return "dense"
        return f"rate{self.rate}" if self.rate is not None else f"density{self.density}"


@dataclass(frozen=True)
class Event:
    """Where a run is: after `step` of `steps` of `epoch`, in "train" or "test".

    `loss` is that of the step just done, of this process's images; `record` is set once, at the
    end of the epoch.
    """

    epoch: int
    phase: str
    step: int
    steps: int
    loss: float | None = None
    record: EpochRecord | None = None


class Trainer:
    """One run: model, optimizer, schedule and position. Seeds torch's global generator.

    SGD with Nesterov momentum, weight decay and a one-cycle schedule, on full batches in an order
    and an augmentation that depend on (seed, epoch, step) alone. The last step of each epoch is
    recorded for `records`, `sparse_shares` and `layers`.

    In a process group every process is a trainer and takes its share of every batch and of the test
    set; gradients are averaged, BatchNorm and pruning see their own share, and what is recorded is
    that of rank 0. `run`, `state_dict` and what calls them are then for all processes to do
    together.

    Raises what `networks.build` and `convert` raise, and ValueError for a batch larger than the
    training set or one that the processes cannot share equally.
    """

    def __init__(self, settings: Settings, data: Dataset) -> None:
        self.settings, self.data = settings, data
        self.rank, self.processes = rank_and_world() if grouped() else (0, 1)
        if settings.batch_size % self.processes:
            raise ValueError(
                "sparsetrain.Trainer: expected batch_size to be a multiple of "
                f"{self.processes}, the number of processes, got {settings.batch_size}"
            )
        self.steps = len(data.train) // settings.batch_size
        if self.steps == 0:
            raise ValueError(
                f"sparsetrain.Trainer: expected batch_size to be at most {len(data.train)}, the "
                f"number of training images, got {settings.batch_size}"
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
        # A conversion that drew from it would move dropout, of which every rank has its own.
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
            pct_start=0.25 if total != 4 else 0.3,  # a warm-up of just one step divides by zero
            cycle_momentum=False,
        )
        self.epoch = self.step = 0
        self.epochs: list[EpochRecord] = []
        self.sparse_shares: list[float] = []  # of the convolution calls of each epoch's last step
        self.layers: list[LayerRecord] = []
        self.passes: list[dict[str, Any]] = []
        self.density_log: list[dict[str, Any]] = []
        self.parts: dict[str, float] = {}  # of the last step, by kind of operator: milliseconds
        self._loss_sum = self._seconds = self._cpu_seconds = 0.0
        self._order: tuple[int, Tensor] | None = None
        self._parallel: nn.Module | None = None  # what a step calls; made when all have a model

    def run(self) -> Iterator[Event]:
        """Train from where the trainer is to the last epoch; stop by not asking for more.

        Yields an event after each training step, each batch of the test set, and each epoch.
        Raises FloatingPointError at the end of an epoch whose loss is not finite.
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
            yield Event(record.epoch, "test", len(batches), len(batches), record=record)

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during a run, in types that weights_only loading accepts.

        `ranks` has what is each rank's own; the rest is rank 0's where they differ.
        """
        own = {
            "pruning": None if self.settings.dense else pruning_state(self.model),
            "random": torch.get_rng_state(),
            "loss_sum": self._loss_sum,
        }
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "ranks": gather(own),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self._seconds,
            "records": [asdict(record) for record in self.epochs],
            "sparse_shares": list(self.sparse_shares),
            "cpu_seconds": self._cpu_seconds,
            "layers": [asdict(layer) for layer in self.layers],
            "passes": list(self.passes),
            "density_log": list(self.density_log),
            "parts": dict(self.parts),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict()` was called, on a trainer of the same settings and data.

        Its run must be one of as many processes.
        """
        own = state["ranks"][self.rank]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if not self.settings.dense:
            load_pruning_state(self.model, own["pruning"])
        torch.set_rng_state(own["random"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.meter.steps = self.epoch * self.steps + self.step
        self._loss_sum, self._seconds = own["loss_sum"], state["seconds"]
        self._cpu_seconds = state["cpu_seconds"]
        self.epochs = [EpochRecord(**record) for record in state["records"]]
        self.sparse_shares = list(state["sparse_shares"])
        self.layers = [LayerRecord(**layer) for layer in state["layers"]]
        self.passes, self.density_log = list(state["passes"]), list(state["density_log"])
        self.parts = dict(state["parts"])

    def results(self) -> dict[str, Any]:
        """What `--json` writes, field by field in docs/formats.md."""
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
        seed, size = self.settings.seed, self.settings.batch_size
        start, cpu_start = time.perf_counter(), time.process_time()
        indices = self._epoch_order()[self.step * size : (self.step + 1) * size]
        images, labels = self.data.batch(indices, stream(seed, self.epoch, self.step))
        batch = self._share(images), self._share(labels)
        self.model.train()
        self.optimizer.zero_grad()
        recorded = self.meter.due
        unpruned = self._unpruned(*batch) if recorded and not self.settings.dense else None
        with self.meter.step():
            loss = self._backward(self._called(), *batch)
        if recorded:
            self._keep_record(unpruned, *batch)
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        self._loss_sum += loss
        if self.step < self.steps or self.steps == 1:  # recording is no part of a step's time
            self._seconds += time.perf_counter() - start
            self._cpu_seconds += time.process_time() - cpu_start
        return loss

    def _keep_record(self, unpruned: accel.Workload | None, images: Tensor, labels: Tensor) -> None:
        """Keep what the step just recorded showed; the last one of a run is profiled as well."""
        cost = self.meter.costs[-1]
        self.layers = layer_records(self.model, cost, unpruned)
        self.passes = pass_records(cost, self.layers)
        if self.epoch + 1 == self.settings.epochs:
            twin = copy.deepcopy(self.model)
            with torch.random.fork_rng(devices=[]):
                self.parts = parts_of(lambda: self._backward(twin, images, labels))

    def _share(self, batch: Tensor) -> Tensor:
        """What of a batch this process takes: as much as every other, and no process the same."""
        return batch[self.rank :: self.processes]

    def _called(self) -> nn.Module:
        """The model, with its gradients averaged over the processes if there are several."""
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
        """What the gradients of this step would be with nothing pruned.

        Seen in a reverted copy, with a fork of the random numbers to come, so that the step itself
        is the same as without a recording.
        """
        twin = revert(copy.deepcopy(self.model))
        with torch.random.fork_rng(devices=[]), accel.record(twin, images=0) as recording:
            self._backward(twin, images, labels)
        return recording.workload()

    @torch.no_grad()
    def _count_correct(self, first: int) -> int:
        """How many test images, of this process's in the batch from `first` on, it gets right."""
        self.model.eval()
        images, labels = (
            self._share(part[first : first + EVALUATION_BATCH])
            for part in (self.data.test.images, self.data.test.labels)
        )
        logits = self._called()(self.data.normalize(images))
        return int((logits.argmax(1) == labels).sum())

    def _close_epoch(self, accuracy: float) -> EpochRecord:
        """Add the record of the epoch just tested and move to the next."""
        loss = sum(gather(self._loss_sum)) / self.processes / self.steps
        if not abs(loss) < float("inf"):
            raise FloatingPointError(
                f"sparsetrain.Trainer: expected the loss of epoch {self.epoch + 1} to be finite, "
                f"got {loss}. Lower the learning rate"
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

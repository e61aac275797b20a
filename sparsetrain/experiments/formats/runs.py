"""Models of what training runs and sweeps write and read: results, checkpoints, plans."""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from sparsetrain.experiments import records
from sparsetrain.experiments.formats.fields import (
    Backend,
    Count,
    Cycles,
    Density,
    Images,
    Milliseconds,
    NotNegative,
    PassName,
    Positive,
    Record,
    Seconds,
    Share,
    Threads,
    fields_of,
    optional_fields,
    settings_as_options,
)
from sparsetrain.experiments.settings import SHARED, Settings


class Machine(Record):
    """The machine and the versions that made a file of measured times."""

    processor: str
    """Model name of the processor."""
    cores: Positive
    """Cores that the operating system shows."""
    capability: str
    """Instruction set that PyTorch uses."""
    threads: Threads
    """Threads of PyTorch's and SparseTrain's operators."""
    torch: str
    """Version of PyTorch."""
    python: str
    """Version of Python."""
    sparsetrain: str | None
    """Version of SparseTrain; null in older files of a checkout."""


@fields_of(Settings)
class RunConfig(Record):
    """The settings of a run, and the data and versions it ran with. Enough to repeat the run."""

    processes: Positive
    """Processes that share every batch: 1, or those of torchrun."""
    data: str
    """Digest of all images and labels."""
    train_images: Images
    """Images in the training set."""
    test_images: Images
    """Images in the test set."""
    steps_per_epoch: Positive
    """Training steps in an epoch. The images that do not fill a batch are not trained on."""
    parameters: Count
    """Trainable numbers of the network."""
    prices: str
    """Price table of the energies."""
    python_version: str
    """Version of Python."""
    torch_version: str
    """Version of PyTorch."""


@fields_of(records.EpochRecord)
class EpochRecord(Record):
    """A finished epoch. Densities and costs are those of its last step, over all convolutions.

    If several processes share a batch, these values, `step_seconds` and all layer records are those
    of rank 0 for its share of the batch.
    """


@fields_of(records.LayerRecord)
class LayerRecord(Record):
    """A convolution in the last training step of the last finished epoch."""


class PassRecord(Record):
    """A pass of a convolution in the step of the layer records."""

    name: str
    """Name of the layer."""
    pass_: PassName = Field(alias="pass")
    """The convolution."""
    macs: Count
    """Multiplications that the chip `sparsetrain168` does."""
    dense_macs: Count
    """Multiplications that its dense twin does."""
    cycles: Cycles
    """Cycles on the chip."""
    dense_cycles: Cycles
    """Cycles on its dense twin."""
    backend: Backend
    """The convolution that ran on the CPU."""
    dense_ms: Milliseconds
    """Time of the dense convolution that the cost table of `auto` predicts, on one thread."""
    sparse_ms: Milliseconds
    """Time of the sparse convolution that the cost table predicts, on one thread."""
    energy: dict[str, NotNegative]
    """Energy on the chip by price table, with DRAM, in pJ; `eyeriss_ratios`: in multiplications."""
    dense_energy: dict[str, NotNegative]
    """Energy on the dense twin by price table, in the units of `energy`."""


class DensityRecord(Record):
    """The densities of one convolution in the last step of an epoch."""

    epoch: Positive
    """Number of the epoch, from 1."""
    name: str
    """Name of the layer."""
    input_density: Density
    """Density of x."""
    grad_density_unpruned: Density
    """Density of dy in a repetition of the step in which nothing is pruned anywhere."""
    grad_density: Density
    """Density of dy as the backward convolutions get it."""
    threshold: NotNegative | None
    """Threshold of the step's pruning; null if this layer prunes nothing."""


class Parts(Record):
    """Time that forward and backward of the run's last step spend in each kind of operator.

    Measured by PyTorch's profiler on a copy of the model.
    """

    sparse: Milliseconds
    """Sparse convolutions without the compression of their operands."""
    compress: Milliseconds
    """Compression of operands. Older files lack it and count it in `sparse`."""
    dense: Milliseconds
    """PyTorch's convolutions."""
    prune: Milliseconds
    """Pruning, with the count of nonzeros."""
    normalize: Milliseconds
    """Batch normalization."""
    other: Milliseconds
    """ReLU, pooling, linear layers, loss and all other operators."""


class NoParts(Record):
    """The profile of a run that has not reached its last step: an empty object."""


class RunResults(Record):
    """The results of a run."""

    command: str
    """The command that made the file."""
    machine: Machine
    """The machine and the versions."""
    config: RunConfig
    """What was run."""
    epochs: list[EpochRecord]
    """The finished epochs in their order."""
    layers: list[LayerRecord]
    """The convolutions in the order of the forward pass; empty before the first epoch ends."""
    passes: list[PassRecord]
    """The passes of all convolutions; empty before the first epoch ends."""
    density_log: list[DensityRecord]
    """For each finished epoch the densities of every convolution."""
    parts: Parts | NoParts
    """The profile of a step; empty before the run's last step."""


class SweepResult(Record):
    """A finished run of a sweep."""

    run: str
    """Name of the run. It ends in a digest of its settings and its data."""
    failure: str | None
    """Why the run ended early; null if it did not."""
    finished: str
    """When the run ended, in UTC: `2026-01-31T23:59:59Z`."""
    command: str
    """The command that made the line."""
    machine: Machine
    """The machine and the versions."""
    config: RunConfig
    """What was run."""
    epochs: list[EpochRecord]
    """As in the results of a run, like all fields below."""
    layers: list[LayerRecord]
    """The convolutions."""
    passes: list[PassRecord]
    """The passes of all convolutions."""
    density_log: list[DensityRecord]
    """The densities over the epochs."""
    parts: Parts | NoParts
    """The profile of a step."""


@fields_of(Settings)
class CheckpointSettings(Record):
    """The settings of a run."""


class RankState(Record):
    """What one process holds on its own."""

    pruning: dict[str, Any] | None
    """`sparsetrain.pruning_state(model)`; null for a dense run."""
    random: Tensor
    """State of PyTorch's random number generator."""
    loss_sum: float
    """Sum of the losses of the epoch's steps so far, in nats."""


class Checkpoint(Record):
    """A run that can be resumed."""

    sparsetrain_checkpoint: Literal[4]
    """Version of this format. Version 3 is read too."""
    settings: CheckpointSettings
    """The settings of the run."""
    data: str
    """Digest of all images and labels."""
    model: dict[str, Any]
    """`state_dict()` of the model. A model that is not converted can load it."""
    optimizer: dict[str, Any]
    """`state_dict()` of the optimizer."""
    scheduler: dict[str, Any]
    """`state_dict()` of the learning rate's schedule."""
    ranks: list[RankState]
    """One object for each process."""
    epoch: Count
    """Finished epochs."""
    step: Count
    """Finished steps of the epoch that has begun."""
    seconds: Seconds
    """Wall-clock time of these steps."""
    cpu_seconds: Seconds
    """Processor time of these steps, summed over all threads."""
    epochs: list[EpochRecord]
    """The finished epochs."""
    sparse_shares: list[Share]
    """For each epoch the share of convolution calls of its last step that ran sparse."""
    layers: list[LayerRecord]
    """The convolutions as last recorded."""
    passes: list[PassRecord]
    """The passes as last recorded."""
    density_log: list[DensityRecord]
    """The densities so far."""
    parts: Parts | NoParts
    """The profile; empty before the last step."""


@optional_fields(settings_as_options(SHARED))
class SweepPlan(Record):
    """The runs of a sweep: every model under every rule with every seed."""

    models: list[str]
    """Names of the networks."""
    rules: list[str]
    """How gradients are pruned: `dense`, `rate R` or `density D`."""
    seeds: int | list[int] = 1
    """The seeds, or their number: 3 stands for 0, 1 and 2."""
    data_dir: str | None = None
    """Folder of the data set's files; without it the shipped images are used."""

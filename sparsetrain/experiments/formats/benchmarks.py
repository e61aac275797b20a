"""Models of what the programs in benchmarks/ and `make bench-gpu` write."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from sparsetrain.experiments.formats.fields import (
    Count,
    Density,
    DtypeName,
    Images,
    Mebibytes,
    Milliseconds,
    NotNegative,
    Positive,
    Rate,
    Ratio,
    Record,
    Share,
    Threads,
    Unit,
)
from sparsetrain.experiments.formats.runs import Machine
from sparsetrain.experiments.formats.step_costs import EnergyGain

Pixels = Annotated[int, Field(ge=1), Unit("pixels")]
Bandwidth = Annotated[float, Field(gt=0), Unit("10^9 bytes / s")]


class ConvRow(Record):
    """The times of one layer, pass, density and memory format."""

    layer: str
    """Name of the layer in `benchmarks/layers.py`, which has its shape."""
    kernel: Pixels
    """Height and width of the kernel."""
    stride: Pixels
    """Stride of the convolution."""
    pass_: Literal["forward", "backward"] = Field(alias="pass")
    """The forward pass, or both gradients."""
    dtype: DtypeName
    """Data type of the operands."""
    format: Literal["nchw", "channels_last"]
    """Memory format of the operands."""
    density: Density
    """Density of x (`forward`) or dy (`backward`). The other operand is dense."""
    zeros: Literal["uniform", "recorded"]
    """Zeros at random places, or a gradient recorded in training and pruned to the density."""
    threads: Threads
    """Threads of all operators."""
    dense_ms: Milliseconds
    """Time of PyTorch in this memory format."""
    sparse_ms: Milliseconds | None
    """Time of backend `sparse` in this memory format; null if it is not timed."""
    auto_ms: Milliseconds
    """Time of backend `auto` in this memory format."""
    auto_choice: Literal["dense", "sparse", "mixed"]
    """The backend that `auto` ran; `mixed` if it differs between the two gradients."""
    speedup: Ratio | None
    """`dense_ms` of the faster memory format / `sparse_ms`; null if that is not timed."""
    auto_speedup: Ratio
    """`dense_ms` / `auto_ms`."""


class ConvSummary(Record):
    """Geometric means of the speedups; the first five fields have one for each density."""

    backward_3x3: dict[str, Ratio | None]
    """Both gradients of 3 x 3 convolutions; null if nothing was timed."""
    backward_3x3_recorded: dict[str, Ratio | None]
    """Both gradients of 3 x 3 convolutions, with gradients recorded in training."""
    forward_3x3: dict[str, Ratio | None]
    """Forward pass of 3 x 3 convolutions."""
    backward_1x1: dict[str, Ratio | None]
    """Both gradients of 1 x 1 convolutions."""
    backward_stride2: dict[str, Ratio | None]
    """Both gradients of 3 x 3 convolutions of stride 2."""
    auto_geomean: Ratio
    """`auto_speedup` of all rows."""
    auto_slower: Count
    """Rows whose `auto_speedup` is below 0.95."""
    auto_worst: Ratio
    """The lowest `auto_speedup` of all rows."""
    auto_dense_geomean: Ratio | None
    """`auto_speedup` of the rows of densities of at least 0.8; null if there are none."""


class ConvBenchmark(Record):
    """Times of convolutions: medians of wall-clock time over interleaved repetitions."""

    machine: Machine
    """The machine and the versions."""
    rows: list[ConvRow]
    """One object for each layer, pass, density and memory format."""
    summary: ConvSummary
    """Means over the rows."""


class PruneRow(Record):
    """The times of pruning a tensor of one data type and size."""

    dtype: DtypeName
    """Data type of the tensor."""
    elements: Positive
    """Elements of the tensor."""
    threads: Threads
    """Threads of both operators."""
    clone_ms: Milliseconds
    """Time of `torch.clone`."""
    prune_ms: Milliseconds
    """Time of pruning with a known threshold."""
    clone_gb_per_s: Bandwidth
    """Bytes that the copy reads and writes in a second."""
    prune_gb_per_s: Bandwidth
    """Bytes that pruning reads and writes in a second."""
    share: Ratio
    """`clone_ms` / `prune_ms`: the share of the copy's bandwidth that pruning reaches."""


class PruneBenchmark(Record):
    """Times of pruning: medians of wall-clock time over interleaved repetitions."""

    machine: Machine
    """The machine and the versions."""
    rows: list[PruneRow]
    """One object for each data type and size."""
    summary: dict[DtypeName, Ratio]
    """Geometric mean of `share` over the sizes, for each data type."""


class TrainStepRow(Record):
    """The times of a training step of one network at one pruning rate."""

    model: str
    """The network."""
    rate: Rate
    """Pruning rate of the converted network."""
    dense_ms: Milliseconds
    """Time of a step of the network without conversion, in the faster memory format."""
    sparse_ms: Milliseconds
    """Time of a step of the converted network, in the faster memory format."""
    speedup: Ratio
    """`dense_ms` / `sparse_ms`."""
    grad_density: Density | None
    """Mean over the layers of the density of dy in the last training step before timing."""
    input_density: Density | None
    """Mean over the layers of the density of x in that step."""


class TrainStepBenchmark(Record):
    """Times of training steps: medians of wall-clock time over interleaved repetitions."""

    machine: Machine
    """The machine and the versions."""
    rows: list[TrainStepRow]
    """One object for each network and pruning rate."""


class MemoryRow(Record):
    """The peak memory of a training step of one network, without its weights."""

    model: str
    """The network."""
    rate: Rate
    """Pruning rate of the converted network."""
    dense_mib: Mebibytes
    """The most bytes that were allocated at once in steps of the network without conversion."""
    converted_mib: Mebibytes
    """The most bytes that were allocated at once in steps of the converted network."""
    extra_mib: Mebibytes
    """`converted_mib` - `dense_mib`."""
    bound_mib: Mebibytes
    """The bound of `extra_mib` that docs/kernels.md derives."""


class MemoryBenchmark(Record):
    """Peak memory of a training step on backend `sparse`."""

    machine: Machine
    """The machine and the versions."""
    rows: list[MemoryRow]
    """One object for the network."""


class LayerNoise(Record):
    """The variance that pruning adds to the weight gradient of one layer."""

    model: str
    """The network."""
    layer: str
    """The layer."""
    rule: str
    """How gradients are pruned: `rate R` or `density D`."""
    grad_density: Density
    """Density of dy of the layer, after pruning."""
    added_variance: NotNegative
    """Variance of pruned gradients of one batch / squared norm of the dense gradient."""
    batch_variance: NotNegative
    """Variance of dense gradients between batches / the same squared norm."""


class ThresholdError(Record):
    """The error of the threshold that is predicted for one layer."""

    model: str
    """The network."""
    layer: str
    """The layer."""
    history: Annotated[Positive, Unit("steps")]
    """N: the prediction is the mean of the last N thresholds."""
    median_error: NotNegative
    """Median over the steps of abs(predicted / threshold of the batch - 1)."""
    p95_error: NotNegative
    """95th percentile over the steps of this error."""


class FormError(Record):
    """The density that a closed form predicts for the gradient of one layer."""

    model: str
    """The network."""
    layer: str
    """The layer."""
    form: Literal["normal", "lognormal"]
    """Assumed distribution of the gradient."""
    share: Density
    """Density of the gradient before pruning."""
    predicted: Density
    """Density that the form predicts at some threshold."""
    measured: Density
    """Expected density of the gradient at that threshold."""


class VarianceBenchmark(Record):
    """What pruning does to training."""

    machine: Machine
    """The machine and the versions."""
    noise: list[LayerNoise]
    """One object for each network, rule and layer."""
    thresholds: list[ThresholdError]
    """One object for each network, layer and history."""
    forms: list[FormError]
    """One object for each network, layer, form and predicted density."""


class SamplingNoise(Record):
    """A line of the log: the noise of one variant."""

    data: str
    """Digest of all images and labels, before a part of them is chosen."""
    variant: str
    """What is sampled, and its share."""
    noise: list[NotNegative]
    """For each layer that noise reaches: added variance / variance between batches."""


class SamplingRun(Record):
    """A line of the log: a training run of one variant and seed."""

    data: str
    """Digest of all images and labels, before a part of them is chosen."""
    variant: str
    """What is sampled, and its share."""
    images: Images
    """Images in the training set."""
    epochs: Positive
    """Epochs of the training."""
    seed: Count
    """Seed of weights, order and sample."""
    accuracy: Share
    """Test accuracy after the last epoch."""


class NetworkCost(Record):
    """A step of one network and data set at the default assumptions."""

    speedup: Ratio
    """Cycles of the step on the dense twin / on the chip."""
    forward: Ratio
    """Speedup of the forward passes."""
    grad_input: Ratio
    """Speedup of the gradients of the inputs."""
    grad_weight: Ratio
    """Speedup of the gradients of the weights."""
    gains: list[EnergyGain]
    """The energy gain under every price table."""


class AssumptionMeans(Record):
    """Arithmetic means over the networks. Two more fields for each price table: its energy gains.

    Their names are `PRICES energy_gain_chip` (without DRAM) and `PRICES energy_gain` (with DRAM).
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float] = Field(init=False)

    speedup: Ratio
    """Cycles of the step on the dense twin / on the chip."""


class PaperBenchmark(Record):
    """The averages that the paper publishes, under several assumptions about the chip."""

    networks: dict[str, NetworkCost]
    """One object for each network and data set, such as `alexnet CIFAR`."""
    assumptions: dict[str, AssumptionMeans]
    """One object for each set of assumptions."""


class CycleErrors(Record):
    """Cycles of the closed form / cycles of the simulator - 1."""

    step: float
    """Error of the whole step."""
    forward: float
    """Error of all forward passes."""
    grad_input: float
    """Error of all gradients of inputs."""
    grad_weight: float
    """Error of all gradients of weights."""
    p95: NotNegative
    """95th percentile of the absolute errors of all layers and passes, by nearest rank."""
    worst: NotNegative
    """The largest absolute error of a pass of a layer."""


class RecordedStep(Record):
    """The closed form beside the simulator on one recorded step."""

    x_density: Density
    """Density of x of all layers together."""
    dy_density: Density
    """Density of dy of all layers together."""
    speedup: Ratio
    """Simulated cycles of the dense twin / of the chip."""
    maps: CycleErrors
    """Errors of the closed form that knows the places of the zeros."""
    densities: CycleErrors
    """Errors of the closed form that knows only the densities."""


class ModelErrorBenchmark(Record):
    """The error of the closed form on recorded training steps."""

    model: str
    """The network."""
    steps: Annotated[Positive, Unit("steps")]
    """Training steps."""
    rate: Rate
    """Pruning rate while training; 0 means without pruning."""
    recorded: dict[str, RecordedStep]
    """One object for each recorded step, such as `step 20, pruned at 0.9`."""

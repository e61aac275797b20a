"""Models of what `make test-gpu`, `make bench-gpu` and benchmarks/gpu.py write."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from sparsetrain.experiments.formats.fields import (
    Count,
    Density,
    Images,
    Milliseconds,
    Positive,
    Ratio,
    Record,
    Seconds,
    Unit,
)

Precision = Literal["fp32", "tf32", "bf16"]


class Gpu(Record):
    """The GPU and the versions that made the file."""

    gpu: str
    """Name of the GPU."""
    multiprocessors: Count
    """Multiprocessors of the GPU."""
    torch: str
    """Version of PyTorch."""
    cuda: str
    """Version of CUDA that PyTorch was built with."""
    cudnn: int
    """Version of cuDNN."""


class GpuPruneRow(Record):
    """The times of pruning a tensor of one data type and size."""

    dtype: Literal["float32", "bfloat16"]
    """Data type of the tensor."""
    elements: Positive
    """Elements of the tensor."""
    clone_ms: Milliseconds
    """Time of `torch.clone`."""
    prune_ms: Milliseconds
    """Time of pruning with a known threshold."""
    share: Ratio
    """`clone_ms` / `prune_ms`: the share of the copy's bandwidth that pruning reaches."""


class GpuBackwardRow(Record):
    """The times of both gradients of a 3 x 3 convolution at batch 64."""

    precision: Precision
    """Precision of the dense convolution: float32 without TF32, with TF32, or bfloat16."""
    channels: Positive
    """Channels of the input and of the output."""
    size: Annotated[Positive, Unit("pixels")]
    """Height and width of the input."""
    density: Density
    """Density of dy."""
    dense_ms: Milliseconds
    """Time of cuDNN."""
    sparse_ms: Milliseconds
    """Time of backend `sparse`."""
    cusparse_ms: Milliseconds
    """Time of backend `cusparse`, with its synchronization of host and GPU."""
    speedup: Ratio
    """`dense_ms` / `sparse_ms`."""


class GpuStepRow(Record):
    """The times of a training step of ResNet-50 in channels_last, without the optimizer."""

    precision: Precision
    """Precision of the dense convolution, as above."""
    batch: Images
    """Images in the step."""
    plain_ms: Milliseconds
    """Time of the network without conversion."""
    pruned_ms: Milliseconds
    """Time of the network converted with `backend="dense"`."""
    measured_ms: Milliseconds
    """Time of the network converted with `backend="dense"`, measuring densities at every step."""
    auto_ms: Milliseconds
    """Time of the network converted with `backend="auto"`, measuring densities at every step."""
    recorded_ms: Milliseconds
    """Time of the step of `measured_ms` inside `accel.record`, which records one image."""


class GpuBenchmark(Record):
    """Times on a GPU: medians of the GPU's clock over interleaved repetitions."""

    machine: Gpu
    """The GPU and the versions."""
    prune: list[GpuPruneRow]
    """One object for each data type and size."""
    backward: list[GpuBackwardRow]
    """One object for each precision, layer and density."""
    step: list[GpuStepRow]
    """One object for each precision."""
    summary: dict[str, Ratio]
    """Geometric mean of `speedup` in `backward` for each precision and density: `bf16 0.1`."""


class GpuStep(Record):
    """The result of one step of the command."""

    result: str
    """`passed`, `failed with exit code N`, or `skipped: REASON`."""
    seconds: Seconds
    """Wall-clock time of the step."""


class GpuSteps(Record):
    """One more field for each step, whose value is a [GpuStep](#gpustep).

    The steps are `build`, `tests` and the tools of compute-sanitizer, or `build`, `tune` and
    `benchmark`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, GpuStep] = Field(init=False)

    figures: GpuBenchmark | None = None
    """What `benchmarks/gpu.py` wrote; only in `bench.json`."""

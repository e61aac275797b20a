"""Fits the costs of `auto` on CUDA to the GPU at hand: one precision after another.

As tuning.py for the CPU, but by the GPU's clock: a pass's predicted time is a sum of counts
(csrc/kernels/cuda_costs.h, CudaWork) times costs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch

from sparsetrain._native import _C
from sparsetrain.cost_table import CostTable, costs
from sparsetrain.tuning.fit import DENSITIES, PASSES, Sample, Shape, calls, fit

PRECISIONS = {
    "float32": ("fp32", "tf32"),
    "bfloat16": ("bf16",),
    "float16": ("fp16",),
    "float64": ("fp64",),
}
# What each unit is a cost of, as attributes of _C.CudaWork; None: the call itself.
DENSE_UNITS = {"dense_mac_ns": "macs", "dense_element_ns": "elements", "dense_call_ns": None}
SPARSE_UNITS = {
    "tile_ns": "tiles",
    "load_ns": "loads",
    "nonzero_ns": "nonzeros",
    "element_ns": "elements",
    "call_ns": None,
}
DEVICE = "cuda"
ROUNDS = 11

# None of them is timed by a benchmark.
SHAPES = (
    Shape(32, 96, 40, 96, 3, 1),
    Shape(32, 192, 20, 192, 3, 1),
    Shape(32, 320, 20, 320, 3, 1),
    Shape(48, 160, 26, 160, 3, 1),
    Shape(64, 384, 10, 384, 3, 1),
    Shape(16, 640, 12, 640, 3, 1),
    Shape(32, 48, 80, 96, 3, 1),
    Shape(32, 96, 40, 192, 3, 2),
    Shape(32, 160, 24, 320, 3, 2),
    Shape(32, 192, 40, 48, 1, 1),
    Shape(32, 320, 20, 1280, 1, 1),
    Shape(32, 48, 40, 192, 1, 1),
    Shape(32, 80, 32, 80, 5, 1),
    Shape(4, 32, 24, 32, 3, 1),
)


def tune(dtypes: Sequence[str], progress: Callable[[], object]) -> CostTable:
    """The table in force with the costs of `dtypes` on the current GPU fitted; float32 is timed
    with TF32 off and on.

    progress is called once after each of steps(dtypes) shapes. Raises as architecture() does.
    """
    table = costs()
    gpu = architecture()
    for dtype in dtypes:
        for precision in PRECISIONS[dtype]:
            with torch.backends.cudnn.flags(
                enabled=True, benchmark=True, deterministic=False, allow_tf32=precision == "tf32"
            ):
                fitted = _fitted(
                    getattr(torch, dtype), _C.Precision.__members__[precision], progress
                )
            table["cuda"].setdefault(gpu, {})[precision] = fitted
    return table


def architecture() -> str:
    """The compute capability of the current GPU, "9.0" say.

    Raises ValueError where there is no GPU that torch can use.
    """
    if not torch.cuda.is_available():
        raise ValueError("sparsetrain.tune: expected a GPU that torch can use, got none")
    return ".".join(map(str, torch.cuda.get_device_capability()))


def steps(dtypes: Sequence[str]) -> int:
    """How many shapes `tune` times."""
    return len(SHAPES) * sum(len(PRECISIONS[dtype]) for dtype in dtypes)


def fit_pass(dense: Sequence[Sample], sparse: Sequence[Sample]) -> dict[str, float]:
    """The costs of one pass, {unit: nanoseconds}."""
    return {**fit(DENSE_UNITS, dense), **fit(SPARSE_UNITS, sparse)}


def milliseconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Median of each call by the GPU's clock, in turn, after three rounds that warm up."""
    marks = []
    for _ in range(3 + ROUNDS):
        for call in calls:
            begin, end = (
                torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                for _ in range(2)
            )
            begin.record()
            call()
            end.record()
            marks.append((begin, end))
    torch.cuda.synchronize()
    times = [begin.elapsed_time(end) for begin, end in marks[3 * len(calls) :]]
    return [statistics.median(times[i :: len(calls)]) for i in range(len(calls))]


def _fitted(
    dtype: torch.dtype, precision: _C.Precision, progress: Callable[[], object]
) -> dict[str, dict[str, float]]:
    dense: dict[str, list[Sample]] = {name: [] for name in PASSES}
    sparse: dict[str, list[Sample]] = {name: [] for name in PASSES}
    for shape in SHAPES:
        for name in PASSES:
            _sample(shape, name, dtype, precision, dense[name], sparse[name])
        progress()
    return {name: fit_pass(dense[name], sparse[name]) for name in PASSES}


def _sample(
    shape: Shape,
    name: str,
    dtype: torch.dtype,
    precision: _C.Precision,
    dense: list[Sample],
    sparse: list[Sample],
) -> None:
    """Times one pass of one shape: dense at its better format, sparse at every density."""

    def work(density: float) -> _C.CudaWork:
        return _C.cuda_work(shape.geometry(), getattr(_C.Pass, name), precision, density)

    plain = list(calls(shape, name, dtype, 1.0, "dense", DEVICE))
    skipping = [
        (density, call)
        for density in DENSITIES
        for call in calls(shape, name, dtype, density, "sparse", DEVICE)
    ]
    times = [1e6 * ms for ms in milliseconds([*plain, *(call for _, call in skipping)])]
    dense.append(Sample(work(1.0), min(times[: len(plain)])))
    for (density, _), nanoseconds in zip(skipping, times[len(plain) :], strict=True):
        sparse.append(Sample(work(density), nanoseconds))

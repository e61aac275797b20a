"""Fits the costs of `auto` to the current GPU, by the GPU's clock; `sparsetrain tune` uses it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch

from sparsetrain._native import _C
from sparsetrain.cost_table import CostTable, costs
from sparsetrain.tuning.fit import Shape, Target, fit_passes

# The precisions in which the dense convolution may compute, by the data type of the operands.
PRECISIONS = {
    "float32": ("fp32", "tf32"),
    "bfloat16": ("bf16",),
    "float16": ("fp16",),
    "float64": ("fp64",),
}
# The attribute of _C.CudaWork that counts each unit (csrc/choice/cuda_costs.h); None: the call.
DENSE_UNITS = {"dense_mac_ns": "macs", "dense_element_ns": "elements", "dense_call_ns": None}
SPARSE_UNITS = {
    "tile_ns": "tiles",
    "load_ns": "loads",
    "nonzero_ns": "nonzeros",
    "element_ns": "elements",
    "call_ns": None,
}
DEVICE = "cuda"
WARM_UP_ROUNDS, ROUNDS = 3, 11

# No benchmark times these shapes, so that benchmarks judge the fit on other ones.
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
    """Fits the costs of `dtypes` to the current GPU; those of float32 with TF32 off and on.

    Args:
        dtypes: Names from `PRECISIONS`.
        progress: Called after each of `steps(dtypes)` shapes.

    Returns:
        The table in force with these costs replaced.

    Raises:
        ValueError: If torch can use no GPU.
    """
    table = costs()
    fitted = table["cuda"].setdefault(architecture(), {})
    for dtype in dtypes:
        for precision in PRECISIONS[dtype]:
            with torch.backends.cudnn.flags(
                enabled=True, benchmark=True, deterministic=False, allow_tf32=precision == "tf32"
            ):
                fitted[precision] = fit_passes(_target(precision), getattr(torch, dtype), progress)
    return table


def steps(dtypes: Sequence[str]) -> int:
    """How many shapes `tune` times."""
    return len(SHAPES) * sum(len(PRECISIONS[dtype]) for dtype in dtypes)


def architecture() -> str:
    """The compute capability of the current GPU, such as "9.0".

    Raises:
        ValueError: If torch can use no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("sparsetrain.tune: expected a GPU that torch can use, got none")
    return ".".join(map(str, torch.cuda.get_device_capability()))


def nanoseconds(calls: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """Times each call by the GPU's clock: the median of `rounds` rounds after the warm-up.

    A round runs every call once, so that changes of the GPU's clock rate affect all of them.
    """
    events = []
    for _ in range(WARM_UP_ROUNDS + rounds):
        for call in calls:
            begin, end = (
                torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                for _ in range(2)
            )
            begin.record()
            call()
            end.record()
            events.append((begin, end))
    torch.cuda.synchronize()
    times = [1e6 * begin.elapsed_time(end) for begin, end in events[WARM_UP_ROUNDS * len(calls) :]]
    return [statistics.median(times[i :: len(calls)]) for i in range(len(calls))]


def _target(precision: str) -> Target:
    def work(shape: _C.ConvShape, pass_: _C.Pass, density: float) -> _C.CudaWork:
        return _C.cuda_work(shape, pass_, _C.Precision.__members__[precision], density)

    return Target(DEVICE, SHAPES, DENSE_UNITS, SPARSE_UNITS, work, nanoseconds)

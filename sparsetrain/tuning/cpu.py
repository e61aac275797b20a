"""Fits the cost table to this machine: times both backends on a few shapes, solves for costs.

A pass's predicted time is a sum of counts (csrc/kernels/choose.h, Work) times costs. The costs are
the non-negative least squares of the relative errors, dense and sparse each by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from sparsetrain._native import _C
from sparsetrain.cost_table import CostTable, costs
from sparsetrain.tuning.fit import DENSITIES, PASSES, STORAGES, Sample, Shape, calls, fit

# What each unit is a cost of, as attributes of _C.Work.
DENSE_UNITS = {
    "dense_mac_ns": "dense_macs",
    "dense_element_ns": "dense_elements",
    "dense_call_ns": "dense_calls",
}
SPARSE_UNITS = {
    "vector_ns": "vectors",
    "visit_ns": "visits",
    "list_ns": "lists",
    "copy_ns": "copies",
}
CALL_NS = 15e3  # kCallNs of csrc/kernels/choose.cpp, which is not fitted


# None of them is timed by a benchmark. Powers of two, as networks have them: with them the tiles of
# AMX are full, and bfloat16 up to three times as fast as with the channels between.
SHAPES = (
    Shape(16, 64, 24, 64, 3, 1),
    Shape(8, 128, 20, 128, 3, 1),
    Shape(16, 256, 10, 256, 3, 1),
    Shape(16, 512, 6, 512, 3, 1),
    Shape(8, 64, 36, 128, 3, 1),
    Shape(8, 64, 24, 128, 3, 2),
    Shape(16, 256, 12, 512, 3, 2),
    Shape(8, 64, 40, 256, 1, 1),
    Shape(8, 256, 24, 64, 1, 1),
    Shape(16, 512, 10, 1024, 1, 1),
    Shape(16, 32, 24, 32, 3, 1),
    Shape(16, 16, 24, 16, 3, 1),
    Shape(2, 16, 10, 16, 3, 1),
    Shape(4, 32, 6, 64, 3, 1),
)


def tune(storages: tuple[str, ...], progress: Callable[[], object]) -> CostTable:
    """The table in force with the costs of `storages` fitted to this machine, on one thread.

    progress is called once after each of len(storages) * len(SHAPES) shapes.
    """
    table = costs()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for storage in storages:
            dense: dict[str, list[Sample]] = {name: [] for name in PASSES}
            sparse: dict[str, list[Sample]] = {name: [] for name in PASSES}
            for shape in SHAPES:
                for name in PASSES:
                    _sample(shape, name, STORAGES[storage], dense[name], sparse[name])
                progress()
            for name in PASSES:
                table[storage][name] = {
                    **fit(DENSE_UNITS, dense[name]),
                    **fit(SPARSE_UNITS, sparse[name], CALL_NS),
                }
    finally:
        torch.set_num_threads(threads)
    return table


def _sample(
    shape: Shape, name: str, dtype: torch.dtype, dense: list[Sample], sparse: list[Sample]
) -> None:
    """Times one pass of one shape: dense at its better format, sparse at every density."""
    geometry, direction = shape.geometry(), getattr(_C.Pass, name)
    best = min(_time(call) for call in calls(shape, name, dtype, 1.0, "dense"))
    dense.append(Sample(_C.work(geometry, direction, 1.0), best))
    for density in DENSITIES:
        work = _C.work(geometry, direction, density)
        sparse += (
            Sample(work, _time(call)) for call in calls(shape, name, dtype, density, "sparse")
        )


def _time(call: Callable[[], object]) -> float:
    """The least nanoseconds of processor time of three calls, after one that warms up."""
    call()
    least = float("inf")
    for _ in range(3):
        begin = time.thread_time_ns()
        call()
        least = min(least, time.thread_time_ns() - begin)
    return least

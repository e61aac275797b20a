"""Fits the costs of `auto` to this processor, one thread; `sparsetrain tune` uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from sparsetrain._native import _C
from sparsetrain.cost_table import CostTable, costs
from sparsetrain.tuning.fit import Shape, Target, fit_passes

DTYPES = ("float32", "bfloat16", "float16")

# The attribute of _C.Work that counts each unit (csrc/choice/choose.h).
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
CALL_NS = 15e3  # kCallNs of csrc/choice/choose.cpp, a constant of the model

# No benchmark times these shapes, so that benchmarks judge the fit on other ones. The numbers of
# channels are powers of two, as in real networks: these fill the tiles of AMX, which then computes
# bfloat16 up to three times as fast as with other numbers of channels.
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


def tune(dtypes: Sequence[str], progress: Callable[[], object]) -> CostTable:
    """Fits the costs of `dtypes` to this processor. Sets torch to one thread meanwhile.

    Args:
        dtypes: Names from `DTYPES`.
        progress: Called after each of `steps(dtypes)` shapes.

    Returns:
        The table in force with these costs replaced.
    """
    table = costs()
    target = Target(
        "cpu", SHAPES, DENSE_UNITS, SPARSE_UNITS, _C.work, nanoseconds, sparse_call_ns=CALL_NS
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dtype in dtypes:
            table[dtype] = fit_passes(target, getattr(torch, dtype), progress)
    finally:
        torch.set_num_threads(threads)
    return table


def steps(dtypes: Sequence[str]) -> int:
    """How many shapes `tune` times."""
    return len(SHAPES) * len(dtypes)


def nanoseconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Times each call by the thread's processor time: the least of three runs after a warm-up."""
    return [_least_of_three(call) for call in calls]


def _least_of_three(call: Callable[[], object]) -> float:
    call()
    least = float("inf")
    for _ in range(3):
        begin = time.thread_time_ns()
        call()
        least = min(least, time.thread_time_ns() - begin)
    return least

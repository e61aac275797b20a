"""Fits the cost table to this machine: times both backends on a few shapes, solves for costs.

A pass's predicted time is a sum of counts (csrc/kernels/choose.h, Work) times costs. The costs are
the non-negative least squares of the relative errors, dense and sparse each by themselves.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from sparsetrain import _C
from sparsetrain.costs import CostTable, costs

PASSES = ("forward", "grad_input", "grad_weight")
STORAGES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
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
DENSITIES = (0.05, 0.15, 0.35, 0.7)
FORMATS = (torch.contiguous_format, torch.channels_last)


class Shape(NamedTuple):
    """x [batch, inputs, size, size], w [outputs, inputs, kernel, kernel], padding kernel // 2."""

    batch: int
    inputs: int
    size: int
    outputs: int
    kernel: int
    stride: int

    def geometry(self) -> _C.ConvShape:
        """The same for the cost model."""
        n, c, size, k, kernel, stride = self
        pads = [kernel // 2] * 2
        return _C.ConvShape(n, c, size, size, k, kernel, kernel, stride, stride, *pads)


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


class Sample(NamedTuple):
    """One timed call: the counts of its work, here or on a GPU, and its nanoseconds."""

    work: _C.Work | _C.CudaWork
    nanoseconds: float


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


def non_negative_least_squares(matrix: Tensor, wanted: Tensor) -> Tensor:
    """The x >= 0 that minimises |matrix x - wanted|, by trying every set of positive columns.

    matrix [rows, columns], of few columns and independent ones; wanted [rows].
    """
    best = torch.zeros(matrix.shape[1], dtype=matrix.dtype)
    least = wanted.norm()
    for count in range(1, matrix.shape[1] + 1):
        for columns in map(list, itertools.combinations(range(matrix.shape[1]), count)):
            part = torch.linalg.lstsq(matrix[:, columns], wanted[:, None]).solution[:, 0]
            error = (matrix[:, columns] @ part - wanted).norm()
            if bool((part >= 0).all()) and error < least:
                best, least = torch.zeros_like(best), error
                best[columns] = part
    return best


def fit(
    units: Mapping[str, str | None], samples: Sequence[Sample], call_ns: float = 0
) -> dict[str, float]:
    """Costs of units, in nanoseconds, that make up what calls took, by relative errors.

    units: the attribute of a sample's work that counts each; None for one a call. call_ns: what
    each call took besides.
    """
    took = torch.tensor([s.nanoseconds for s in samples], dtype=torch.float64)
    counts = [
        [getattr(s.work, count) if count else 1.0 for s in samples] for count in units.values()
    ]
    matrix = torch.tensor(counts, dtype=torch.float64).T / took[:, None]
    scale = matrix.amax(0)
    solution = non_negative_least_squares(matrix / scale, 1 - call_ns / took) / scale
    return {unit: float(f"{ns:.4g}") for unit, ns in zip(units, solution.tolist(), strict=True)}


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


def calls(
    shape: Shape, name: str, dtype: torch.dtype, density: float, backend: str, device: str = "cpu"
) -> Iterator[Callable[[], object]]:
    """The pass in both memory formats, zeros in the operand whose zeros it skips."""
    n, c, size, k, kernel, stride = shape
    generator = torch.Generator(device).manual_seed(0)
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1

    def tensor(*sizes: int, share: float = 1.0) -> Tensor:
        t = torch.randn(sizes, generator=generator, device=device)
        return (t * (torch.rand(sizes, generator=generator, device=device) < share)).to(dtype)

    x = tensor(n, c, size, size, share=density if name == "forward" else 1.0)
    w = tensor(k, c, kernel, kernel)
    dy = tensor(n, k, out, out, share=density)
    rest = ([stride] * 2, [pad] * 2, [1, 1], 1)
    mask = [name == "grad_input", name == "grad_weight", False]
    ops = torch.ops.sparsetrain
    for layout in FORMATS:
        a, b, g = (t.to(memory_format=layout) for t in (x, w, dy))
        if name == "forward":
            yield partial(ops.conv2d, a, b, None, *rest, backend)
        else:
            yield partial(ops.conv2d_backward, g, a, b, *rest, mask, backend)


def _time(call: Callable[[], object]) -> float:
    """The least nanoseconds of processor time of three calls, after one that warms up."""
    call()
    least = float("inf")
    for _ in range(3):
        begin = time.thread_time_ns()
        call()
        least = min(least, time.thread_time_ns() - begin)
    return least

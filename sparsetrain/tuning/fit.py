"""Times convolutions and fits the unit costs of `auto` to them; `cpu.py` and `cuda.py` use it.

The predicted time of a pass is a sum of counts times costs. The costs are the non-negative
least-squares solution of the relative errors, for the dense and the sparse backend separately.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from sparsetrain._native import _C, PASSES

DENSITIES = (0.05, 0.15, 0.35, 0.7)
MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)


class Shape(NamedTuple):
    """x [batch, inputs, size, size], w [outputs, inputs, kernel, kernel], padding kernel // 2."""

    batch: int
    inputs: int
    size: int
    outputs: int
    kernel: int
    stride: int

    def conv_shape(self) -> _C.ConvShape:
        """This convolution as the cost model takes it."""
        n, c, size, k, kernel, stride = self
        pads = [kernel // 2] * 2
        return _C.ConvShape(n, c, size, size, k, kernel, kernel, stride, stride, *pads)


class Sample(NamedTuple):
    """One timed call: the counts of its work and its duration."""

    work: _C.Work | _C.CudaWork
    nanoseconds: float


@dataclass(frozen=True)
class Target:
    """What differs between tuning for a processor and for a GPU.

    Attributes:
        device: Where the operands are allocated, "cpu" or "cuda".
        shapes: The convolutions to time.
        dense_units: For each dense cost, the attribute of `Sample.work` that counts its unit; None
            for a cost of the call itself.
        sparse_units: The sparse costs, in the form of `dense_units`.
        work: Counts the work of a pass of a convolution at a density.
        nanoseconds: Times each of the calls.
        sparse_call_ns: A constant part of a sparse call's time that is not fitted.
    """

    device: str
    shapes: Sequence[Shape]
    dense_units: Mapping[str, str | None]
    sparse_units: Mapping[str, str | None]
    work: Callable[[_C.ConvShape, _C.Pass, float], _C.Work | _C.CudaWork]
    nanoseconds: Callable[[Sequence[Callable[[], object]]], list[float]]
    sparse_call_ns: float = 0


def fit_passes(
    target: Target, dtype: torch.dtype, progress: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """Times every shape of `target` in every pass and fits the costs of each pass.

    Args:
        target: The processor or GPU.
        dtype: Data type of the operands.
        progress: Called after each shape.

    Returns:
        {pass: {unit: nanoseconds}}.
    """
    dense: dict[str, list[Sample]] = {name: [] for name in PASSES}
    sparse: dict[str, list[Sample]] = {name: [] for name in PASSES}
    for shape in target.shapes:
        for name in PASSES:
            best_dense, *all_sparse = sample(target, shape, name, dtype)
            dense[name].append(best_dense)
            sparse[name] += all_sparse
        progress()
    return {
        name: {
            **fit(target.dense_units, dense[name]),
            **fit(target.sparse_units, sparse[name], target.sparse_call_ns),
        }
        for name in PASSES
    }


def sample(target: Target, shape: Shape, pass_name: str, dtype: torch.dtype) -> Iterator[Sample]:
    """Times one pass of one shape.

    Yields:
        The dense call in its faster memory format, then the sparse calls at every density in every
        memory format.
    """

    def calls(density: float, backend: str) -> Iterator[Callable[[], object]]:
        return pass_calls(shape, pass_name, dtype, density, backend, target.device)

    def work(density: float) -> _C.Work | _C.CudaWork:
        return target.work(shape.conv_shape(), _C.Pass.__members__[pass_name], density)

    dense = list(calls(1.0, "dense"))
    sparse = [(density, call) for density in DENSITIES for call in calls(density, "sparse")]
    times = target.nanoseconds([*dense, *(call for _, call in sparse)])
    yield Sample(work(1.0), min(times[: len(dense)]))
    for (density, _), nanoseconds in zip(sparse, times[len(dense) :], strict=True):
        yield Sample(work(density), nanoseconds)


def fit(
    units: Mapping[str, str | None], samples: Sequence[Sample], call_ns: float = 0
) -> dict[str, float]:
    """Fits unit costs to timed calls, minimizing the relative errors of the predicted times.

    Args:
        units: For each cost, the attribute of `Sample.work` that counts its unit; None if the unit
            is the call.
        samples: The timed calls.
        call_ns: A constant part of each call's time, in nanoseconds.

    Returns:
        {unit: nanoseconds}, rounded to four digits.
    """
    durations = torch.tensor([s.nanoseconds for s in samples], dtype=torch.float64)
    counts = [
        [getattr(s.work, count) if count else 1.0 for s in samples] for count in units.values()
    ]
    matrix = torch.tensor(counts, dtype=torch.float64).T / durations[:, None]
    scale = matrix.amax(0)
    solution = non_negative_least_squares(matrix / scale, 1 - call_ns / durations) / scale
    return {unit: float(f"{ns:.4g}") for unit, ns in zip(units, solution.tolist(), strict=True)}


def non_negative_least_squares(matrix: Tensor, target: Tensor) -> Tensor:
    """The x >= 0 that minimizes |matrix x - target|, found by trying every set of positive entries.

    Args:
        matrix: [rows, columns]; few columns, linearly independent.
        target: [rows].

    Returns:
        [columns].
    """
    best = torch.zeros(matrix.shape[1], dtype=matrix.dtype)
    least = target.norm()
    for count in range(1, matrix.shape[1] + 1):
        for columns in map(list, itertools.combinations(range(matrix.shape[1]), count)):
            part = torch.linalg.lstsq(matrix[:, columns], target[:, None]).solution[:, 0]
            error = (matrix[:, columns] @ part - target).norm()
            if bool((part >= 0).all()) and error < least:
                best, least = torch.zeros_like(best), error
                best[columns] = part
    return best


def pass_calls(
    shape: Shape, pass_name: str, dtype: torch.dtype, density: float, backend: str, device: str
) -> Iterator[Callable[[], object]]:
    """Yields a call that runs the pass, for each memory format.

    `density` is that of the operand whose zeros the pass skips; the other operand is dense.
    """
    n, c, size, k, kernel, stride = shape
    generator = torch.Generator(device).manual_seed(0)
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1

    def tensor(*sizes: int, density: float = 1.0) -> Tensor:
        t = torch.randn(sizes, generator=generator, device=device)
        keep = torch.rand(sizes, generator=generator, device=device) < density
        return (t * keep).to(dtype)

    x = tensor(n, c, size, size, density=density if pass_name == "forward" else 1.0)
    w = tensor(k, c, kernel, kernel)
    dy = tensor(n, k, out, out, density=density)
    rest = ([stride] * 2, [pad] * 2, [1, 1], 1)
    output_mask = [pass_name == "grad_input", pass_name == "grad_weight", False]
    ops = torch.ops.sparsetrain
    for memory_format in MEMORY_FORMATS:
        a, b, g = (t.to(memory_format=memory_format) for t in (x, w, dy))
        if pass_name == "forward":
            yield partial(ops.conv2d, a, b, None, *rest, backend)
        else:
            yield partial(ops.conv2d_backward, g, a, b, *rest, output_mask, backend)

"""The least-squares fit of costs to timed calls that tuning on processors and GPUs share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from sparsetrain._native import _C

PASSES = ("forward", "grad_input", "grad_weight")


STORAGES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


class Sample(NamedTuple):
    """One timed call: the counts of its work, here or on a GPU, and its nanoseconds."""

    work: _C.Work | _C.CudaWork
    nanoseconds: float


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

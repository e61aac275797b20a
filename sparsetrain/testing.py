"""Cases, oracle and error bound of a convolution's three passes.

Correctness tests, gradient tests, `torch.library.opcheck`, the fuzzer, `sparsetrain doctor` and the
benchmarks take their shapes and their expected values from here. The oracle is PyTorch's own
convolution on contiguous float64 copies; it uses nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
RESULTS = ("y", "grad_input", "grad_weight", "grad_bias")

# Unit roundoff: half the distance from 1 to the next larger number.
ROUNDOFF = {dtype: torch.finfo(dtype).eps / 2 for dtype in DTYPES}

Convolution = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Operands(NamedTuple):
    """The operands of a convolution's three passes; `bias` may be None."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    grad_output: Tensor


@dataclass(frozen=True)
class ConvCase:
    """One convolution call, without its data type, memory format and densities.

    Attributes:
        name: What is special about this case.
        input_shape: [N, C, H, W] or [C, H, W].
        weight_shape: [K, C/groups, R, S].
        stride: One integer or (vertical, horizontal).
        padding: Like stride, or "same" or "valid".
        dilation: Like stride.
        groups: Divides C and K.
        bias: Whether a bias [K] is added.
    """

    name: str
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, int, int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] | str = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = False

    @property
    def geometry(self) -> dict[str, Any]:
        """Keyword arguments of `torch.nn.functional.conv2d`."""
        names = ("stride", "padding", "dilation", "groups")
        return {name: getattr(self, name) for name in names}

    def operands(
        self,
        dtype: torch.dtype,
        *,
        input_density: float = 0.5,
        grad_density: float = 0.2,
        memory_format: torch.memory_format = torch.contiguous_format,
        device: str = "cpu",
        seed: int = 0,
    ) -> Operands:
        """Normal random operands with zeros at random positions.

        Args:
            dtype: Data type of all operands.
            input_density: Expected nonzeros / elements of the input.
            grad_density: Expected nonzeros / elements of the output's gradient.
            memory_format: Memory format of all 4-D operands.
            device: Device of all operands.
            seed: Seed of the random numbers, which do not depend on dtype, format and device.
        """
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: Sequence[int], density: float = 1.0) -> Tensor:
            values = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
            values *= torch.rand(tuple(shape), generator=generator) < density
            values = values.to(device, dtype)
            return values.to(memory_format=memory_format) if values.dim() == 4 else values

        x, w = draw(self.input_shape, input_density), draw(self.weight_shape)
        b = draw(self.weight_shape[:1]) if self.bias else None
        output = F.conv2d(x.to("meta"), w.to("meta"), None, **self.geometry)
        return Operands(x, w, b, draw(output.shape, grad_density))


CASES = (
    ConvCase("3x3", (4, 64, 14, 14), (64, 64, 3, 3), padding=1),
    ConvCase("1x1", (2, 16, 9, 9), (40, 16, 1, 1), bias=True),
    ConvCase("1x1 with stride", (3, 5, 8, 8), (9, 5, 1, 1), stride=2),
    ConvCase("5x5", (1, 128, 7, 7), (256, 128, 5, 5), padding=2),
    ConvCase("stem", (2, 3, 30, 31), (16, 3, 7, 7), stride=2, padding=3),
    ConvCase("unequal geometry", (2, 33, 9, 11), (70, 33, 3, 2), (2, 3), (2, 1), (2, 1), bias=True),
    ConvCase("same, even kernel", (2, 8, 7, 6), (4, 8, 4, 2), padding="same"),
    ConvCase("grouped", (2, 12, 8, 8), (8, 6, 3, 3), padding=1, groups=2, bias=True),
    ConvCase("depthwise", (2, 16, 10, 10), (16, 1, 3, 3), padding=1, groups=16),
    ConvCase("one channel", (3, 1, 9, 9), (8, 1, 3, 3)),
    ConvCase("one output pixel", (2, 4, 3, 3), (6, 4, 3, 3)),
    ConvCase("unbatched", (8, 9, 9), (16, 8, 3, 3), padding=1),
    ConvCase("empty batch", (0, 4, 6, 6), (8, 4, 3, 3)),
)


def three_passes(
    convolve: Convolution,
    operands: Operands,
    needs_grad: tuple[bool, bool, bool] = (True, True, True),
) -> list[Tensor | None]:
    """The forward and the backward pass of a convolution.

    Args:
        convolve: Maps input, weight and bias to the output.
        operands: Its operands. A 16-bit result of autocast gets a gradient of its own type.
        needs_grad: Which gradients to compute: of input, weight and bias.

    Returns:
        [y, grad_input, grad_weight, grad_bias]; None for what was not asked for.
    """
    leaves = [
        None if t is None else t.detach().requires_grad_(needed)
        for t, needed in zip(operands[:3], needs_grad, strict=True)
    ]
    x, w, b = leaves
    assert x is not None and w is not None
    y = convolve(x, w, b)
    asked = [t for t in leaves if t is not None and t.requires_grad]
    grads = iter(torch.autograd.grad(y, asked, operands.grad_output.to(y.dtype)) if asked else ())
    return [
        y.detach(),
        *(next(grads) if t is not None and t.requires_grad else None for t in leaves),
    ]


@dataclass
class Exact:
    """The exact value of one result, and what its rounding errors depend on.

    Attributes:
        value: The result in float64.
        magnitude: The sum of the absolute values of the products that make up each element.
        terms: An upper bound of the number of those products.
    """

    value: Tensor
    magnitude: Tensor
    terms: int
    _bounds: dict[tuple[torch.dtype, float], Tensor] = field(default_factory=dict, repr=False)

    def error_bound(self, dtype: torch.dtype, roundoff: float | None = None) -> Tensor:
        """The largest error that a correct implementation can make, for each element.

        A sum of n products in any order errs by at most n u / (1 - n u) * sum |a b| (Higham,
        Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and each operation by
        half a subnormal number more where it underflows. The oracle errs by as much with its own u.
        Storing the result rounds it once.

        Args:
            dtype: Data type of the result.
            roundoff: Unit roundoff of the sums; by default that of `accumulation_dtype(dtype)`.
        """
        sums = accumulation_dtype(dtype)
        roundoff = ROUNDOFF[sums] if roundoff is None else roundoff
        if (dtype, roundoff) not in self._bounds:
            n = self.terms + 1
            relative = sum(n * u / (1 - n * u) for u in (roundoff, ROUNDOFF[torch.float64]))
            bound = relative * self.magnitude + n * _smallest_subnormal(sums)
            if dtype != sums:
                bound = bound + ROUNDOFF[dtype] * (self.value.abs() + bound)
                bound = bound + _smallest_subnormal(dtype)
            self._bounds[dtype, roundoff] = bound
        return self._bounds[dtype, roundoff]

    def mismatch(self, result: Tensor) -> str | None:
        """Why `result` cannot be a correct result, in one phrase; None if it can."""
        if result.shape != self.value.shape:
            return f"shape {tuple(result.shape)}, expected {tuple(self.value.shape)}"
        error = (result.cpu().double() - self.value).abs()
        wrong = ~(error <= self.error_bound(result.dtype))
        if not wrong.any():
            return None
        at = tuple(wrong.nonzero()[0].tolist())
        return (
            f"{int(wrong.sum())} of {wrong.numel()} elements wrong, at {at} "
            f"{float(result[at]):.9g} instead of {float(self.value[at]):.9g}"
        )


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The data type in which the kernels add: float64 for float64, float32 for all others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _smallest_subnormal(dtype: torch.dtype) -> float:
    info = torch.finfo(dtype)
    return float(info.smallest_normal * info.eps)


def exact_results(operands: Operands, **geometry: Any) -> list[Exact | None]:
    """What y, grad_input, grad_weight and grad_bias must be.

    Args:
        operands: Any data types, strides and device.
        geometry: stride, padding, dilation and groups of the convolution.

    Returns:
        One entry for each of `RESULTS`; None for the gradient of a missing bias.
    """
    batched = operands.input.dim() == 4

    def copy(t: Tensor | None, image: bool) -> Tensor | None:
        if t is None:
            return None
        t = t.detach().cpu().double()
        return (t if batched or not image else t[None]).clone(memory_format=torch.contiguous_format)

    copies = [copy(t, image) for t, image in zip(operands, (True, False, False, True), strict=True)]

    def passes(given: Sequence[Tensor | None]) -> list[Tensor | None]:
        results = three_passes(
            lambda x, w, b: F.conv2d(x, w, b, **geometry),
            Operands(*given),  # type: ignore[arg-type]
        )
        if not batched:
            results[:2] = [results[0][0], results[1][0]]  # type: ignore[index]
        return results

    values = passes(copies)
    magnitudes = passes([None if t is None else t.abs() for t in copies])
    w, dy = operands.weight, operands.grad_output
    pixels = dy.numel() // max(1, w.shape[0])
    terms = (1 + w[0].numel(), w[:, 0].numel(), pixels, pixels)
    return [
        None if value is None or magnitude is None else Exact(value, magnitude, n)
        for value, magnitude, n in zip(values, magnitudes, terms, strict=True)
    ]


def mismatches(
    convolve: Convolution, case: ConvCase, dtype: torch.dtype, **options: Any
) -> list[str]:
    """Compares the three passes of `convolve` with the oracle.

    Args:
        convolve: Maps input, weight and bias to the output; `case.geometry` is its own business.
        case: The call.
        dtype: Data type of the operands.
        options: Densities, memory format, device and seed, as for `ConvCase.operands`.

    Returns:
        One sentence for each wrong result, such as
        "grad_weight of 3x3: 2 of 9 elements wrong, ...".
    """
    operands = case.operands(dtype, **options)
    results = three_passes(convolve, operands)
    expected = exact_results(operands, **case.geometry)
    sentences = []
    for name, result, exact in zip(RESULTS, results, expected, strict=True):
        if result is not None and exact is not None:
            why = exact.mismatch(result)
            if why is not None:
                sentences.append(f"{name} of {case.name}: {why}")
    return sentences

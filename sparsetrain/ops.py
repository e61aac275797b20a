"""The operators in Python: torch's conventions for arguments, and what `auto` would choose."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import cast

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn import functional as F
from torch.overrides import has_torch_function_variadic

from sparsetrain._checks import check_integer, check_name, check_rank, check_tensor
from sparsetrain._native import _C

CPU_BACKENDS = ("auto", "sparse", "dense")
BACKENDS = (*CPU_BACKENDS, "cusparse")
ARCHITECTURE = r"[1-9][0-9]?\.[0-9]"  # of a GPU: its compute capability

IntPair = int | Sequence[int]


def _pair(function: str, name: str, value: IntPair) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int | torch.SymInt) else value
    if isinstance(pair, Sequence) and len(pair) == 1:
        pair = (pair[0], pair[0])
    if (
        not isinstance(pair, Sequence)
        or len(pair) != 2
        or not all(isinstance(number, int | torch.SymInt) for number in pair)
    ):
        raise ValueError(
            f"sparsetrain.{function}: expected {name} to be one integer or two, got {value!r}"
        )
    if any(isinstance(number, int) and abs(number) >= 2**63 for number in pair):
        raise ValueError(
            f"sparsetrain.{function}: expected {name} to be integers below 2^31, got {value!r}"
        )
    return pair[0], pair[1]


def _padding(
    function: str,
    padding: IntPair | str,
    kernel: Sequence[int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros on each side of the two dimensions, and the odd ones that "same" puts behind only."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str) and padding != "same":
        raise ValueError(
            f"sparsetrain.{function}: expected padding to be 'same', 'valid' or integers, "
            f"got {padding!r}"
        )
    if not isinstance(padding, str):
        return _pair(function, "padding", padding), (0, 0)
    if stride != (1, 1):
        raise ValueError(
            f"sparsetrain.{function}: expected stride to be 1 for padding='same', got {stride}"
        )
    down, right = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    return (down // 2, right // 2), (down % 2, right % 2)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    backend: str = "auto",
    check_finite: bool = False,
    input_density: Tensor | None = None,
    grad_density: Tensor | None = None,
) -> Tensor:
    """Torch's conv2d, doing no work for zeros where that is faster.

    Args:
        input: [N, C, H, W] or [C, H, W]; float32, float64, bfloat16 or float16; any strides.
        weight: [K, C/groups, R, S], the same dtype and device.
        bias: [K] or None.
        stride: at least 1, one integer or (vertical, horizontal), as dilation.
        padding: zeros on each side, or "valid", or "same" (stride 1).
        dilation: distance between taps.
        groups: divides C and K.
        backend: "auto" (per pass, what `explain` says), "sparse" or "dense"; on CUDA also
            "cusparse": both gradients by cuSPARSE, the forward dense. It waits for the device
            once a backward, and runs dense in a CUDA graph, where it cannot.
        check_finite: a call, forward or backward, with an Inf or a NaN among its operands runs
            dense, so that they meet zeros as in torch: one more read of each operand. On CUDA,
            where looking would mean waiting, every call runs dense.
        input_density, grad_density: for "auto" on CUDA, where sampling would mean waiting: what is
            known of the densities of input and of the output's gradient, each one float64 number
            of no dimension on the CPU, read when a pass runs. None and NaN are not known. The CPU
            samples the operands and looks at neither.

    Returns:
        [N, K, P, Q] or [K, P, Q], channels_last if input or weight is.

    Raises:
        ValueError, TypeError: one sentence naming the argument, what is expected and what came.
    """
    # The operator takes nearly every call as it is; what it refuses is worded below. To check it
    # first, or to call it through torch.ops, would double what a call costs.
    watched = is_compiling() or has_torch_function_variadic(input, weight, bias)
    if not watched and not isinstance(padding, str):
        try:
            return _C.conv2d(
                input,
                weight,
                bias,
                (stride, stride) if type(stride) is int else stride,
                (padding, padding) if type(padding) is int else padding,
                (dilation, dilation) if type(dilation) is int else dilation,
                groups,
                backend,
                check_finite,
                input_density,
                grad_density,
            )
        except (TypeError, ValueError, RuntimeError):
            pass
    check_name("conv2d", "backend", backend, BACKENDS)
    check_tensor("conv2d", "input", input)
    check_tensor("conv2d", "weight", weight)
    if bias is not None:
        check_tensor("conv2d", "bias", bias)
    check_rank("conv2d", "input", input.shape, (3, 4))
    check_rank("conv2d", "weight", weight.shape, (4,))
    check_integer("conv2d", "groups", groups)
    stride, dilation = _pair("conv2d", "stride", stride), _pair("conv2d", "dilation", dilation)
    sides, behind = _padding("conv2d", padding, weight.shape[2:], stride, dilation)
    if behind != (0, 0):  # torch too puts the odd zero behind
        input = F.pad(input, (0, behind[1], 0, behind[0]))
    return cast(
        Tensor,
        torch.ops.sparsetrain.conv2d(
            input,
            weight,
            bias,
            stride,
            sides,
            dilation,
            groups,
            backend,
            check_finite,
            input_density,
            grad_density,
        ),
    )


def prune(grad: Tensor, threshold: Tensor | float, *, seed: int, offset: int = 0) -> Tensor:
    """Prunes stochastically: each element below the threshold becomes 0 or +-threshold, unbiased.

    An element g is kept with probability min(1, |g| / threshold) and then at least the threshold
    in magnitude, so the expectation of the result is g. NaN and Inf pass through; a threshold that
    is not finite or not positive changes nothing (but -0 becomes +0).

    Args:
        grad: any shape and strides; float32, float64, bfloat16 or float16.
        threshold: one number, rounded to grad's dtype.
        seed: Philox key, in [0, 2^63).
        offset: Philox counter of the first four elements, in [0, 2^63). The element at position i
            in memory uses counter offset + i // 4, so the mask depends on the memory format, and
            on neither the number of threads nor the backend.

    Returns:
        A tensor like grad.
    """
    check_tensor("prune", "grad", grad)
    for name, value in (("seed", seed), ("offset", offset)):
        check_integer("prune", name, value)
        if not 0 <= value < 2**63:
            raise ValueError(
                f"sparsetrain.prune: expected {name} to be an integer in [0, 2^63), got {value}"
            )
    if not isinstance(threshold, Tensor):
        if not isinstance(threshold, Real):
            raise TypeError(
                f"sparsetrain.prune: expected threshold to be a number, got {threshold!r}"
            )
        threshold = torch.tensor(threshold, dtype=torch.float64)
    rng = torch.tensor([seed, offset], device=grad.device)
    return cast(Tensor, torch.ops.sparsetrain.prune(grad, threshold, rng)[0])


def prune_step(grad: Tensor, state: Tensor, density: Tensor | None = None) -> Tensor:
    """Prunes with the threshold that state predicts, and updates state in place.

    Args:
        grad: as in `prune`.
        state: float64 [15 + history], the slots of csrc/kernels/state.h.
        density: from `density_slot`; on CUDA the result's density arrives there some time later.
    """
    return cast(Tensor, torch.ops.sparsetrain.prune_step(grad, state, density))


def prune_grad(input: Tensor, state: Tensor, density: Tensor | None = None) -> Tensor:
    """The identity; its backward is `prune_step`."""
    return cast(Tensor, torch.ops.sparsetrain.prune_grad(input, state, density))


def count_nonzeros(input: Tensor, state: Tensor, every: int, density: Tensor | None = None) -> None:
    """Counts nonzeros of input into state (float64 [calls, elements, nonzeros]) every n-th call.

    density: as for `prune_step`, of the calls that count.
    """
    torch.ops.sparsetrain.count_nonzeros(input, state, every, density)


def count_grad_nonzeros(
    input: Tensor, state: Tensor, every: int, density: Tensor | None = None
) -> Tensor:
    """The identity; its backward observes the gradient."""
    return cast(Tensor, torch.ops.sparsetrain.count_grad_nonzeros(input, state, every, density))


def density_slot(state: Tensor) -> Tensor | None:
    """Where the host reads what a device counted into `state`, without waiting for it.

    A float64 number of no dimension on the CPU, NaN at first, that the device stores into: for
    conv2d's densities, late by what the device still has to do. None where state is not on CUDA,
    or fake. Copies of it are plain numbers.
    """
    return _C.density_slot() if state.is_cuda and type(state) is Tensor else None

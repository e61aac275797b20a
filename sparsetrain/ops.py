"""The operators as Python functions, with torch's conventions for arguments."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn import functional as F
from torch.overrides import has_torch_function_variadic

from sparsetrain._checks import (
    IntPair,
    check_integer,
    check_name,
    check_padding,
    check_pair,
    check_rank,
    check_tensor,
)
from sparsetrain._native import _C

CPU_BACKENDS = ("auto", "sparse", "dense")
BACKENDS = (*CPU_BACKENDS, "cusparse")
ARCHITECTURE = r"[1-9][0-9]?\.[0-9]"  # of a GPU: its compute capability


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
    """torch's conv2d, skipping the zeros of its operands where that is faster.

    A skipped zero contributes 0, even where torch would compute 0 * Inf = NaN.

    Args:
        input: [N, C, H, W] or [C, H, W]; float32, float64, bfloat16 or float16; any strides.
        weight: [K, C/groups, R, S], of the dtype and on the device of `input`.
        bias: [K] or None.
        stride: At least 1: one integer, or (vertical, horizontal).
        padding: Zeros on each side: one integer or two, "valid", or "same" (needs stride 1).
        dilation: Distance between taps: one integer or two.
        groups: Divides C and K.
        backend: "auto" chooses for each pass, see `explain`. "sparse" and "dense" force a backend.
            "cusparse", on CUDA only, computes both gradients with cuSPARSE and the forward dense.
            It waits for the GPU once per backward, and runs dense while a CUDA graph is captured.
        check_finite: Whether a forward or backward with an Inf or a NaN among its operands runs
            dense, so that they meet zeros as in torch. This reads every operand once more. On CUDA,
            where it would mean waiting for the GPU, every call runs dense instead.
        input_density: Nonzeros / elements of `input`, if known, for "auto": a float64 number of no
            dimension on the CPU, which is read when a pass runs. If it is None or NaN, the CPU
            takes a sample, and CUDA, where that would mean waiting, calls the density unknown.
        grad_density: Nonzeros / elements of the gradient of the output, as `input_density`.

    Returns:
        [N, K, P, Q] or [K, P, Q], channels_last if `input` or `weight` is.

    Raises:
        ValueError: If sizes, devices or values do not describe a convolution.
        TypeError: If an argument has a wrong type, or tensors have different dtypes.
    """
    if isinstance(padding, str):
        _check_conv2d(input, weight, bias, stride, 0, dilation, groups, backend)
        step = check_pair("conv2d", "stride", stride)
        reach = check_pair("conv2d", "dilation", dilation)
        padding, odd = check_padding("conv2d", padding, weight.shape[2:], step, reach)
        if odd != (0, 0):  # as in torch, the odd zero comes after the image
            input = F.pad(input, (0, odd[1], 0, odd[0]))
    operator: Callable[..., Any] = _C.conv2d  # takes 5 us less than a call through torch.ops
    if is_compiling() or has_torch_function_variadic(input, weight, bias):
        _check_conv2d(input, weight, bias, stride, padding, dilation, groups, backend)
        stride = check_pair("conv2d", "stride", stride)
        padding = check_pair("conv2d", "padding", padding)
        dilation = check_pair("conv2d", "dilation", dilation)
        operator = torch.ops.sparsetrain.conv2d
    arguments = (
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        backend,
        check_finite,
        input_density,
        grad_density,
    )
    try:
        output: Tensor = operator(*arguments)
        return output
    except (TypeError, ValueError, RuntimeError):
        # The operator checks sizes and values. What it cannot take at all is worded here, after the
        # fact, so that calls which succeed do not pay for it.
        refusal = _refusal(*arguments)
        if refusal is None:
            raise
        raise refusal from None


def _check_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntPair,
    padding: IntPair,
    dilation: IntPair,
    groups: int,
    backend: str,
    check_finite: bool = False,
    input_density: Tensor | None = None,
    grad_density: Tensor | None = None,
) -> None:
    """Raises TypeError or ValueError for arguments of a type or rank that conv2d never takes."""
    check_name("conv2d", "backend", backend, BACKENDS)
    check_tensor("conv2d", "input", input)
    check_tensor("conv2d", "weight", weight)
    if bias is not None:
        check_tensor("conv2d", "bias", bias)
    check_rank("conv2d", "input", input.shape, (3, 4))
    check_rank("conv2d", "weight", weight.shape, (4,))
    check_integer("conv2d", "groups", groups)
    if isinstance(groups, int) and abs(groups) >= 2**63:
        raise ValueError(
            f"sparsetrain.conv2d: expected groups to be an integer below 2^63, got {groups}"
        )
    for name, value in (("stride", stride), ("padding", padding), ("dilation", dilation)):
        check_pair("conv2d", name, value)
    if not isinstance(check_finite, bool | int | None):
        raise TypeError(
            f"sparsetrain.conv2d: expected check_finite to be a bool, got {check_finite!r}"
        )
    for name, density in (("input_density", input_density), ("grad_density", grad_density)):
        if density is not None:
            check_tensor("conv2d", name, density)


def _refusal(*arguments: Any) -> Exception | None:
    """What _check_conv2d raises for these arguments."""
    try:
        _check_conv2d(*arguments)
    except (TypeError, ValueError) as error:
        return error
    return None


def prune(grad: Tensor, threshold: Tensor | float, *, seed: int, offset: int = 0) -> Tensor:
    """Prunes stochastically and unbiased: elements below the threshold become 0 or +-threshold.

    An element g keeps a nonzero value with probability min(1, |g| / threshold), with a magnitude of
    at least the threshold, so that the expectation of the result is g. NaN and Inf pass through. A
    threshold that is not finite or not positive changes nothing, except that -0 becomes +0.

    Args:
        grad: Any shape and strides; float32, float64, bfloat16 or float16.
        threshold: One number, which is rounded to grad's dtype.
        seed: Key of the Philox generator, in [0, 2^63).
        offset: Philox counter of the first four elements, in [0, 2^63). The element at position i
            in memory uses counter offset + i // 4. The mask therefore depends on the memory format,
            but neither on the number of threads nor on the device.

    Returns:
        A tensor like `grad`.

    Raises:
        ValueError: If seed or offset is out of range.
        TypeError: If an argument has a wrong type.
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
    """Prunes with the threshold that `state` predicts, and updates `state` in place.

    Args:
        grad: As in `prune`.
        state: float64 [15 + history], the slots of csrc/kernels/common/state_slots.h.
        density: A slot from `density_slot`. The density of the result is stored there: before the
            call returns on the CPU, some time later on CUDA. Other tensors are left unchanged.

    Returns:
        The pruned gradient, like `grad`.
    """
    return cast(Tensor, torch.ops.sparsetrain.prune_step(grad, state, density))


def prune_grad(input: Tensor, state: Tensor, density: Tensor | None = None) -> Tensor:
    """The identity; its backward is `prune_step`."""
    if is_compiling() or has_torch_function_variadic(input, state):
        return cast(Tensor, torch.ops.sparsetrain.prune_grad(input, state, density))
    return _C.prune_grad(input, state, density)  # takes less time than a call through torch.ops


def count_nonzeros(input: Tensor, state: Tensor, every: int, density: Tensor | None = None) -> None:
    """Counts the nonzeros of every n-th tensor, without waiting for a GPU.

    Args:
        input: Any shape, strides and dtype.
        state: float64 [calls, elements, nonzeros], updated in place.
        every: n. Other calls only count calls.
        density: A slot from `density_slot`. On CUDA the density of a counted tensor is stored there
            some time later. On the CPU it is left unchanged.
    """
    torch.ops.sparsetrain.count_nonzeros(input, state, every, density)


def count_grad_nonzeros(
    input: Tensor, state: Tensor, every: int, density: Tensor | None = None
) -> Tensor:
    """The identity; its backward is `count_nonzeros` of the gradient."""
    return cast(Tensor, torch.ops.sparsetrain.count_grad_nonzeros(input, state, every, density))


def density_slot(state: Tensor) -> Tensor | None:
    """Makes a place into which operators store the density of what they prune or count.

    The slot is a float64 number of no dimension on the CPU, NaN at first. conv2d takes it as a
    density and reads it when a pass runs, without waiting for a GPU. Copies of a slot are plain
    numbers.

    Args:
        state: The state of the pruner or counter that gets the slot. Its device decides which
            operators can store into the slot.

    Returns:
        The slot, or None for fake tensors and for devices other than the CPU and CUDA.
    """
    return _C.density_slot(state.device.type) if type(state) is Tensor else None

"""explain: which backend conv2d runs for each pass of a call, and why. For users and stats()."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import are_deterministic_algorithms_enabled as are_deterministic

from sparsetrain._checks import IntPair, check_name, check_padding, check_pair, check_rank
from sparsetrain._native import _C, PASSES
from sparsetrain.ops import ARCHITECTURE, BACKENDS, CPU_BACKENDS, conv2d


@dataclass(frozen=True)
class PassChoice:
    """The choice for one pass.

    Attributes:
        backend: "sparse", "dense" or "cusparse".
        reason: Why, in a few words.
        dense_ms: The predicted time of the dense convolution, of one thread or of a GPU.
        sparse_ms: The predicted time of the sparse kernels.
    """

    backend: str
    reason: str
    dense_ms: float
    sparse_ms: float


@dataclass(frozen=True)
class Explanation:
    """The choices for the three convolutions of one training step."""

    forward: PassChoice
    grad_input: PassChoice
    grad_weight: PassChoice

    def __str__(self) -> str:
        """Formats one line for each pass."""
        return "\n".join(
            f"{name:11} {c.backend:8} dense {c.dense_ms:9.3f} ms  sparse {c.sparse_ms:9.3f} ms"
            f"  ({c.reason})"
            for name, c in vars(self).items()
        )


def explain(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: IntPair = 1,
    padding: IntPair | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    dtype: torch.dtype = torch.float32,
    input_density: float = 1.0,
    grad_density: float = 1.0,
    backend: str = "auto",
    device: str = "cpu",
    architecture: str | None = None,
) -> Explanation:
    """Explains what `conv2d` runs for a call of these sizes and densities, and why.

    Args:
        input_shape: [N, C, H, W] or [C, H, W].
        weight_shape: [K, C/groups, R, S].
        stride: As in `conv2d`, like padding, dilation, groups and backend.
        padding: See stride.
        dilation: See stride.
        groups: See stride.
        dtype: Of the operands.
        input_density: Nonzeros / elements of the input. The forward skips its zeros.
        grad_density: Nonzeros / elements of the output's gradient. grad_input skips its zeros, and
            grad_weight those of the input or of the gradient, whichever saves more.
        backend: See stride.
        device: "cpu" or "cuda". On CUDA both gradients skip zeros of the output's gradient, and
            torch's present flags for TF32 and for deterministic algorithms matter. Backend
            "cusparse" needs "cuda".
        architecture: Compute capability of the GPU, such as "9.0"; by default that of the current
            GPU. If no costs of it are in force, predicted times are NaN and "auto" is dense.

    Returns:
        The choice for each pass. With backend "auto", a sparse kernel runs if its predicted time is
        less than 0.85 of the dense one, because predictions have errors.

    Raises:
        ValueError: If an argument is out of range, or sizes do not describe a convolution.
        TypeError: If `dtype` is no floating-point type that `conv2d` takes.
    """
    check_name("explain", "backend", backend, BACKENDS)
    check_name("explain", "device", device, ("cpu", "cuda"))
    if backend not in CPU_BACKENDS and device == "cpu":
        raise ValueError(
            f"sparsetrain.explain: expected device to be 'cuda' for backend {backend!r}, got 'cpu'"
        )
    for name, density in (("input_density", input_density), ("grad_density", grad_density)):
        if not 0 <= density <= 1:
            raise ValueError(f"sparsetrain.explain: expected {name} to be in [0, 1], got {density}")
    check_rank("explain", "input_shape", input_shape, (3, 4))
    check_rank("explain", "weight_shape", weight_shape, (4,))
    for name, shape in (("input_shape", input_shape), ("weight_shape", weight_shape)):
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(
                f"sparsetrain.explain: expected {name} to be integers of at least 0, "
                f"got {list(shape)}"
            )
    steps = check_pair("explain", "stride", stride)
    reach = check_pair("explain", "dilation", dilation)
    sides, odd = check_padding("explain", padding, weight_shape[2:], steps, reach)
    # Tensors without storage go through the operator's own checks.
    x = torch.empty(tuple(input_shape), dtype=dtype, device="meta")
    w = torch.empty(tuple(weight_shape), dtype=dtype, device="meta")
    conv2d(x, w, None, stride, padding, dilation, groups, backend=backend)
    n, c, height, width = input_shape if len(input_shape) == 4 else (1, *input_shape)
    k, _, r, s = weight_shape
    size = (n, c, height + odd[0], width + odd[1])
    conv_shape = _C.ConvShape(*size, k, r, s, *steps, *sides, *reach, groups)
    element = _C.DType.__members__[str(dtype).removeprefix("torch.")]
    asked = _C.Backend.__members__[backend]
    densities = (input_density, grad_density)
    gpu = _capability(architecture) if device == "cuda" else None

    def choice(pass_name: str) -> PassChoice:
        pass_ = _C.Pass.__members__[pass_name]
        if device == "cuda":
            precision, deterministic = _C.dense_precision(element), are_deterministic()
            chosen = _C.choose_on_cuda(
                conv_shape, pass_, *densities, asked, gpu, precision, deterministic
            )
        else:
            chosen = _C.choose(conv_shape, pass_, element, *densities, asked)
        return PassChoice(chosen.backend.name, chosen.reason, chosen.dense_ms, chosen.sparse_ms)

    return Explanation(*map(choice, PASSES))


def _capability(architecture: str | None) -> int | None:
    """10 * major + minor of a compute capability, by default the current GPU's; None if no GPU."""
    if architecture is None:
        if not torch.cuda.is_available():
            return None
        major, minor = torch.cuda.get_device_capability()
        return 10 * major + minor
    if not re.fullmatch(ARCHITECTURE, architecture):
        raise ValueError(
            f"sparsetrain.explain: expected architecture to be a compute capability such as '9.0', "
            f"got {architecture!r}"
        )
    return int(architecture.replace(".", ""))

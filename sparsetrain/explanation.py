"""explain: which backend `conv2d` would run for each pass of a call, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import are_deterministic_algorithms_enabled as are_deterministic

from sparsetrain._checks import check_name, check_rank
from sparsetrain._native import _C, PASSES
from sparsetrain.ops import ARCHITECTURE, BACKENDS, CPU_BACKENDS, IntPair, _padding, _pair, conv2d


@dataclass(frozen=True)
class PassChoice:
    """What runs one pass ("sparse", "dense" or "cusparse"), why, and both predicted times: of one
    thread, or of a GPU.
    """

    backend: str
    reason: str
    dense_ms: float
    sparse_ms: float


@dataclass(frozen=True)
class Explanation:
    """What runs each of the three convolutions of one training step."""

    forward: PassChoice
    grad_input: PassChoice
    grad_weight: PassChoice

    def __str__(self) -> str:
        """One line a pass."""
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
    """What `conv2d` would run for a call of these sizes and densities, and why.

    Args:
        input_shape: [N, C, H, W] or [C, H, W].
        weight_shape: [K, C/groups, R, S].
        stride, padding, dilation, groups, backend: as in `conv2d`.
        dtype: of the operands.
        input_density: nonzeros / elements of the input, which the forward skips by.
        grad_density: nonzeros / elements of the output's gradient, which grad_input skips by;
            grad_weight skips by whichever of both saves more.
        device: "cpu" or "cuda", where both gradients skip by grad_density. Torch's flags for TF32
            and for deterministic algorithms count, as they are now; "cuda" for "cusparse".
        architecture: compute capability of the GPU, "9.0" say; by default that of the current one.
            Where no costs of it are in force, predicted times are NaN and auto is dense.
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
    steps, reach = _pair("explain", "stride", stride), _pair("explain", "dilation", dilation)
    sides, behind = _padding("explain", padding, weight_shape[2:], steps, reach)
    # The operator's own checks, on tensors without storage.
    x = torch.empty(tuple(input_shape), dtype=dtype, device="meta")
    w = torch.empty(tuple(weight_shape), dtype=dtype, device="meta")
    conv2d(x, w, None, stride, padding, dilation, groups, backend=backend)
    n, c, height, width = input_shape if len(input_shape) == 4 else (1, *input_shape)
    k, _, r, s = weight_shape
    size = (n, c, height + behind[0], width + behind[1])
    geometry = _C.ConvShape(*size, k, r, s, *steps, *sides, *reach, groups)

    kind, wanted = (
        getattr(_C.DType, str(dtype).removeprefix("torch.")),
        getattr(_C.Backend, backend),
    )
    densities = (input_density, grad_density)
    gpu = _capability(architecture) if device == "cuda" else None

    def choice(name: str) -> PassChoice:
        direction = getattr(_C.Pass, name)
        if device == "cuda":
            precision, fixed = _C.dense_precision(kind), are_deterministic()
            chosen = _C.choose_on_cuda(
                geometry, direction, *densities, wanted, gpu, precision, fixed
            )
        else:
            chosen = _C.choose(geometry, direction, kind, *densities, wanted)
        return PassChoice(chosen.backend.name, chosen.reason, chosen.dense_ms, chosen.sparse_ms)

    return Explanation(*map(choice, PASSES))


def _capability(architecture: str | None) -> int | None:
    """10 * major + minor of a compute capability, of the current GPU's by default; None without."""
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

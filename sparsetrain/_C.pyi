# What csrc/torch/bindings.cpp offers.

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

IntPair = int | Sequence[int]  # of which conv2d takes pairs

accel: Any  # submodule of bindings_accel.cpp; typed by sparsetrain/accel/

class Pass:
    __members__: ClassVar[dict[str, Pass]]
    forward: Pass
    grad_input: Pass
    grad_weight: Pass

class Backend:
    name: str

class DType: ...

class ConvShape:
    def __init__(
        self,
        N: int,
        C: int,
        H: int,
        W: int,
        K: int,
        R: int,
        S: int,
        stride_h: int = 1,
        stride_w: int = 1,
        pad_h: int = 0,
        pad_w: int = 0,
        dilation_h: int = 1,
        dilation_w: int = 1,
        groups: int = 1,
    ) -> None: ...
    @property
    def P(self) -> int: ...
    @property
    def Q(self) -> int: ...

class Choice:
    backend: Backend
    skips_input_zeros: bool
    reason: str
    dense_ms: float
    sparse_ms: float

class Work:
    dense_macs: float
    dense_elements: float
    dense_calls: float
    vectors: float
    visits: float
    lists: float
    copies: float

def work(shape: ConvShape, direction: Pass, density: float) -> Work: ...
def choose(
    shape: ConvShape,
    direction: Pass,
    dtype: DType,
    input_density: float,
    grad_density: float,
    backend: Backend,
) -> Choice: ...
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntPair,
    padding: IntPair,
    dilation: IntPair,
    groups: int,
    backend: str,
    check_finite: bool,
    input_density: Tensor | None,
    grad_density: Tensor | None,
) -> Tensor: ...
def isa() -> str: ...
def costs() -> dict[str, dict[str, dict[str, float]]]: ...
def shipped_costs() -> dict[str, dict[str, dict[str, float]]]: ...
def set_costs(table: dict[str, dict[str, dict[str, float]]]) -> None: ...

# What csrc/torch/bindings_cuda.cpp offers.

class Precision:
    __members__: dict[str, Precision]
    name: str

class CudaWork:
    macs: float
    elements: float
    tiles: float
    loads: float
    nonzeros: float

CUDA_UNITS: tuple[str, ...]

def cuda_work(
    shape: ConvShape, direction: Pass, precision: Precision, density: float
) -> CudaWork: ...
def dense_precision(dtype: DType) -> Precision: ...
def choose_on_cuda(
    shape: ConvShape,
    direction: Pass,
    input_density: float,
    grad_density: float,
    backend: Backend,
    capability: int | None,
    precision: Precision,
    deterministic: bool,
) -> Choice: ...
def cuda_costs() -> dict[int, dict[str, dict[str, dict[str, float]]]]: ...
def set_cuda_costs(table: dict[int, dict[str, dict[str, dict[str, float]]]]) -> None: ...
def density_slot() -> Tensor | None: ...

# Types of the compiled module: csrc/torch/bindings/module.cpp and choice.cpp. `make lint`
# compares this file with the module (mypy.stubtest).

from collections.abc import Sequence
from typing import Any, ClassVar, Never, Self, type_check_only

from torch import Tensor

accel: Any  # the submodule of csrc/torch/bindings/accel.cpp, typed in sparsetrain/accel/core.pyi

@type_check_only
class _Pybind11Type(type): ...

# Base of the classes that only C++ constructs.
@type_check_only
class _Result(metaclass=_Pybind11Type):
    def __init__(self, *args: Never, **kwargs: Never) -> None: ...

@type_check_only
class _Enum(metaclass=_Pybind11Type):
    __members__: ClassVar[dict[str, Self]]
    def __init__(self, value: int) -> None: ...
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class Pass(_Enum):
    forward: ClassVar[Pass]
    grad_input: ClassVar[Pass]
    grad_weight: ClassVar[Pass]

class Backend(_Enum):
    auto: ClassVar[Backend]
    sparse: ClassVar[Backend]
    dense: ClassVar[Backend]
    cusparse: ClassVar[Backend]

class DType(_Enum):
    float64: ClassVar[DType]
    float32: ClassVar[DType]
    bfloat16: ClassVar[DType]
    float16: ClassVar[DType]

class ConvShape(metaclass=_Pybind11Type):
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

class Choice(_Result):
    @property
    def backend(self) -> Backend: ...
    @property
    def skips_input_zeros(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def dense_ms(self) -> float: ...
    @property
    def sparse_ms(self) -> float: ...

class Work(_Result):
    @property
    def dense_macs(self) -> float: ...
    @property
    def dense_elements(self) -> float: ...
    @property
    def dense_calls(self) -> float: ...
    @property
    def vectors(self) -> float: ...
    @property
    def visits(self) -> float: ...
    @property
    def lists(self) -> float: ...
    @property
    def copies(self) -> float: ...

def work(shape: ConvShape, pass_: Pass, density: float, /) -> Work: ...
def choose(
    shape: ConvShape,
    pass_: Pass,
    dtype: DType,
    input_density: float,
    grad_density: float,
    backend: Backend,
    /,
) -> Choice: ...
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],  # of two; an int raises TypeError, as another wrong type does
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
    backend: str,
    check_finite: bool,
    input_density: Tensor | None,
    grad_density: Tensor | None,
    /,
) -> Tensor: ...
def prune_grad(input: Tensor, state: Tensor, density: Tensor | None, /) -> Tensor: ...
def isa() -> str: ...
def best_isa() -> str: ...
def set_isa(name: str) -> None: ...
def costs() -> dict[str, dict[str, dict[str, float]]]: ...
def shipped_costs() -> dict[str, dict[str, dict[str, float]]]: ...
def set_costs(table: dict[str, dict[str, dict[str, float]]], /) -> None: ...

class Precision(_Enum):
    fp64: ClassVar[Precision]
    fp32: ClassVar[Precision]
    tf32: ClassVar[Precision]
    bf16: ClassVar[Precision]
    fp16: ClassVar[Precision]

class CudaWork(_Result):
    @property
    def macs(self) -> float: ...
    @property
    def elements(self) -> float: ...
    @property
    def tiles(self) -> float: ...
    @property
    def loads(self) -> float: ...
    @property
    def nonzeros(self) -> float: ...

CUDA_UNITS: tuple[str, ...]

def cuda_work(
    shape: ConvShape, pass_: Pass, precision: Precision, density: float, /
) -> CudaWork: ...
def dense_precision(dtype: DType, /) -> Precision: ...
def choose_on_cuda(
    shape: ConvShape,
    pass_: Pass,
    input_density: float,
    grad_density: float,
    backend: Backend,
    capability: int | None,
    precision: Precision,
    deterministic: bool,
    /,
) -> Choice: ...
def cuda_costs() -> dict[int, dict[str, dict[str, dict[str, float]]]]: ...
def set_cuda_costs(table: dict[int, dict[str, dict[str, dict[str, float]]]], /) -> None: ...
def density_slot(device_type: str) -> Tensor | None: ...

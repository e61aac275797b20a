# Types of core.py: csrc/torch/bindings/accel.cpp and accel_program.cpp. Every value is immutable.
# `make lint` compares this file with the compiled module (mypy.stubtest).

from typing import Any, Never, type_check_only

import numpy as np
from numpy.typing import NDArray

from sparsetrain._C import ConvShape as ConvShape

@type_check_only
class _Pybind11Type(type): ...

# Base of the classes that only C++ constructs.
@type_check_only
class _Result(metaclass=_Pybind11Type):
    def __init__(self, *args: Never, **kwargs: Never) -> None: ...

class Config(metaclass=_Pybind11Type):
    """The numbers of a chip: an immutable value.

    Numbers that are not given are those of `sparsetrain168`. In brackets: the default and its
    source, which is the SparseTrain paper or our assumption; csrc/accel/config.h has the details.

    Attributes:
        name: Name of the chip ("custom").
        pe_groups: Groups of PEs (56, assumed).
        pes_per_group: PEs of a group (3, assumed; 168 PEs are the paper's, recalled).
        clock_mhz: Clock in MHz, which converts cycles to time (800, assumed).
        buffer_bytes: Capacity of the global buffer in bytes (395264, the paper's 386 KB, recalled).
        port_bytes_per_cycle: Bytes that a group reads from the buffer in a cycle (8, assumed).
        dram_bytes_per_cycle: Bytes of DRAM traffic of the chip in a cycle (16, assumed: LPDDR4).
        value_bits: Bits of a value (16, the paper's).
        offset_bits: Bits of a nonzero's column offset in a compressed row (8, assumed).
        row_header_bits: Bits of the header of a stored row segment (16, assumed).
        register_values: Values of an output row that a PE accumulates (256, assumed).
        row_start_cycles: Cycles to set up a row operation (1, assumed).
        ppu_values_per_cycle: Output values that a group's PPU writes in a cycle (1, assumed).
        skips_zeros: False for a dense twin, which computes every product (True).
        pes: PEs of the chip, pe_groups * pes_per_group.

    Raises:
        TypeError: An unknown number.
        ValueError: A number outside its range.
    """

    @property
    def name(self) -> str: ...
    @property
    def pe_groups(self) -> int: ...
    @property
    def pes_per_group(self) -> int: ...
    @property
    def clock_mhz(self) -> int: ...
    @property
    def buffer_bytes(self) -> int: ...
    @property
    def port_bytes_per_cycle(self) -> int: ...
    @property
    def dram_bytes_per_cycle(self) -> int: ...
    @property
    def value_bits(self) -> int: ...
    @property
    def offset_bits(self) -> int: ...
    @property
    def row_header_bits(self) -> int: ...
    @property
    def register_values(self) -> int: ...
    @property
    def row_start_cycles(self) -> int: ...
    @property
    def ppu_values_per_cycle(self) -> int: ...
    @property
    def skips_zeros(self) -> bool: ...
    @property
    def pes(self) -> int: ...
    def __init__(self, **numbers: Any) -> None: ...
    def replace(self, **changes: Any) -> Config: ...
    def as_dict(self) -> dict[str, Any]: ...

class Prices(metaclass=_Pybind11Type):
    """Energies of one multiplication and of accesses to one 16-bit word: an immutable value.

    The unit is pJ, or any other unit that all five share. csrc/accel/report.cpp has the sources of
    the tables that ship.

    Attributes:
        name: Name of the table.
        mac_pj: pJ of a 16-bit multiplication with addition.
        register_pj: pJ of a PE register access.
        buffer_read_pj: pJ to read a word of the global buffer.
        buffer_write_pj: pJ to write a word of the global buffer.
        dram_pj: pJ to read or write a word of DRAM.

    Raises:
        ValueError: A price is negative or not finite.
    """

    @property
    def name(self) -> str: ...
    @property
    def mac_pj(self) -> float: ...
    @property
    def register_pj(self) -> float: ...
    @property
    def buffer_read_pj(self) -> float: ...
    @property
    def buffer_write_pj(self) -> float: ...
    @property
    def dram_pj(self) -> float: ...
    def __init__(
        self,
        *,
        name: str = "custom",
        mac_pj: float,
        register_pj: float,
        buffer_read_pj: float,
        buffer_write_pj: float,
        dram_pj: float,
    ) -> None: ...

class Energy(_Result):
    """Energy by part, in the unit of the prices.

    Attributes:
        mac_pj: Of multiplications, mac_pj * macs.
        register_pj: Of PE registers, register_pj * (4 * macs + streamed_elements).
        buffer_pj: Of reads and writes of the global buffer.
        dram_pj: Of reads and writes of DRAM.
        chip_pj: The sum without DRAM.
        total_pj: The sum with DRAM.
    """

    @property
    def mac_pj(self) -> float: ...
    @property
    def register_pj(self) -> float: ...
    @property
    def buffer_pj(self) -> float: ...
    @property
    def dram_pj(self) -> float: ...
    @property
    def chip_pj(self) -> float: ...
    @property
    def total_pj(self) -> float: ...

class Counts(metaclass=_Pybind11Type):
    """The cost of a pass of a layer, or of a sum of passes, for the whole batch.

    All counts are 0 for a pass that does not run.

    Attributes:
        cycles: Cycles from the start of the pass to its end.
        busy_cycles: Cycles of work, summed over PEs: macs + row_start_cycles * row_ops.
        drain_cycles: Cycles in which PPUs write outputs, summed over groups.
        tasks: Number of tasks.
        row_ops: Number of row operations.
        macs: Number of multiplications that are executed.
        streamed_elements: Values of x, dy and weights that are written to PE registers.
        port_bytes: Bytes read from the buffer: operands, masks, partial sums of dw.
        output_bytes: Bytes that PPUs write to the buffer.
        dram_read_bytes: Bytes read from DRAM.
        dram_write_bytes: Bytes written to DRAM.
    """

    @property
    def cycles(self) -> int: ...
    @property
    def busy_cycles(self) -> int: ...
    @property
    def drain_cycles(self) -> int: ...
    @property
    def tasks(self) -> int: ...
    @property
    def row_ops(self) -> int: ...
    @property
    def macs(self) -> int: ...
    @property
    def streamed_elements(self) -> int: ...
    @property
    def port_bytes(self) -> int: ...
    @property
    def output_bytes(self) -> int: ...
    @property
    def dram_read_bytes(self) -> int: ...
    @property
    def dram_write_bytes(self) -> int: ...
    def __init__(self) -> None: ...
    def __add__(self, other: Counts) -> Counts: ...

class Maps(metaclass=_Pybind11Type):
    """Counts of a layer's nonzeros by pixel and by channel, for the closed form.

    Args:
        images: Number of images.
        x_map: [images*H*W], the number of channels of x that are nonzero at a pixel.
        dy_map: [images*P*Q], likewise of dy.
        x_channel_nnz: [C], nonzeros of a channel of x, over images and pixels.
        dy_channel_nnz: [K], likewise of dy.
        x_row_nnz_var: Mean over rows of the variance over channels of a row's nonzeros of x.
        dy_row_nnz_var: Likewise of dy.
        window_var: Mean over rows and output columns of the variance over channels of the nonzeros
            of x in a kernel window.
    """

    def __init__(
        self,
        *,
        images: int,
        x_map: NDArray[np.int32],
        dy_map: NDArray[np.int32],
        x_channel_nnz: NDArray[np.int64],
        dy_channel_nnz: NDArray[np.int64],
        x_row_nnz_var: float,
        dy_row_nnz_var: float,
        window_var: float,
    ) -> None: ...

class Bitmap(metaclass=_Pybind11Type):
    """One bit for each element of a tensor [images, channels, height, width], set if nonzero.

    Args:
        array: Words of 1, 2, 4 or 8 bytes, of any strides.
        is_float: True ignores the sign bit, so that -0.0 is zero.
        images: The number of images to keep; all by default.
    """

    @property
    def images(self) -> int: ...
    @property
    def nonzeros(self) -> int: ...
    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    def __init__(self, array: NDArray[Any], is_float: bool = False, images: int = ...) -> None: ...

class Trace(metaclass=_Pybind11Type):
    """The nonzeros of a layer's operands, for the simulator. Without a mask it is x != 0."""

    @property
    def x(self) -> Bitmap: ...
    @property
    def dy(self) -> Bitmap: ...
    @property
    def mask(self) -> Bitmap | None: ...
    def __init__(self, x: Bitmap, dy: Bitmap, mask: Bitmap | None = None) -> None: ...
    def maps(self, shape: ConvShape, /) -> Maps: ...

class CoreLayer(metaclass=_Pybind11Type):
    """The C++ form of `sparsetrain.accel.Layer`, which has its fields."""

    def __init__(
        self,
        *,
        name: str,
        shape: ConvShape,
        needs_grad_input: bool,
        needs_grad_weight: bool,
        x_density: float,
        dy_density: float,
        mask_density: float,
        y_density: float,
        dx_density: float,
        maps: Maps | None = None,
        trace: Trace | None = None,
    ) -> None: ...

class CoreWorkload(metaclass=_Pybind11Type):
    """The C++ form of `sparsetrain.accel.Workload`; checks its layers."""

    def __init__(self, layers: list[CoreLayer]) -> None: ...

class Block(_Result):
    """One pair (tile, slab) of a pass; csrc/accel/program.h describes the fields."""

    @property
    def layer(self) -> int: ...
    @property
    def pass_name(self) -> str: ...
    @property
    def k0(self) -> int: ...
    @property
    def k1(self) -> int: ...
    @property
    def c0(self) -> int: ...
    @property
    def c1(self) -> int: ...
    @property
    def row0(self) -> int: ...
    @property
    def row1(self) -> int: ...
    @property
    def load_bytes(self) -> int: ...
    @property
    def store_bytes(self) -> int: ...
    @property
    def reads_partial(self) -> bool: ...

class Program(_Result):
    """A workload compiled for a chip: the blocks of all passes, in the order of execution."""

    @property
    def blocks(self) -> list[Block]: ...

def compile_program(workload: CoreWorkload, chip: Config) -> Program: ...
def dispatch(tasks: list[tuple[int, int]], groups: int, /) -> int: ...
def draw(layer: CoreLayer, seed: int, /) -> Trace: ...
def group_cycles(ops: list[tuple[int, int, int]], pes: int, port: int, /) -> int: ...
def simulate(
    program: Program, workload: CoreWorkload, chip: Config, threads: int, seed: int
) -> list[tuple[Counts, Counts, Counts]]: ...
def dense_twin(chip: Config) -> Config: ...
def model(workload: CoreWorkload, chip: Config) -> list[tuple[Counts, Counts, Counts]]: ...
def named_chips() -> list[Config]: ...
def named_prices() -> list[Prices]: ...
def nonzero_maps(
    array: NDArray[Any], is_float: bool, /
) -> tuple[NDArray[np.int32], NDArray[np.int64], float]: ...
def price(counts: Counts, prices: Prices) -> Energy: ...
def window_variance(x: Bitmap, shape: ConvShape) -> float: ...
def print_program(
    program: Program, workload: CoreWorkload, chip: Config, detail: int, most: int
) -> str: ...

# What csrc/torch/bindings_accel.cpp offers. Every value is immutable.
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsetrain._C import ConvShape as ConvShape

class Config:
    """The numbers of a chip; every one has its unit in its name (csrc/accel/config.h: sources)."""

    name: str
    pe_groups: int
    pes_per_group: int
    clock_mhz: int
    buffer_bytes: int
    port_bytes_per_cycle: int
    dram_bytes_per_cycle: int
    value_bits: int
    offset_bits: int
    row_header_bits: int
    register_values: int
    row_start_cycles: int
    ppu_values_per_cycle: int
    skips_zeros: bool
    @property
    def pes(self) -> int: ...
    def __init__(self, **numbers: Any) -> None: ...
    def replace(self, **changes: Any) -> Config: ...
    def as_dict(self) -> dict[str, Any]: ...

class Prices:
    name: str
    mac_pj: float
    register_pj: float
    buffer_read_pj: float
    buffer_write_pj: float
    dram_pj: float
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

class Energy:
    mac_pj: float
    register_pj: float
    buffer_pj: float
    dram_pj: float
    @property
    def chip_pj(self) -> float: ...
    @property
    def total_pj(self) -> float: ...

class Counts:
    cycles: int
    busy_cycles: int
    drain_cycles: int
    tasks: int
    row_ops: int
    macs: int
    streamed_elements: int
    port_bytes: int
    output_bytes: int
    dram_read_bytes: int
    dram_write_bytes: int
    def __init__(self) -> None: ...
    def __add__(self, other: Counts) -> Counts: ...

class Maps:
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

class Bitmap:
    """One bit an element of [images, channels, height, width]; set where it is not zero."""

    images: int
    nonzeros: int
    shape: tuple[int, int, int, int]
    def __init__(self, array: NDArray[Any], is_float: bool = False, images: int = ...) -> None: ...

class Trace:
    x: Bitmap
    dy: Bitmap
    mask: Bitmap | None
    def __init__(self, x: Bitmap, dy: Bitmap, mask: Bitmap | None = None) -> None: ...
    def maps(self, shape: ConvShape) -> Maps: ...

class CoreLayer:
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

class CoreWorkload:
    def __init__(self, layers: list[CoreLayer]) -> None: ...

class Block:
    layer: int
    stage: int
    k0: int
    k1: int
    c0: int
    c1: int
    row0: int
    row1: int
    load_bytes: int
    store_bytes: int
    reads_partial: bool

class Program:
    blocks: list[Block]

def compile_program(workload: CoreWorkload, chip: Config) -> Program: ...
def dispatch(tasks: list[tuple[int, int]], groups: int) -> int: ...
def draw(layer: CoreLayer, seed: int) -> Trace: ...
def group_cycles(ops: list[tuple[int, int, int]], pes: int, port: int) -> int: ...
def simulate(
    program: Program, workload: CoreWorkload, chip: Config, threads: int, seed: int
) -> list[tuple[Counts, Counts, Counts]]: ...
def dense_twin(chip: Config) -> Config: ...
def model(workload: CoreWorkload, chip: Config) -> list[tuple[Counts, Counts, Counts]]: ...
def named_chips() -> list[Config]: ...
def named_prices() -> list[Prices]: ...
def nonzero_maps(
    array: NDArray[Any], is_float: bool
) -> tuple[NDArray[np.int32], NDArray[np.int64], float]: ...
def price(counts: Counts, prices: Prices) -> Energy: ...
def window_variance(x: Bitmap, shape: ConvShape) -> float: ...
def print_program(
    program: Program, workload: CoreWorkload, chip: Config, detail: int, most: int
) -> str: ...

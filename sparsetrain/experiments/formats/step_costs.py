"""Models of what `sparsetrain estimate`, `explore` and `tune` write, and of the files they read."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, RootModel, model_validator

from sparsetrain.experiments.formats.fields import (
    Bytes,
    Count,
    Cycles,
    Density,
    Images,
    Milliseconds,
    Nanoseconds,
    PassName,
    Picojoules,
    Positive,
    Ratio,
    Record,
    Share,
    Unit,
    annotation_of,
    optional_fields,
)

Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16"]


class Chip(Record):
    """The numbers of a chip: `sparsetrain.accel.Config`, which describes them in more detail."""

    name: str
    """Name of the chip."""
    pe_groups: Positive
    """Groups of PEs. Each has a port to the buffer."""
    pes_per_group: Positive
    """PEs in a group."""
    clock_mhz: Annotated[Positive, Unit("MHz")]
    """Clock."""
    buffer_bytes: Bytes
    """Capacity of the global buffer."""
    port_bytes_per_cycle: Annotated[Positive, Unit("bytes / cycle")]
    """Bandwidth of the port of one group."""
    dram_bytes_per_cycle: Annotated[Positive, Unit("bytes / cycle")]
    """Bandwidth of the chip's DRAM."""
    value_bits: Annotated[Positive, Unit("bits")]
    """Size of a value."""
    offset_bits: Annotated[Count, Unit("bits")]
    """Size of the column offset of a nonzero in a compressed row."""
    row_header_bits: Annotated[Count, Unit("bits")]
    """Size of the header of a compressed row."""
    register_values: Annotated[Positive, Unit("values")]
    """Values of an output row that a PE accumulates. Longer rows are divided."""
    row_start_cycles: Cycles
    """Cycles to set up a row operation."""
    ppu_values_per_cycle: Annotated[Positive, Unit("values / cycle")]
    """Output values that the PPU of a group writes."""
    skips_zeros: bool
    """False for a dense twin, which computes every product."""


class StepOptions(Record):
    """The options that `estimate` and `explore` share."""

    model: str
    """Name of the network, or `module:function` that returns it."""
    dataset: Literal["cifar10", "cifar100", "fashion-mnist", "imagenet"]
    """Data set whose shape of images is used."""
    input_shape: str | None
    """`channels,height,width` of the images, if given instead of those of a data set."""
    batch_size: Images
    """Images in the step."""
    input_density: Density | str | None
    """Density of x of all layers except the first, or a file of densities; null means 0.45."""
    grad_density: Density | str
    """Density of dy after pruning, or a file of densities."""
    linear: bool
    """True if linear layers are counted, as 1 x 1 convolutions."""
    chip: Chip
    """The chip. For `explore` the one whose numbers are varied."""
    prices: str
    """Price table of the energies."""


class EstimateConfig(StepOptions):
    """The options of `estimate`."""

    simulated: bool
    """True if every row operation was simulated, false for the closed form."""


class LayerCost(Record):
    """The cost of one pass of a layer, for the whole batch.

    With the price table `eyeriss_ratios` energies are in multiplications instead of pJ.
    """

    name: str
    """Name of the layer. The second call of a weight in a step is `name#2`."""
    pass_: PassName = Field(alias="pass")
    """The convolution."""
    macs: Count
    """Multiplications that the chip does."""
    dense_macs: Count
    """Multiplications that the dense twin does: all that do not meet padding."""
    cycles: Cycles
    """Cycles on the chip."""
    dense_cycles: Cycles
    """Cycles on the dense twin."""
    utilization: Share
    """Share of the PEs' cycles in which they multiply."""
    bound: Literal["multiplier", "port", "DRAM", "drain"]
    """The part of the chip that would need the most cycles if nothing else limited it."""
    energy_pj: Picojoules
    """Energy of the pass with DRAM: the sum of the four parts below."""
    dense_energy_pj: Picojoules
    """Energy of the pass on the dense twin, with DRAM."""
    mac_pj: Picojoules
    """Energy of the multiplications."""
    register_pj: Picojoules
    """Energy of the PEs' registers."""
    buffer_pj: Picojoules
    """Energy of the global buffer."""
    dram_pj: Picojoules
    """Energy of DRAM."""
    port_bytes: Bytes
    """Bytes read from the buffer: operands, masks and partial sums of dw."""
    dram_bytes: Bytes
    """Bytes read from DRAM and written to it."""


class StepTotal(Record):
    """The cost of the whole step. Its passes run one after the other."""

    macs: Count
    """Multiplications that the chip does."""
    dense_macs: Count
    """Multiplications that the dense twin does."""
    cycles: Cycles
    """Cycles on the chip."""
    dense_cycles: Cycles
    """Cycles on the dense twin."""
    time_ms: Milliseconds
    """`cycles` at the clock of the chip."""
    dense_time_ms: Milliseconds
    """`dense_cycles` at the clock of the chip."""
    speedup: Ratio
    """`dense_cycles` / `cycles`."""
    energy_pj: Picojoules
    """Energy of the chip, with DRAM."""
    dense_energy_pj: Picojoules
    """Energy of the dense twin, with DRAM."""
    energy_gain: Ratio
    """Energy of the dense twin / energy of the chip, with DRAM."""
    energy_gain_chip: Ratio
    """Energy of the dense twin / energy of the chip, without DRAM."""


class EnergyGain(Record):
    """The energy gain of the step under one price table."""

    prices: str
    """Name of the price table."""
    energy_gain_chip: Ratio
    """Energy of the dense twin / energy of the chip, without DRAM."""
    energy_gain: Ratio
    """Energy of the dense twin / energy of the chip, with DRAM."""


class Estimate(Record):
    """The cost of a training step on a chip and on its dense twin."""

    config: EstimateConfig
    """The options, in the order of the command line."""
    layers: list[LayerCost]
    """The passes that run, layer by layer in forward order."""
    total: StepTotal
    """The whole step."""
    gains: list[EnergyGain]
    """The energy gain under every price table that ships, whatever `prices` is."""


class ExploreConfig(StepOptions):
    """The options of `explore`."""

    vary: dict[str, list[int]]
    """The values of each varied number of the chip."""


class GridPoint(Record):
    """A chip of the grid. The names of the varied numbers are additional fields: integers."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int] = Field(init=False)

    cycles: Cycles
    """Cycles of the step."""
    energy_pj: Picojoules
    """Energy of the step, with DRAM."""
    speedup: Ratio
    """Cycles of this chip's own dense twin / `cycles`."""
    area_proxy_kb: Annotated[Ratio, Unit("1024 bytes of SRAM")]
    """Estimate of the area of buffer, PEs, ports and DRAM interface, only to rank chips by."""
    pareto: bool
    """True if no other chip of the grid is better in cycles or energy and as good in the other."""

    @model_validator(mode="after")
    def _names_numbers_of_a_chip(self) -> Self:
        unknown = set(self.__pydantic_extra__) - set(Chip.model_fields)
        if unknown:
            raise ValueError(f"expected numbers of a chip, got {', '.join(sorted(unknown))}")
        return self


class Exploration(Record):
    """The costs of a training step on a grid of chips."""

    config: ExploreConfig
    """The options, in the order of the command line."""
    points: list[GridPoint]
    """One object for each combination of the values. The last number varies fastest."""


class LayerDensities(RootModel[dict[str, Density]]):
    """An object with the density of each layer by the name of the layer."""


@optional_fields(
    {
        name: (annotation_of(info), info.description or "")
        for name, info in Chip.model_fields.items()
        if name != "name"
    }
)
class ChipChanges(Record):
    """A chip of the user: the numbers that differ from those of `base`."""

    base: str = "sparsetrain168"
    """Name of a chip that ships."""


class PriceTable(Record):
    """Energies of accesses to one 16-bit word, and of one multiplication."""

    mac_pj: Picojoules
    """A multiplication with its addition."""
    register_pj: Picojoules
    """An access to a PE's registers."""
    buffer_read_pj: Picojoules
    """A read from the global buffer."""
    buffer_write_pj: Picojoules
    """A write to the global buffer."""
    dram_pj: Picojoules
    """A read from DRAM or a write to it."""


class ChipFile(Record):
    """Chips and price tables of a user, in TOML."""

    chips: dict[str, ChipChanges] = Field(default_factory=dict)
    """The chips by name: tables `[chips.NAME]`."""
    prices: dict[str, PriceTable] = Field(default_factory=dict)
    """The price tables by name: tables `[prices.NAME]`."""


class CpuCosts(Record):
    """Costs of one pass on the CPU, in one thread."""

    copy_ns: Nanoseconds
    """An element of a dense operand, copied."""
    dense_call_ns: Nanoseconds
    """A call of the dense convolution, independent of its size."""
    dense_element_ns: Nanoseconds
    """An element of the three tensors of the dense convolution."""
    dense_mac_ns: Nanoseconds
    """A multiply-add of the dense convolution."""
    list_ns: Nanoseconds
    """An element of the sparse operand, compressed."""
    vector_ns: Nanoseconds
    """A vector multiply-add with a nonzero."""
    visit_ns: Nanoseconds
    """A walk along one list of nonzeros."""


class GpuCosts(Record):
    """Costs of one pass on a GPU."""

    call_ns: Nanoseconds
    """A sparse pass, independent of its size."""
    dense_call_ns: Nanoseconds
    """A dense pass, independent of its size."""
    dense_element_ns: Nanoseconds
    """An element of the three tensors, in the dense pass."""
    dense_mac_ns: Nanoseconds
    """A multiply-add of the dense convolution."""
    element_ns: Nanoseconds
    """An element of the three tensors, in the sparse pass."""
    load_ns: Nanoseconds
    """A dense row, loaded for eight rows of which at least one has a nonzero."""
    nonzero_ns: Nanoseconds
    """A dense row multiplied with one nonzero."""
    tile_ns: Nanoseconds
    """A tile of 64 rows and a depth of 32, staged independent of its zeros."""


class CostTable(Record):
    """What `sparsetrain.set_costs` accepts."""

    isa: str
    """Instruction set of the costs."""
    float32: dict[PassName, CpuCosts]
    """Costs of the CPU by pass."""
    bfloat16: dict[PassName, CpuCosts]
    """Costs of the CPU by pass."""
    float16: dict[PassName, CpuCosts]
    """Costs of the CPU by pass."""
    cuda: dict[str, dict[Precision, dict[PassName, GpuCosts]]] = Field(default_factory=dict)
    """Costs of GPUs by compute capability (`9.0`), precision (`fp32`: TF32 off) and pass."""


class CostFile(Record):
    """Measured costs."""

    torch: str
    """Version of PyTorch whose dense convolutions were timed."""
    costs: CostTable
    """The table of costs."""

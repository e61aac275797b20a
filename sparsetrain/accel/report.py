"""Reports of the cost model: counts per layer and pass, priced after the fact."""

import os
from dataclasses import dataclass
from functools import cached_property

from sparsetrain._native import PASSES
from sparsetrain.accel.chips import DEFAULT_PRICES, PRICES, prices, sparsetrain168
from sparsetrain.accel.core import (
    Config,
    Counts,
    Energy,
    Prices,
    Program,
    compile_program,
    dense_twin,
    model,
    price,
    print_program,
)
from sparsetrain.accel.core import simulate as _simulate
from sparsetrain.accel.layers import Layer, Workload


@dataclass(frozen=True)
class LayerReport:
    """Counts of one layer, whole batch: cycles, macs, bytes; all zero for a pass not run."""

    layer: Layer
    forward: Counts
    grad_input: Counts
    grad_weight: Counts

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def passes(self) -> tuple[tuple[str, Counts], ...]:
        """Pairs (pass name, counts) in the order of PASSES."""
        return tuple((name, getattr(self, name)) for name in PASSES)

    @property
    def total(self) -> Counts:
        """The three passes added up."""
        return self.forward + self.grad_input + self.grad_weight


@dataclass(frozen=True)
class Report:
    """What a step costs on one chip."""

    chip: Config
    layers: tuple[LayerReport, ...]

    @cached_property
    def total(self) -> Counts:
        """All layers and passes added up; passes run one after the other, so cycles add."""
        return sum((layer.total for layer in self.layers), Counts())

    @property
    def cycles(self) -> int:
        """Cycles of the whole step."""
        return self.total.cycles

    @property
    def macs(self) -> int:
        """Multiplications done (the dense twin's: all that touch the image)."""
        return self.total.macs

    @property
    def time_ms(self) -> float:
        """Milliseconds of the step at the chip's clock."""
        return self.cycles / (self.chip.clock_mhz * 1e3)

    def energy(self, table: str | Prices = DEFAULT_PRICES) -> Energy:
        """Energy by part: mac_pj, register_pj, buffer_pj, dram_pj, chip_pj, total_pj."""
        return price(self.total, prices(table))

    def energy_pj(self, prices: str | Prices = DEFAULT_PRICES) -> float:
        """Energy of the step with DRAM, in the table's unit (pJ, or MACs for eyeriss_ratios)."""
        return self.energy(prices).total_pj


def _report(
    workload: Workload, chip: Config, counts: list[tuple[Counts, Counts, Counts]]
) -> Report:
    layers = zip(workload.layers, counts, strict=True)
    return Report(chip, tuple(LayerReport(layer, *passes) for layer, passes in layers))


def estimate(workload: Workload, chip: Config = sparsetrain168) -> Report:
    """The closed form: what `workload` costs on `chip`.

    Multiplications are exact where the workload has maps; cycles are estimates (docs/accelerator.md
    has their measured error against the simulator).
    """
    return _report(workload, chip, model(workload.core, chip))


def simulate(
    workload: Workload,
    chip: Config = sparsetrain168,
    *,
    program: Program | None = None,
    threads: int | None = None,
    seed: int = 0,
) -> Report:
    """What `workload` costs on `chip`, row operation by row operation.

    Exact for the images of the recorded traces (image n of a larger batch is image n modulo their
    number again); a layer without a trace gets zeros drawn at its densities from `seed`. `program`
    defaults to the one compiled from this very workload; `threads` to all cores, which never
    changes the report.
    """
    program = compile_program(workload.core, chip) if program is None else program
    threads = os.cpu_count() or 1 if threads is None else threads
    return _report(workload, chip, _simulate(program, workload.core, chip, threads, seed))


@dataclass(frozen=True)
class Comparison:
    """One step on a chip and on its dense twin."""

    report: Report
    dense: Report

    @property
    def speedup(self) -> float:
        """Cycles of the twin over cycles of the chip."""
        return self.dense.cycles / self.report.cycles

    def energy_gain(self, table: str | Prices = DEFAULT_PRICES) -> float:
        """Energy of the twin over energy of the chip, with DRAM."""
        return self.dense.energy_pj(table) / self.report.energy_pj(table)

    def energy_gain_chip(self, table: str | Prices = DEFAULT_PRICES) -> float:
        """The same without DRAM."""
        return self.dense.energy(table).chip_pj / self.report.energy(table).chip_pj

    def __str__(self) -> str:
        lines = [
            f"{self.report.chip.name}: {self.report.cycles:,} cycles, {self.report.macs:,} MACs",
            f"{self.dense.chip.name}: {self.dense.cycles:,} cycles, {self.dense.macs:,} MACs",
            f"speedup {self.speedup:.2f}",
        ]
        lines += [
            f"energy gain {self.energy_gain_chip(table):.2f} on chip, "
            f"{self.energy_gain(table):.2f} with DRAM ({name})"
            for name, table in PRICES.items()
        ]
        return "\n".join(lines)


def compare(
    workload: Workload, chip: Config = sparsetrain168, *, simulated: bool = False
) -> Comparison:
    """`workload` on `chip` and, with every product computed, on its dense twin.

    By the closed form, or both chips by the simulator.
    """
    cost = simulate if simulated else estimate
    return Comparison(cost(workload, chip), cost(workload, dense_twin(chip)))


LEVELS = ("block", "task", "op")


def disassemble(
    workload: Workload, chip: Config = sparsetrain168, *, level: str = "block", most: int = 4
) -> str:
    """The program of `workload` on `chip` as text.

    `level` is "block", "task" or "op" (row operations). At most `most` blocks of a pass, tasks of a
    block and operations of a task are written, and how many are left out.

    Raises:
        ValueError: unknown level.
    """
    if level not in LEVELS:
        raise ValueError(
            f"sparsetrain.accel.disassemble: expected level to be one of {', '.join(LEVELS)}, "
            f"got {level!r}"
        )
    program = compile_program(workload.core, chip)
    return print_program(program, workload.core, chip, LEVELS.index(level), most)

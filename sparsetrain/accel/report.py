"""Reports and comparisons of the cost model, and the functions that make them."""

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
    """The cost of one layer for the whole batch.

    Attributes:
        layer: The layer.
        forward: Counts of the forward pass.
        grad_input: Counts of the pass that computes dx; all 0 if it does not run.
        grad_weight: Counts of the pass that computes dw; all 0 if it does not run.
    """

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
        return tuple((pass_name, getattr(self, pass_name)) for pass_name in PASSES)

    @property
    def total(self) -> Counts:
        """The sum of the three passes."""
        return self.forward + self.grad_input + self.grad_weight


@dataclass(frozen=True)
class Report:
    """The cost of a step on one chip.

    Attributes:
        chip: The chip.
        layers: The cost of each layer, in the order of the workload.
    """

    chip: Config
    layers: tuple[LayerReport, ...]

    @cached_property
    def total(self) -> Counts:
        """The sum of all layers and passes. Passes run one after the other, so cycles add up."""
        return sum((layer.total for layer in self.layers), Counts())

    @property
    def cycles(self) -> int:
        """Cycles of the whole step."""
        return self.total.cycles

    @property
    def macs(self) -> int:
        """Multiplications that are executed. A dense twin executes all that are not on padding."""
        return self.total.macs

    @property
    def time_ms(self) -> float:
        """Time of the step at the chip's clock, in milliseconds."""
        return self.cycles / (self.chip.clock_mhz * 1e3)

    def energy(self, table: str | Prices = DEFAULT_PRICES) -> Energy:
        """Returns the energy of the step by part.

        Args:
            table: A price table or its name.
        """
        return price(self.total, prices(table))

    def energy_pj(self, table: str | Prices = DEFAULT_PRICES) -> float:
        """Returns the energy of the step with DRAM.

        Args:
            table: A price table or its name. The result is in its unit: pJ, or the energy of one
                MAC for `eyeriss_ratios`.
        """
        return self.energy(table).total_pj


def _report(
    workload: Workload, chip: Config, counts: list[tuple[Counts, Counts, Counts]]
) -> Report:
    layers = zip(workload.layers, counts, strict=True)
    return Report(chip, tuple(LayerReport(layer, *passes) for layer, passes in layers))


def estimate(workload: Workload, chip: Config = sparsetrain168) -> Report:
    """Estimates the cost of a workload on a chip with the closed form, in about a millisecond.

    Multiplications are exact for layers with maps. Cycles are estimates; docs/accelerator.md has
    their measured error against the simulator.

    Args:
        workload: The step.
        chip: The chip.
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
    """Simulates a workload on a chip: executes every row operation.

    The report is exact for the images of the recorded traces. Image n of a larger batch is image n
    modulo the number of recorded images.

    Args:
        workload: The step. A layer without a trace gets random nonzeros with its densities.
        chip: The chip.
        program: A program compiled from the same shapes. None compiles this workload.
        threads: The number of threads; None is one for each core. It does not change the report.
        seed: The seed of the random nonzeros.

    Raises:
        ValueError: `program` belongs to another workload.
    """
    program = compile_program(workload.core, chip) if program is None else program
    threads = os.cpu_count() or 1 if threads is None else threads
    return _report(workload, chip, _simulate(program, workload.core, chip, threads, seed))


@dataclass(frozen=True)
class Comparison:
    """The cost of one step on a chip and on its dense twin.

    Attributes:
        report: The cost on the chip.
        dense: The cost on the dense twin.
    """

    report: Report
    dense: Report

    @property
    def speedup(self) -> float:
        """Cycles of the dense twin / cycles of the chip."""
        return self.dense.cycles / self.report.cycles

    def energy_gain(self, table: str | Prices = DEFAULT_PRICES) -> float:
        """Returns energy of the dense twin / energy of the chip, with DRAM, under a price table."""
        return self.dense.energy_pj(table) / self.report.energy_pj(table)

    def energy_gain_chip(self, table: str | Prices = DEFAULT_PRICES) -> float:
        """Returns energy of the dense twin / energy of the chip, without DRAM."""
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
    """Compares the cost of a workload on a chip with that on its dense twin.

    Args:
        workload: The step.
        chip: The chip.
        simulated: True uses the simulator for both chips, False the closed form.
    """
    cost = simulate if simulated else estimate
    return Comparison(cost(workload, chip), cost(workload, dense_twin(chip)))


LEVELS = ("block", "task", "op")
"""Levels of detail of `disassemble`."""


def disassemble(
    workload: Workload, chip: Config = sparsetrain168, *, level: str = "block", most: int = 4
) -> str:
    """Returns the program of a workload on a chip as text.

    Args:
        workload: The step.
        chip: The chip.
        level: "block" writes the blocks of each pass, "task" also their tasks, and "op" also the
            row operations of each task.
        most: The largest number of blocks of a pass, tasks of a block and operations of a task that
            are written. The text says how many are left out.

    Raises:
        ValueError: An unknown level.
    """
    if level not in LEVELS:
        raise ValueError(
            f"sparsetrain.accel.disassemble: expected level to be one of {', '.join(LEVELS)}, "
            f"got {level!r}"
        )
    program = compile_program(workload.core, chip)
    return print_program(program, workload.core, chip, LEVELS.index(level), most)

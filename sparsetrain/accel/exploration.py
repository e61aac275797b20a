"""One workload on a grid of chips: cycles, energy, an area proxy and the Pareto front."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsetrain._checks import did_you_mean
from sparsetrain.accel.chips import DEFAULT_PRICES, chip, sparsetrain168
from sparsetrain.accel.core import Config, Prices, dense_twin
from sparsetrain.accel.layers import Workload
from sparsetrain.accel.report import estimate

# KB of SRAM that stand for a PE (16-bit multiplier, 32-bit adder, control, 0.5 KB of registers) and
# for one byte a cycle of a port and of the DRAM interface. Assumed; suitable only to rank chips.
PE_KB = 2.0
PORT_BYTE_KB = 0.25
DRAM_BYTE_KB = 4.0


@dataclass(frozen=True)
class Point:
    """One chip of a grid, with its results.

    Attributes:
        chip: The chip.
        varied: The names of the numbers that the grid varies.
        cycles: Cycles of the step.
        energy_pj: Energy of the step with DRAM, in pJ.
        speedup: Cycles of the chip's own dense twin divided by `cycles`.
        area_proxy_kb: Area in KB of SRAM; see `area_proxy_kb()`.
        pareto: True if no other chip of the grid is better in cycles or energy and at least as good
            in the other.
    """

    chip: Config
    varied: tuple[str, ...]
    cycles: int
    energy_pj: float
    speedup: float
    area_proxy_kb: float
    pareto: bool

    def as_dict(self) -> dict[str, Any]:
        """Returns the varied numbers and the results in one dictionary."""
        numbers = {name: getattr(self.chip, name) for name in self.varied}
        results = {
            "cycles": self.cycles,
            "energy_pj": self.energy_pj,
            "speedup": self.speedup,
            "area_proxy_kb": self.area_proxy_kb,
            "pareto": self.pareto,
        }
        return numbers | results


def area_proxy_kb(machine: Config) -> float:
    """Returns the area of buffer, PEs, ports and DRAM interface in KB of SRAM, to rank chips."""
    return (
        machine.buffer_bytes / 1024
        + PE_KB * machine.pes
        + PORT_BYTE_KB * machine.pe_groups * machine.port_bytes_per_cycle
        + DRAM_BYTE_KB * machine.dram_bytes_per_cycle
    )


def explore(
    workload: Workload,
    base: Config = sparsetrain168,
    vary: Mapping[str, Sequence[int]] | None = None,
    prices: Prices = DEFAULT_PRICES,
) -> list[Point]:
    """Estimates a workload on every chip of a grid with the closed form.

    Args:
        workload: The step.
        base: The chip whose numbers are varied.
        vary: Values by the name of a number of the chip. The grid has all their combinations.
        prices: The price table of the energies.

    Returns:
        One point for each combination; the last number of `vary` varies fastest.

    Raises:
        ValueError: An unknown number, or a value outside its range.
    """
    grid = dict(vary or {})
    names = tuple(grid)
    known = [key for key, value in base.as_dict().items() if type(value) is int]
    for name in names:
        if name not in known:
            raise ValueError(
                f"sparsetrain.accel.explore: expected whole numbers of a chip, got {name!r}; "
                + did_you_mean(name, known)
            )
    results = []
    for values in itertools.product(*grid.values()):
        machine = chip(base, **dict(zip(names, values, strict=True)))
        report = estimate(workload, machine)
        twin = estimate(workload, dense_twin(machine))
        results.append((machine, report.cycles, report.energy_pj(prices), twin.cycles))
    front = _front([(cycles, energy) for _, cycles, energy, _ in results])
    return [
        Point(machine, names, cycles, energy, twin / cycles, area_proxy_kb(machine), index in front)
        for index, (machine, cycles, energy, twin) in enumerate(results)
    ]


def _front(costs: list[tuple[int, float]]) -> set[int]:
    """Returns the indices of (cycles, energy) that no other entry dominates.

    In the order of rising cycles, these are the entries whose energy is below that of all earlier
    entries, and the entries equal to one of these.
    """
    front, best = set(), (0, float("inf"))
    for index in sorted(range(len(costs)), key=lambda i: costs[i]):
        if costs[index][1] < best[1]:
            best = costs[index]
        if costs[index] == best:
            front.add(index)
    return front

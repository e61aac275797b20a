"""A grid of chips under one workload: cycles, energy, an area proxy and the Pareto front."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsetrain._checks import did_you_mean
from sparsetrain.accel.chips import DEFAULT_PRICES, chip, sparsetrain168
from sparsetrain.accel.core import Config, Prices, dense_twin
from sparsetrain.accel.layers import Workload
from sparsetrain.accel.report import estimate

# A PE (16-bit multiplier, 32-bit adder, control, its 0.5 KB register) is counted as this much SRAM,
# and a byte a cycle of port or DRAM interface as so much. Assumptions, good for ranking only.
PE_KB = 2.0
PORT_BYTE_KB = 0.25
DRAM_BYTE_KB = 4.0


@dataclass(frozen=True)
class Point:
    """One chip of a grid; `pareto`: no other is at least as good in cycles and in energy."""

    chip: Config
    varied: tuple[str, ...]
    cycles: int
    energy_pj: float
    speedup: float  # over its own dense twin
    area_proxy_kb: float
    pareto: bool

    def as_dict(self) -> dict[str, Any]:
        """The varied numbers and the results, flat."""
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
    """SRAM equivalents of a chip (buffer, PEs, ports, DRAM interface), to rank chips by."""
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
    """`workload` on every combination of the numbers in `vary`, by the closed form.

    Raises:
        ValueError: an unknown number, or one that no chip can have.
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
    """Indices that nothing dominates: up in cycles, each new least energy and what equals it."""
    front, best = set(), (0, float("inf"))
    for index in sorted(range(len(costs)), key=lambda i: costs[i]):
        if costs[index][1] < best[1]:
            best = costs[index]
        if costs[index] == best:
            front.add(index)
    return front

"""What bounds a pass: the time each part of the chip would need if it were alone."""

from sparsetrain.accel.core import Config, Counts


def limits(counts: Counts, chip: Config) -> dict[str, float]:
    """Cycles that multipliers, ports, DRAM and PPUs are busy when their work is spread evenly."""
    return {
        "multiplier": counts.busy_cycles / chip.pes,
        "port": counts.port_bytes / (chip.port_bytes_per_cycle * chip.groups),
        "DRAM": (counts.dram_read_bytes + counts.dram_write_bytes) / chip.dram_bytes_per_cycle,
        "drain": counts.drain_cycles / chip.groups,
    }


def bound(counts: Counts, chip: Config) -> str:
    """The part with the highest limit: multiplier, port, DRAM or drain."""
    alone = limits(counts, chip)
    return max(alone, key=lambda part: alone[part])


def utilisation(counts: Counts, chip: Config) -> float:
    """Share of the PEs' cycles that multiply."""
    return counts.macs / (counts.cycles * chip.pes) if counts.cycles else 0.0

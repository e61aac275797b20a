"""A comparison as rows and dictionaries, for JSON, CSV and the screen."""

from typing import Any

from sparsetrain.accel.chips import PRICES, prices
from sparsetrain.accel.core import Config, Counts, Prices, price
from sparsetrain.accel.report import Comparison


def layer_rows(comparison: Comparison, table: str | Prices) -> list[dict[str, Any]]:
    """Returns one dictionary for each layer and pass that runs, in forward order.

    Args:
        comparison: The comparison.
        table: A price table or its name.

    Returns:
        The fields that docs/formats.md describes under `sparsetrain estimate`, for the whole batch.
    """
    rows = []
    chip, priced = comparison.report.chip, prices(table)
    for layer, dense in zip(comparison.report.layers, comparison.dense.layers, strict=True):
        for pass_name, c in layer.passes:
            d = getattr(dense, pass_name)
            if not d.cycles:
                continue
            energy, dense_energy = price(c, priced), price(d, priced)
            rows.append(
                {
                    "name": layer.name,
                    "pass": pass_name,
                    "macs": c.macs,
                    "dense_macs": d.macs,
                    "cycles": c.cycles,
                    "dense_cycles": d.cycles,
                    "utilization": utilization(c, chip),
                    "bound": bound(c, chip),
                    "energy_pj": energy.total_pj,
                    "dense_energy_pj": dense_energy.total_pj,
                    "mac_pj": energy.mac_pj,
                    "register_pj": energy.register_pj,
                    "buffer_pj": energy.buffer_pj,
                    "dram_pj": energy.dram_pj,
                    "port_bytes": c.port_bytes,
                    "dram_bytes": c.dram_read_bytes + c.dram_write_bytes,
                }
            )
    return rows


def total(comparison: Comparison, table: str | Prices) -> dict[str, Any]:
    """Returns counts, times, energies and gains of the whole step in one dictionary.

    Args:
        comparison: The comparison.
        table: A price table or its name.
    """
    return {
        "macs": comparison.report.macs,
        "dense_macs": comparison.dense.macs,
        "cycles": comparison.report.cycles,
        "dense_cycles": comparison.dense.cycles,
        "time_ms": comparison.report.time_ms,
        "dense_time_ms": comparison.dense.time_ms,
        "speedup": comparison.speedup,
        "energy_pj": comparison.report.energy_pj(table),
        "dense_energy_pj": comparison.dense.energy_pj(table),
        "energy_gain": comparison.energy_gain(table),
        "energy_gain_chip": comparison.energy_gain_chip(table),
    }


def gains(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns energy of the dense twin / energy of the chip under every price table that ships."""
    return [
        {
            "prices": name,
            "energy_gain_chip": comparison.energy_gain_chip(name),
            "energy_gain": comparison.energy_gain(name),
        }
        for name in PRICES
    ]


def limits(counts: Counts, chip: Config) -> dict[str, float]:
    """Returns a lower bound of the cycles for each part of the chip.

    It is the number of cycles that the multipliers, the ports, DRAM or the PPUs (`drain`) need for
    their work, if the work is divided evenly and nothing else limits them.
    """
    return {
        "multiplier": counts.busy_cycles / chip.pes,
        "port": counts.port_bytes / (chip.port_bytes_per_cycle * chip.pe_groups),
        "DRAM": (counts.dram_read_bytes + counts.dram_write_bytes) / chip.dram_bytes_per_cycle,
        "drain": counts.drain_cycles / chip.pe_groups,
    }


def bound(counts: Counts, chip: Config) -> str:
    """Returns the part with the highest limit: "multiplier", "port", "DRAM" or "drain"."""
    cycles = limits(counts, chip)
    return max(cycles, key=lambda part: cycles[part])


def utilization(counts: Counts, chip: Config) -> float:
    """Returns the share of the PEs' cycles in which they multiply, in [0, 1]."""
    return counts.macs / (counts.cycles * chip.pes) if counts.cycles else 0.0

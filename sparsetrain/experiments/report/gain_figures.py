"""Figures of gains for the report: speedups, and the energy gain under every price table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report.aggregate import Estimate, RunGroup
from sparsetrain.experiments.report.figures import COLORS, Figure, Trace, format_estimate


def speedups(groups: Sequence[RunGroup]) -> Figure | None:
    """The speedups on the CPU and the accelerator's gains; None if no run finished."""
    finished = [group for group in groups if group.chip_speedup is not None]
    if not finished:
        return None
    gains = {
        "CPU: speedup, wall clock": [group.speedup for group in finished],
        "CPU: speedup, processor time": [group.cpu_speedup for group in finished],
        "accelerator: speedup": [group.chip_speedup for group in finished],
        "accelerator: energy gain": [group.energy_gains.get(PRICE_TABLE) for group in finished],
    }
    labels = [group.label for group in finished]
    traces: list[Trace] = [
        _markers(name, color, labels, estimates)
        for color, (name, estimates) in zip(COLORS, gains.items(), strict=False)
    ]
    rows: list[Sequence[Any]] = [
        (group.model, group.rule, *(format_estimate(found[index]) for found in gains.values()))
        for index, group in enumerate(finished)
    ]
    return Figure(
        "speedups",
        "Speedups and energy gains",
        "CPU: time of a dense run's training step over that of the pruned run with the same "
        "seed, mean over all steps. Other programs on the machine affect the wall-clock time. "
        "Accelerator: gains over its dense twin, from the tensors of the last step; energy "
        f"includes DRAM and uses the price table {PRICE_TABLE}. Means over seeds with standard "
        "errors.",
        traces,
        {
            "xaxis": {"title": {"text": "speedup or energy gain"}, "rangemode": "tozero"},
            "yaxis": {"autorange": "reversed", "automargin": True, "categoryarray": labels},
        },
        ("model", "rule", *gains),
        rows,
        height=170 + 34 * len(finished),
    )


def _markers(
    name: str, color: str, labels: Sequence[str], estimates: Sequence[Estimate | None]
) -> Trace:
    """A trace with a mark and its standard error for each label that has an estimate."""
    pairs = zip(labels, estimates, strict=True)
    shown = [(label, estimate) for label, estimate in pairs if estimate is not None]
    errors = [estimate.error or 0.0 for _, estimate in shown]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [estimate.mean for _, estimate in shown],
        "y": [label for label, _ in shown],
        "error_x": {"type": "data", "array": errors, "width": 4},
        "marker": {"color": color, "size": 9},
        "hovertemplate": "%{y}<br>%{x:.2f}x<extra>" + name + "</extra>",
    }


def energy_band(groups: Sequence[RunGroup]) -> Figure | None:
    """The energy gain of a whole step under every price table; None without energies."""
    priced = [group for group in groups if group.energy_gains]
    if not priced:
        return None
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": table,
            "x": [group.energy_gains[table].mean for group in priced],
            "y": [group.label for group in priced],
            "marker": {"color": color, "size": 12 if table == PRICE_TABLE else 8,
                       "symbol": "diamond" if table == PRICE_TABLE else "circle"},
            "hovertemplate": "%{y}<br>%{x:.2f}x<extra>" + table + "</extra>",
        }
        for table, color in zip(priced[0].energy_gains, COLORS, strict=False)
    ]  # fmt: skip
    means = [[gain.mean for gain in group.energy_gains.values()] for group in priced]
    traces.insert(
        0,
        {
            "type": "bar",
            "orientation": "h",
            "name": "range",
            "base": [min(gains) for gains in means],
            "x": [max(gains) - min(gains) for gains in means],
            "y": [group.label for group in priced],
            "marker": {"color": COLORS[-1], "opacity": 0.25},
            "hoverinfo": "skip",
            "width": 0.3,
        },
    )
    rows: list[Sequence[Any]] = [
        (
            group.model,
            group.rule,
            format_estimate(group.chip_speedup),
            *(format_estimate(gain) for gain in group.energy_gains.values()),
        )
        for group in priced
    ]
    return Figure(
        "band",
        "Energy gain under every price table",
        "Energy of a training step on the dense twin over that on the accelerator, including DRAM. "
        "Sources differ in the prices of memory accesses and operations by more than any gain "
        "shown here. The gray bar is the range that reasonable price tables give, and the diamond "
        f"is {PRICE_TABLE}.",
        traces,
        {
            "xaxis": {"title": {"text": "energy gain"}},
            "yaxis": {"autorange": "reversed", "automargin": True},
        },
        ("model", "rule", "accelerator: speedup",
         *(f"energy gain, {table}" for table in priced[0].energy_gains)),
        rows,
        height=170 + 34 * len(priced),
    )  # fmt: skip

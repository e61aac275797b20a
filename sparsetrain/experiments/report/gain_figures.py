"""The report's figures of gains: times faster on the CPU and the chip, energy under every price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report.aggregate import Estimate, RunGroup
from sparsetrain.experiments.report.figures import COLORS, Figure, Trace, format_estimate


def speedups(groups: Sequence[RunGroup]) -> Figure | None:
    """What each point gains here and on the chip; None where no run was finished."""
    compared = [p for p in groups if p.chip_speedup is not None]
    if not compared:
        return None
    kinds = {
        "this CPU, wall clock": [p.speedup for p in compared],
        "this CPU, processor time": [p.cpu_speedup for p in compared],
        "chip over its dense twin, cycles": [p.chip_speedup for p in compared],
        "the same, energy": [p.energy_gains.get(PRICE_TABLE) for p in compared],
    }
    labels = [p.label for p in compared]
    traces: list[Trace] = [
        _dots(kind, color, labels, found)
        for color, (kind, found) in zip(COLORS, kinds.items(), strict=False)
    ]
    rows: list[Sequence[Any]] = [
        (p.model, p.rule, *(format_estimate(found[index]) for found in kinds.values()))
        for index, p in enumerate(compared)
    ]
    return Figure(
        "speedups",
        "Times faster",
        "On this machine's CPU: time of a dense training step over that of a pruned one of the "
        "same seed, mean over all steps, by the wall clock, in which whatever else ran is too, and "
        "in processor time. On the chip: of the last step's live tensors, over the dense twin; "
        f"energy under {PRICE_TABLE}, DRAM included. Mean over seeds with its standard error.",
        traces,
        {
            "xaxis": {"title": {"text": "times faster, or less energy"}, "rangemode": "tozero"},
            "yaxis": {"autorange": "reversed", "automargin": True, "categoryarray": labels},
        },
        ("model", "rule", *kinds),
        rows,
        height=170 + 34 * len(compared),
    )


def _dots(kind: str, color: str, labels: Sequence[str], found: Sequence[Estimate | None]) -> Trace:
    """One mark with its standard error for each label that has an estimate."""
    shown = [(label, each) for label, each in zip(labels, found, strict=True) if each is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": kind,
        "x": [each.mean for _, each in shown],
        "y": [label for label, _ in shown],
        "error_x": {"type": "data", "array": [each.error or 0.0 for _, each in shown], "width": 4},
        "marker": {"color": color, "size": 9},
        "hovertemplate": "%{y}<br>%{x:.2f}x<extra>" + kind + "</extra>",
    }


def energy_band(groups: Sequence[RunGroup]) -> Figure | None:
    """The energy gain of a whole step under every price table."""
    priced = [p for p in groups if p.energy_gains]
    if not priced:
        return None
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": table,
            "x": [p.energy_gains[table].mean for p in priced],
            "y": [p.label for p in priced],
            "marker": {"color": color, "size": 12 if table == PRICE_TABLE else 8,
                       "symbol": "diamond" if table == PRICE_TABLE else "circle"},
            "hovertemplate": "%{y}<br>%{x:.2f}x<extra>" + table + "</extra>",
        }
        for table, color in zip(priced[0].energy_gains, COLORS, strict=False)
    ]  # fmt: skip
    ends = [[e.mean for e in p.energy_gains.values()] for p in priced]
    traces.insert(
        0,
        {
            "type": "bar",
            "orientation": "h",
            "name": "band",
            "base": [min(each) for each in ends],
            "x": [max(each) - min(each) for each in ends],
            "y": [p.label for p in priced],
            "marker": {"color": COLORS[-1], "opacity": 0.25},
            "hoverinfo": "skip",
            "width": 0.3,
        },
    )
    rows: list[Sequence[Any]] = [
        (
            p.model,
            p.rule,
            format_estimate(p.chip_speedup),
            *(format_estimate(e) for e in p.energy_gains.values()),
        )
        for p in priced
    ]
    return Figure(
        "band",
        "Energy gain under every price table",
        "Energy of a step on the dense twin over that on the chip, DRAM included. Prices of memory "
        "and arithmetic differ between sources by more than any of these gains: the band is what "
        f"reasonable tables span; the diamond is {PRICE_TABLE}.",
        traces,
        {
            "xaxis": {"title": {"text": "energy gain"}},
            "yaxis": {"autorange": "reversed", "automargin": True},
        },
        ("model", "rule", "speedup", *priced[0].energy_gains),
        rows,
        height=170 + 34 * len(priced),
    )

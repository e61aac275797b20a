"""The report's figures of costs: time on the CPU, cycles and energy on the chip, a roofline."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from statistics import fmean
from typing import Any

from sparsetrain.cost_table import costs
from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report.aggregate import RunGroup
from sparsetrain.experiments.report.figures import COLORS, TICKS, Figure, Trace

PASSES = {"forward": "y", "grad_input": "dx", "grad_weight": "dw"}
PARTS = {
    "dense": "dense convolutions",
    "sparse": "sparse convolutions",
    "compress": "compressing their operands",
    "prune": "pruning",
    "normalize": "batch normalization",
    "other": "all else",
}


def time_parts(groups: Sequence[RunGroup]) -> Figure | None:
    """Where the time of a step goes; None where no run was profiled."""
    measured = {
        p.label: [r["parts"] for r in p.results if r["parts"]]
        for p in groups
        if any(r["parts"] for r in p.results)
    }
    if not measured:
        return None
    # Results of before compression was told apart do not count where there are others.
    told = {label: [one for one in found if "compress" in one] for label, found in measured.items()}
    means = {
        label: {part: fmean(one.get(part, 0.0) for one in told[label] or found) for part in PARTS}
        for label, found in measured.items()
    }
    traces: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "x": [mean[part] for mean in means.values()],
            "y": list(means),
            "marker": {"color": color},
            "hovertemplate": "%{y}<br>%{x:.2f} ms<extra>" + title + "</extra>",
        }
        for (part, title), color in zip(PARTS.items(), COLORS, strict=False)
    ]
    rows: list[Sequence[Any]] = [
        (label, *(f"{mean[part]:.2f}" for part in PARTS), f"{sum(mean.values()):.2f}")
        for label, mean in means.items()
    ]
    return Figure(
        "time",
        "Where the time of a step goes",
        "Forward and backward of the last training step on this machine's CPU, by torch's "
        "profiler; mean over seeds. Wall clock time: what else ran on the machine is in it."
        + (
            ""
            if all(told.values())
            else " Where no compression is shown, it is in the sparse convolutions."
        ),
        traces,
        {
            "barmode": "stack",
            "xaxis": {"title": {"text": "ms"}},
            "yaxis": {"autorange": "reversed", "automargin": True},
        },
        ("run", *PARTS.values(), "sum, ms"),
        rows,
        height=150 + 34 * len(means),
    )


def _passes(point: RunGroup) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The pass records of a point's runs, by layer and pass."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in point.results:
        for one in result["passes"]:
            found.setdefault((one["name"], one["pass"]), []).append(one)
    return found


def chip(groups: Sequence[RunGroup], dense: str, sparse: str, key: str, unit: str) -> Figure:
    """What each layer and pass costs on the chip and on its dense twin: cycles, or energy.

    `dense` and `sparse` name the fields of a pass record; energies are under PRICE_TABLE.
    """

    def mean(found: list[dict[str, Any]], field: str) -> float:
        values = (one[field] for one in found)
        return fmean((v[PRICE_TABLE] if isinstance(v, dict) else v) / 1e6 for v in values)

    traces: list[Trace] = []
    rows: list[Sequence[Any]] = []
    trace_choices: list[str | None] = []
    row_choices: list[str | None] = []
    most = 1
    for point in groups:
        cells = _passes(point)
        layers = list(dict.fromkeys(name for name, _ in cells))
        most = max(most, len(layers))
        for machine, field in (("dense twin", dense), ("chip", sparse)):
            for color, (name, short) in zip(COLORS, PASSES.items(), strict=False):
                shown = [layer for layer in layers if (layer, name) in cells]
                traces.append(
                    {
                        "type": "bar",
                        "orientation": "h",
                        "name": short,
                        "showlegend": machine == "chip",
                        "legendgroup": short,
                        "offsetgroup": machine,
                        "x": [mean(cells[layer, name], field) for layer in shown],
                        "y": shown,
                        "marker": {"color": color, "opacity": 1 if machine == "chip" else 0.35},
                        "hovertemplate": f"%{{y}}, {short}: %{{x:.3g}} {unit}<extra>{machine}"
                        "</extra>",
                    }
                )
                trace_choices.append(point.label)
        for (layer, name), found in cells.items():
            costs = mean(found, sparse), mean(found, dense)
            rows.append(
                (point.label, layer, PASSES[name], *(f"{c:.4g}" for c in costs),
                 f"{costs[1] / costs[0]:.2f}", *_band(found, dense, sparse))
            )  # fmt: skip
            row_choices.append(point.label)
    what = "Cycles" if key == "cycles" else "Energy"
    return Figure(
        key,
        f"{what} of each layer on the chip",
        f"{what} of one training step on the SparseTrain chip (solid) and on its dense twin "
        "(pale), fed with the live tensors of the last step, by the closed form of "
        "sparsetrain.accel; mean over seeds."
        + ("" if key == "cycles" else f" DRAM included, under {PRICE_TABLE}."),
        traces,
        {
            "barmode": "stack",
            "xaxis": {"title": {"text": unit}},
            "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
        },
        ("run", "layer", "pass", f"chip, {unit}", f"dense twin, {unit}", "gain")
        + (() if key == "cycles" else ("gain under all tables",)),
        rows,
        trace_choices,
        row_choices,
        layers="y",
        height=170 + 30 * most,
    )


def _band(found: list[dict[str, Any]], dense: str, sparse: str) -> tuple[str, ...]:
    """The least and the greatest energy gain of a pass under any price table; none of cycles."""
    if not isinstance(found[0][sparse], dict):
        return ()
    totals = [
        [fmean(one[field][table] for one in found) for field in (dense, sparse)]
        for table in found[0][sparse]
    ]
    gains = [dear / cheap for dear, cheap in totals]
    return (f"{min(gains):.2f} to {max(gains):.2f}",)


def roofline(groups: Sequence[RunGroup]) -> Figure | None:
    """Speed against intensity of every pass that ran sparse, and of the dense ones."""
    table = costs()["float32"]
    peak = max(1 / of_pass["dense_mac_ns"] for of_pass in table.values())  # GMAC/s
    bandwidth = 8 / table["forward"]["copy_ns"]  # GB/s: 4 bytes read, 4 written
    traces: list[Trace] = []
    rows: list[Sequence[Any]] = []
    trace_choices: list[str | None] = []
    row_choices: list[str | None] = []
    for point in groups:
        shapes = {layer["name"]: layer for r in point.results for layer in r["layers"]}
        by_backend: dict[str, list[tuple[str, float, float]]] = {}
        for (layer, name), found in _passes(point).items():
            x, y = (prod(shapes[layer][f"{end}_shape"]) for end in ("input", "output"))
            for_backend = found[0]["backend"]
            one = _speed(found[0], shapes[layer])
            intensity = one[0] / (4 * (x + y))
            by_backend.setdefault(for_backend, []).append(
                (f"{layer}, {PASSES[name]}", intensity, one[0] / one[1] / 1e6)
            )
        for color, (backend, marks) in zip(COLORS, sorted(by_backend.items()), strict=False):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": backend,
                    "x": [mark[1] for mark in marks],
                    "y": [mark[2] for mark in marks],
                    "text": [mark[0] for mark in marks],
                    "marker": {"color": color, "size": 8},
                    "hovertemplate": "%{text}<br>%{x:.1f} MAC/byte, %{y:.1f} GMAC/s<extra>"
                    + backend + "</extra>",
                }
            )  # fmt: skip
            trace_choices.append(point.label)
            for mark in marks:
                rows.append((point.label, mark[0], backend, f"{mark[1]:.2f}", f"{mark[2]:.2f}"))
                row_choices.append(point.label)
    if not traces:
        return None
    ends = [0.1, peak / bandwidth, 1000.0]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "roof",
            "x": ends,
            "y": [min(peak, bandwidth * end) for end in ends],
            "line": {"color": COLORS[-1]},
            "hoverinfo": "skip",
        }
    )
    trace_choices.append(None)
    return Figure(
        "roofline",
        "Roofline of the kernels, as auto predicts them",
        "Multiply-adds with nonzeros per second, by the costs that auto predicts with, against "
        "multiply-adds per byte of x and y. The roofs come from the same table: the speed of "
        f"torch's dense multiply-adds ({peak:.0f} GMAC/s on one thread) and of a copy "
        f"({bandwidth:.0f} GB/s). docs/kernels.md says what bounds the kernels, from "
        "measurements.",
        traces,
        {
            "xaxis": {"title": {"text": "MAC / byte"}, "type": "log", "tickvals": TICKS[::3]},
            "yaxis": {"title": {"text": "GMAC/s"}, "type": "log", "tickvals": TICKS},
        },
        ("run", "layer and pass", "backend", "MAC / byte", "GMAC/s"),
        rows,
        trace_choices,
        row_choices,
    )


def _speed(one: dict[str, Any], layer: dict[str, Any]) -> tuple[float, float]:
    """Multiply-adds that a pass does on the CPU, and the milliseconds predicted for them."""
    if one["backend"] == "dense":
        return one["dense_macs"], one["dense_ms"]
    kept = {
        "forward": layer["input_density"],
        "grad_input": layer["grad_density"],
        "grad_weight": min(layer["input_density"], layer["grad_density"]),
    }[one["pass"]]
    return one["dense_macs"] * kept, one["sparse_ms"]

"""Figures of costs for the report: time on the CPU, cycles and energy on the accelerator, roofline.

plotly draws the report's charts, because they are interactive.
`sparsetrain estimate --plot` writes picture files with matplotlib (sparsetrain/accel/plots.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from statistics import fmean
from typing import Any

from sparsetrain.accel import PASSES
from sparsetrain.accel.roofline import Roofline, RooflinePoint
from sparsetrain.cost_table import costs
from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report.aggregate import RunGroup
from sparsetrain.experiments.report.figures import COLORS, TICKS, Figure, Trace

PARTS = {
    "dense": "dense convolutions",
    "sparse": "sparse convolutions",
    "compress": "compression of their operands",
    "prune": "pruning",
    "normalize": "batch normalization",
    "other": "everything else",
}

PassRecord = dict[str, Any]


def time_parts(groups: Sequence[RunGroup]) -> Figure | None:
    """The time of a step by kind of operator; None if no run was profiled."""
    profiles = {
        group.label: [result["parts"] for result in group.results if result["parts"]]
        for group in groups
        if any(result["parts"] for result in group.results)
    }
    if not profiles:
        return None
    # Older results count compression as part of the sparse convolutions. They are only used for
    # groups that have no newer results.
    with_compression = {
        label: [parts for parts in found if "compress" in parts]
        for label, found in profiles.items()
    }
    means = {
        label: {
            part: fmean(parts.get(part, 0.0) for parts in with_compression[label] or found)
            for part in PARTS
        }
        for label, found in profiles.items()
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
    text = (
        "Time of the forward and backward pass of the last training step on the CPU, measured by "
        "PyTorch's profiler; mean over seeds. It is wall-clock time, so other programs on the "
        "machine affect it."
    )
    if not all(with_compression.values()):
        text += " Bars without compression include it in the sparse convolutions."
    return Figure(
        "time",
        "Time of a training step by operator",
        text,
        traces,
        {
            "barmode": "stack",
            "xaxis": {"title": {"text": "ms per training step"}},
            "yaxis": {"autorange": "reversed", "automargin": True},
        },
        ("run", *(f"{title}, ms" for title in PARTS.values()), "sum, ms"),
        rows,
        height=150 + 34 * len(means),
    )


def _pass_records(group: RunGroup) -> dict[tuple[str, str], list[PassRecord]]:
    """The pass records of a group's runs, by layer and pass."""
    records: dict[tuple[str, str], list[PassRecord]] = {}
    for result in group.results:
        for record in result["passes"]:
            records.setdefault((record["name"], record["pass"]), []).append(record)
    return records


def chip(groups: Sequence[RunGroup], dense: str, sparse: str, key: str, unit: str) -> Figure:
    """The cycles or the energy of each layer and pass on the accelerator and on its dense twin.

    Args:
        groups: The runs.
        dense: The field of a pass record with the dense twin's cost.
        sparse: The field of a pass record with the accelerator's cost. An energy is a dictionary
            by price table, of which PRICE_TABLE is shown.
        key: "cycles" or "energy".
        unit: A million times the unit of the fields.
    """

    def mean(records: list[PassRecord], field: str) -> float:
        values = (record[field] for record in records)
        return fmean((v[PRICE_TABLE] if isinstance(v, dict) else v) / 1e6 for v in values)

    traces: list[Trace] = []
    rows: list[Sequence[Any]] = []
    trace_choices: list[str | None] = []
    row_choices: list[str | None] = []
    most_layers = 1
    for group in groups:
        records = _pass_records(group)
        layers = list(dict.fromkeys(layer for layer, _ in records))
        most_layers = max(most_layers, len(layers))
        for machine, field in (("dense twin", dense), ("accelerator", sparse)):
            for color, pass_name in zip(COLORS, PASSES, strict=False):
                shown = [layer for layer in layers if (layer, pass_name) in records]
                traces.append(
                    {
                        "type": "bar",
                        "orientation": "h",
                        "name": pass_name,
                        "showlegend": machine == "accelerator",
                        "legendgroup": pass_name,
                        "offsetgroup": machine,
                        "x": [mean(records[layer, pass_name], field) for layer in shown],
                        "y": shown,
                        "marker": {
                            "color": color,
                            "opacity": 1 if machine == "accelerator" else 0.35,
                        },
                        "hovertemplate": f"%{{y}}, {pass_name}: %{{x:.3g}} {unit}"
                        f"<extra>{machine}</extra>",
                    }
                )
                trace_choices.append(group.label)
        for (layer, pass_name), found in records.items():
            sparse_cost, dense_cost = mean(found, sparse), mean(found, dense)
            rows.append(
                (group.label, layer, pass_name, f"{sparse_cost:.4g}", f"{dense_cost:.4g}",
                 f"{dense_cost / sparse_cost:.2f}", *_gain_range(found, dense, sparse))
            )  # fmt: skip
            row_choices.append(group.label)
    quantity = "Cycles" if key == "cycles" else "Energy"
    text = (
        f"{quantity} of one training step on the SparseTrain accelerator (solid) and on its dense "
        "twin (pale), which computes every product. The closed form of sparsetrain.accel computes "
        "them from the tensors of the last step; mean over seeds."
    )
    gain_columns: tuple[str, ...] = ("gain",)
    if key == "energy":
        text += f" Energy includes DRAM and uses the price table {PRICE_TABLE}."
        gain_columns = ("gain", "range of gains over all price tables")
    return Figure(
        key,
        f"{quantity} of each layer on the accelerator",
        text,
        traces,
        {
            "barmode": "stack",
            "xaxis": {"title": {"text": f"{unit} per training step"}},
            "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
        },
        ("run", "layer", "pass", f"accelerator, {unit}", f"dense twin, {unit}", *gain_columns),
        rows,
        trace_choices,
        row_choices,
        layers="y",
        height=170 + 30 * most_layers,
    )


def _gain_range(records: list[PassRecord], dense: str, sparse: str) -> tuple[str, ...]:
    """The lowest and the highest gain over all price tables; nothing for cycles."""
    if not isinstance(records[0][sparse], dict):
        return ()
    gains = [
        fmean(record[dense][table] for record in records)
        / fmean(record[sparse][table] for record in records)
        for table in records[0][sparse]
    ]
    return (f"{min(gains):.2f} to {max(gains):.2f}",)


def roofline(groups: Sequence[RunGroup]) -> Figure | None:
    """The predicted speed of every pass on this CPU against its intensity; None without passes."""
    table = costs()["float32"]
    peak = max(1 / pass_costs["dense_mac_ns"] for pass_costs in table.values())  # GMAC/s
    bandwidth = 8 / table["forward"]["copy_ns"]  # GB/s: an element takes 4 bytes read, 4 written
    traces: list[Trace] = []
    rows: list[Sequence[Any]] = []
    trace_choices: list[str | None] = []
    row_choices: list[str | None] = []
    for group in groups:
        by_backend = Roofline(_roofline_points(group), bandwidth, peak).by_series()
        for color, (backend, points) in zip(COLORS, sorted(by_backend.items()), strict=False):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": backend,
                    "x": [point.intensity for point in points],
                    "y": [point.rate for point in points],
                    "text": [point.label for point in points],
                    "marker": {"color": color, "size": 8},
                    "hovertemplate": "%{text}<br>%{x:.1f} MAC/byte, %{y:.1f} GMAC/s<extra>"
                    + backend + "</extra>",
                }
            )  # fmt: skip
            trace_choices.append(group.label)
            for point in points:
                rows.append((group.label, point.label, backend, f"{point.intensity:.2f}",
                             f"{point.rate:.2f}"))  # fmt: skip
                row_choices.append(group.label)
    if not traces:
        return None
    every_point = tuple(point for group in groups for point in _roofline_points(group))
    intensities, limits = Roofline(every_point, bandwidth, peak).limit_line()
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "limit of memory and arithmetic",
            "x": intensities,
            "y": limits,
            "line": {"color": COLORS[-1]},
            "hoverinfo": "skip",
        }
    )
    trace_choices.append(None)
    return Figure(
        "roofline",
        "Roofline of the kernels on this CPU, as predicted",
        "Multiply-accumulates (MAC) with nonzeros per second, against MACs per byte of x and y. "
        "The times are those that the backend auto predicts from its cost table. The limits come "
        f"from the same table: the speed of PyTorch's dense convolution ({peak:.0f} GMAC/s on one "
        f"thread) and of a copy ({bandwidth:.0f} GB/s). docs/kernels.md has measurements of what "
        "limits the kernels.",
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


def _roofline_points(group: RunGroup) -> tuple[RooflinePoint, ...]:
    """The passes of a group: 10^9 MACs, 10^9 bytes of x and y in float32, predicted seconds."""
    layers = {layer["name"]: layer for result in group.results for layer in result["layers"]}
    points = []
    for (layer, pass_name), records in _pass_records(group).items():
        record, shapes = records[0], layers[layer]
        elements = prod(shapes["input_shape"]) + prod(shapes["output_shape"])
        macs, milliseconds = _predicted_work(record, shapes)
        points.append(
            RooflinePoint(f"{layer}, {pass_name}", record["backend"], macs / 1e9,
                          4 * elements / 1e9, milliseconds / 1e3)
        )  # fmt: skip
    return tuple(points)


def _predicted_work(record: PassRecord, layer: dict[str, Any]) -> tuple[float, float]:
    """The MACs that a pass computes on the CPU, and the milliseconds predicted for them."""
    if record["backend"] == "dense":
        return record["dense_macs"], record["dense_ms"]
    skipping_density = {
        "forward": layer["input_density"],
        "grad_input": layer["grad_density"],
        "grad_weight": min(layer["input_density"], layer["grad_density"]),
    }[record["pass"]]
    return record["dense_macs"] * skipping_density, record["sparse_ms"]

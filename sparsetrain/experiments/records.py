"""Records of a training run by epoch, layer and pass; `Trainer` makes them, reports show them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from sparsetrain import accel
from sparsetrain.explanation import Explanation, explain
from sparsetrain.inspection import LayerDescription, LayerStats, describe, stats

PRICE_TABLE = "aladdin_cacti32_14nm"
"""The table in `accel.PRICES` that prices `energy_pj` in all records."""


@dataclass(frozen=True)
class LayerRecord:
    """One convolution in the recorded step.

    Densities are nonzeros / elements. Cycles and energy are those of all passes of one training
    step.

    Attributes:
        name: Name of the module; `name#2` for its second call in a step.
        kind: Class of the module, or "function" for a call without a module.
        placement: The gradient that is pruned: "output", "input" or "none".
        reason: Why `convert` chose this placement.
        rate: Pruning rate, or None.
        density: Density to prune to, or None.
        backend: Convolutions asked for; None if the layer is not converted.
        input_shape: [N, C, H, W].
        output_shape: [N, K, P, Q].
        input_density: Density of the input x.
        grad_density_unpruned: Density of the output's gradient dy in a repetition of the step in
            which nothing is pruned anywhere.
        grad_density: Density of dy as the backward convolutions get it.
        threshold: Threshold of the step's pruning; None if this layer prunes nothing.
        forward: Backend of the forward pass: "sparse" or "dense".
        grad_input: Backend of the input's gradient; None if it is not computed.
        grad_weight: Backend of the weight's gradient; None if it is not computed.
        cycles: Cycles on the SparseTrain chip.
        dense_cycles: Cycles on its dense twin.
        energy_pj: Energy on the SparseTrain chip, DRAM included.
        dense_energy_pj: Energy on its dense twin, DRAM included.
    """

    name: str
    kind: str
    placement: str
    reason: str
    rate: float | None
    density: float | None
    backend: str | None
    input_shape: list[int]
    output_shape: list[int]
    input_density: float
    grad_density_unpruned: float
    grad_density: float
    threshold: float | None
    forward: str
    grad_input: str | None
    grad_weight: str | None
    cycles: int
    dense_cycles: int
    energy_pj: float
    dense_energy_pj: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training. Densities and costs are those of its last step, over all layers.

    Attributes:
        epoch: Number of the epoch, from 1.
        train_loss: Mean cross entropy over the steps of the epoch, in nats.
        test_accuracy: Share of correctly classified test images at the end of the epoch.
        input_density: Density of the inputs of all convolutions together.
        grad_density_unpruned: As in `LayerRecord`.
        grad_density: As in `LayerRecord`.
        step_seconds: Mean wall-clock time of a step, without the recorded one.
        step_cpu_seconds: Mean processor time of a step, summed over all threads.
        cycles: Cycles of a step on the SparseTrain chip.
        dense_cycles: Cycles of a step on its dense twin.
        energy_pj: Energy of a step on the SparseTrain chip, DRAM included.
        dense_energy_pj: Energy of a step on its dense twin, DRAM included.
    """

    epoch: int
    train_loss: float
    test_accuracy: float
    input_density: float
    grad_density_unpruned: float
    grad_density: float
    step_seconds: float
    step_cpu_seconds: float
    cycles: int
    dense_cycles: int
    energy_pj: float
    dense_energy_pj: float


def layer_records(
    model: nn.Module, cost: accel.StepCost, unpruned: accel.Workload | None
) -> list[LayerRecord]:
    """Makes a record for each convolution of a recorded step, in the order of the forward pass.

    Args:
        model: The model after the step.
        cost: The step as `accel.CostMeter` recorded it.
        unpruned: A repetition of the step without pruning, or None if nothing is pruned.
    """
    described = {description.name: description for description in describe(model)}
    converted = any(description.backend is not None for description in described.values())
    measured = stats(model) if converted else {}
    unpruned_layers = unpruned.layers if unpruned else [each.layer for each in cost.layers]
    return [
        LayerRecord(
            **_conversion(each.layer, described, measured),
            input_shape=[each.layer.N, each.layer.C, each.layer.H, each.layer.W],
            output_shape=[each.layer.N, each.layer.K, each.layer.P, each.layer.Q],
            input_density=each.layer.x_density,
            grad_density_unpruned=unpruned_layer.dy_density,
            grad_density=each.layer.dy_density,
            cycles=each.cycles,
            dense_cycles=each.dense_cycles,
            energy_pj=each.energy_pj,
            dense_energy_pj=each.dense_energy_pj,
        )
        for each, unpruned_layer in zip(cost.layers, unpruned_layers, strict=True)
    ]


def _conversion(
    layer: accel.Layer,
    described: Mapping[str, LayerDescription],
    measured: Mapping[str, LayerStats],
) -> dict[str, Any]:
    """The fields of a record that conversion decides, and the backend of each pass."""
    name = layer.name.partition("#")[0]  # the second call of a shared convolution is name#2
    function = LayerDescription(name, "function", "none", "not a module", None, None, None)
    description = described.get(name, function)
    choice = _choice(layer, description.backend or "dense")
    return {
        **description._asdict(),
        "name": layer.name,
        "threshold": measured[name].threshold if name in measured else None,
        "forward": choice.forward.backend,
        "grad_input": choice.grad_input.backend if layer.needs_grad_input else None,
        "grad_weight": choice.grad_weight.backend if layer.needs_grad_weight else None,
    }


def _choice(layer: accel.Layer, backend: str) -> Explanation:
    """The backends that run for a layer with its recorded shape and densities."""
    return explain(
        (layer.N, layer.C, layer.H, layer.W),
        (layer.K, layer.C // layer.groups, layer.R, layer.S),
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        input_density=layer.x_density,
        grad_density=layer.dy_density,
        backend=backend,
    )


def density_log(epoch: int, layers: list[LayerRecord]) -> list[dict[str, Any]]:
    """The densities of every layer at the end of `epoch`: one dict for each layer."""
    fields = ("name", "input_density", "grad_density_unpruned", "grad_density", "threshold")
    return [{"epoch": epoch, **{f: getattr(layer, f) for f in fields}} for layer in layers]


def pass_records(cost: accel.StepCost, layers: list[LayerRecord]) -> list[dict[str, Any]]:
    """Makes a dict for each pass of each convolution: its counts on the chips, its backend here.

    Args:
        cost: A step as `accel.CostMeter` recorded it.
        layers: The records of the same step.

    Returns:
        Dicts with the fields in docs/formats.md. Energies are by price table, DRAM included.
    """
    priced = {name: accel.layer_rows(cost.comparison, name) for name in accel.PRICES}
    records = {layer.name: layer for layer in layers}
    shapes = {each.layer.name: each.layer for each in cost.layers}
    counts = ("name", "pass", "macs", "dense_macs", "cycles", "dense_cycles")
    rows = []
    for index, row in enumerate(priced[PRICE_TABLE]):
        choice = _choice(shapes[row["name"]], records[row["name"]].backend or "dense")
        chosen = getattr(choice, row["pass"])
        by_table = {name: table_rows[index] for name, table_rows in priced.items()}
        rows.append(
            {
                **{field: row[field] for field in counts},
                "backend": chosen.backend,
                "dense_ms": chosen.dense_ms,
                "sparse_ms": chosen.sparse_ms,
                "energy": {name: each["energy_pj"] for name, each in by_table.items()},
                "dense_energy": {name: each["dense_energy_pj"] for name, each in by_table.items()},
            }
        )
    return rows


def parts_of(step: Callable[[], object]) -> dict[str, float]:
    """Measures the milliseconds that `step` spends in each kind of operator.

    Calls `step` twice and profiles the second call with torch's profiler.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would print to stderr
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    parts = dict.fromkeys(("sparse", "compress", "dense", "prune", "normalize", "other"), 0.0)
    for event in profiler.key_averages():
        parts[_part(event.key)] += event.self_cpu_time_total / 1e3
    return parts


def _part(operator: str) -> str:
    """The kind of an operator. ATen convolutions that a sparse one calls count as dense."""
    if operator == "sparsetrain::compress":
        return "compress"
    if operator.startswith("sparsetrain::"):
        return "prune" if "prune" in operator else "sparse"
    if "batch_norm" in operator or "BatchNorm" in operator:
        return "normalize"
    return "dense" if "conv" in operator.lower() else "other"


def means(layers: list[LayerRecord]) -> dict[str, Any]:
    """The densities of an EpochRecord, over all elements, and its costs, summed over all layers."""

    def density(field: str, shape: str) -> float:
        elements = [prod(getattr(layer, shape)) for layer in layers]
        nonzeros = (getattr(layer, field) * n for layer, n in zip(layers, elements, strict=True))
        return float(sum(nonzeros) / sum(elements))

    return {
        "input_density": density("input_density", "input_shape"),
        "grad_density_unpruned": density("grad_density_unpruned", "output_shape"),
        "grad_density": density("grad_density", "output_shape"),
        "cycles": sum(layer.cycles for layer in layers),
        "dense_cycles": sum(layer.dense_cycles for layer in layers),
        "energy_pj": sum(layer.energy_pj for layer in layers),
        "dense_energy_pj": sum(layer.dense_energy_pj for layer in layers),
    }


def sparse_share(layers: list[LayerRecord]) -> float:
    """The share of convolution calls that ran sparse; every pass that runs is a call."""
    calls = [
        backend
        for layer in layers
        for backend in (layer.forward, layer.grad_input, layer.grad_weight)
        if backend is not None
    ]
    return calls.count("sparse") / len(calls)

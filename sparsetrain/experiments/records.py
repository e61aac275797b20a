"""What a run reports of its epochs, layers and passes, as docs/formats.md describes it."""

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


@dataclass(frozen=True)
class LayerRecord:
    """One convolution: what conversion made of it, and what the recorded step showed of it.

    Densities are nonzeros / elements; cycles and energy are of one training step, all passes, on
    the SparseTrain chip and on its dense twin. docs/formats.md has every field.
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
    """One epoch of training; densities and costs are of its last step."""

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
    """A record for each convolution of the step of `model` that `cost` is of, in forward order.

    `unpruned` is the same step with nothing pruned: from it come the densities before pruning. None:
    nothing was pruned.
    """
    described = {description.name: description for description in describe(model)}
    converted = any(description.backend is not None for description in described.values())
    measured = stats(model) if converted else {}
    layers = unpruned.layers if unpruned else [one.layer for one in cost.layers]
    return [
        LayerRecord(
            **_conversion(one.layer, described, measured),
            input_shape=[one.layer.N, one.layer.C, one.layer.H, one.layer.W],
            output_shape=[one.layer.N, one.layer.K, one.layer.P, one.layer.Q],
            input_density=one.layer.x_density,
            grad_density_unpruned=before.dy_density,
            grad_density=one.layer.dy_density,
            cycles=one.cycles,
            dense_cycles=one.dense_cycles,
            energy_pj=one.energy_pj,
            dense_energy_pj=one.dense_energy_pj,
        )
        for one, before in zip(cost.layers, layers, strict=True)
    ]


def _conversion(
    layer: accel.Layer,
    described: Mapping[str, LayerDescription],
    measured: Mapping[str, LayerStats],
) -> dict[str, Any]:
    """What conversion made of a recorded layer, and which backend each of its passes takes."""
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
    """What `backend` runs for a recorded layer, at the densities that it had."""
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
    """The densities of all layers at the end of `epoch`, one object a layer."""
    fields = ("name", "input_density", "grad_density_unpruned", "grad_density", "threshold")
    return [{"epoch": epoch, **{f: getattr(layer, f) for f in fields}} for layer in layers]


def pass_records(cost: accel.StepCost, layers: list[LayerRecord]) -> list[dict[str, Any]]:
    """One object a convolution and pass of the recorded step: what the CPU runs, what chips count.

    Energies are by price table, DRAM included. `layers` are the records of the same step.
    """
    priced = {name: accel.layer_rows(cost.comparison, name) for name in accel.PRICES}
    records = {layer.name: layer for layer in layers}
    shapes = {one.layer.name: one.layer for one in cost.layers}
    counts = ("name", "pass", "macs", "dense_macs", "cycles", "dense_cycles")
    rows = []
    for index, row in enumerate(priced[PRICE_TABLE]):
        choice = _choice(shapes[row["name"]], records[row["name"]].backend or "dense")
        taken = getattr(choice, row["pass"])
        tables = {name: of_table[index] for name, of_table in priced.items()}
        rows.append(
            {
                **{field: row[field] for field in counts},
                "backend": taken.backend,
                "dense_ms": taken.dense_ms,
                "sparse_ms": taken.sparse_ms,
                "energy": {name: one["energy_pj"] for name, one in tables.items()},
                "dense_energy": {name: one["dense_energy_pj"] for name, one in tables.items()},
            }
        )
    return rows


def parts_of(step: Callable[[], object]) -> dict[str, float]:
    """Milliseconds that a call of `step` spends in each kind of operator, by torch's profiler.

    `step` is called twice; the second call counts.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it greets on stderr
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    parts = dict.fromkeys(("sparse", "compress", "dense", "prune", "normalize", "other"), 0.0)
    for event in profiler.key_averages():
        parts[_part(event.key)] += event.self_cpu_time_total / 1e3
    return parts


def _part(operator: str) -> str:
    """What an operator is for; a sparse convolution's call of torch's counts as dense."""
    if operator == "sparsetrain::compress":
        return "compress"
    if operator.startswith("sparsetrain::"):
        return "prune" if "prune" in operator else "sparse"
    if "batch_norm" in operator or "BatchNorm" in operator:
        return "normalize"
    return "dense" if "conv" in operator.lower() else "other"


def means(layers: list[LayerRecord]) -> dict[str, Any]:
    """The densities and costs of an EpochRecord: over all elements, and summed over all layers."""

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
    """The share of convolution calls, three a layer or two without grad_input, that ran sparse."""
    calls = [
        backend
        for layer in layers
        for backend in (layer.forward, layer.grad_input, layer.grad_weight)
        if backend is not None
    ]
    return calls.count("sparse") / len(calls)

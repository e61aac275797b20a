"""describe and stats: what became of each convolution, and what it measured."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from sparsetrain._checks import check_module
from sparsetrain.explanation import explain
from sparsetrain.nn import SparseConv2d
from sparsetrain.pruning import ELEMENTS, NONZEROS, NONZEROS_BEFORE, PUSHES, THRESHOLD


class LayerDescription(NamedTuple):
    """One convolution: its first name in the model, its class, and what convert() made of it."""

    name: str
    kind: str
    placement: str  # "output", "input" or "none"
    reason: str  # why
    rate: float | None
    density: float | None
    backend: str | None  # None where nothing was converted


class Descriptions(list[LayerDescription]):
    """A list that prints as a table."""

    def __str__(self) -> str:
        rows = [LayerDescription._fields, *(tuple(map(_cell, row)) for row in self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)


class LayerStats(NamedTuple):
    """What one SparseConv2d measured last; None where it measured nothing.

    Densities are nonzeros / elements. grad_density is that of the output's gradient as both
    backward convolutions are given it, grad_density_before what it was before this layer's own
    pruner: the same unless that prunes the output's gradient. pruned_density_before and
    pruned_density belong to the gradient that the pruner acts on, the output's or the input's.
    forward, grad_input, grad_weight: the backend of each pass, for these densities.
    """

    input_density: float | None
    grad_density_before: float | None
    grad_density: float | None
    threshold: float | None
    forward: str | None
    grad_input: str | None
    grad_weight: str | None
    pruned_density_before: float | None
    pruned_density: float | None


def describe(model: nn.Module) -> Descriptions:
    """One row for every convolution of `model`, of any kind; print() shows a table.

    A convolution that convert() leaves alone has a reason that says why. Raises TypeError for what is
    no nn.Module.
    """
    check_module("describe", "model", model)
    return Descriptions(
        _description(name, module)
        for name, module in model.named_modules()
        if isinstance(module, _ConvNd)
    )


def stats(model: nn.Module) -> dict[str, LayerStats]:
    """What every SparseConv2d of `model` measured last, by its first name in the model.

    Reads the states here, and waits for the device here and in no training step. Densities of x,
    and of a gradient without a pruner, need measure_every > 0; the backend of `auto` needs that
    density, and one training step outside torch.compile, which tells the shape. Raises TypeError
    for what is no nn.Module and ValueError for a model without SparseConv2d.
    """
    check_module("stats", "model", model)
    measured = {
        name: _stats(module)
        for name, module in model.named_modules()
        if isinstance(module, SparseConv2d)
    }
    if not measured:
        raise ValueError(
            "sparsetrain.stats: expected model to have a SparseConv2d, got none. Convert it first"
        )
    return measured


def _description(name: str, module: nn.Module) -> LayerDescription:
    kind = type(module).__name__
    if not isinstance(module, SparseConv2d):
        return LayerDescription(name, kind, "none", _why_left_alone(module), None, None, None)
    rate = density = None
    if module.placement != "none":
        rate, density = module.pruner.rate, module.pruner.density
    return LayerDescription(
        name, kind, module.placement, module.reason, rate, density, module.backend
    )


def _why_left_alone(module: nn.Module) -> str:
    if isinstance(module, LazyModuleMixin):
        return "left alone: lazy, convert after the first forward"
    if is_parametrized(module):
        return "left alone: parametrized"
    if type(module) is nn.Conv2d:
        return "not converted"
    if isinstance(module, nn.Conv2d):
        return "left alone: subclass of nn.Conv2d"
    return "left alone: not an nn.Conv2d"


def _stats(conv: SparseConv2d) -> LayerStats:
    x = conv.input_counter.density() if "input_counter" in conv._modules else None
    before = after = threshold = None
    if conv.placement != "none":
        slots = conv.pruner.state.tolist()
        if slots[PUSHES] or slots[ELEMENTS]:
            threshold = slots[THRESHOLD]
        if slots[ELEMENTS]:
            before, after = (slots[i] / slots[ELEMENTS] for i in (NONZEROS_BEFORE, NONZEROS))
    pruned = (before, after)
    if conv.placement != "output":
        before = after = conv.grad_counter.density() if "grad_counter" in conv._modules else None
    return LayerStats(x, before, after, threshold, *_backends(conv, x, after), *pruned)


def _backends(
    conv: SparseConv2d, input_density: float | None, grad_density: float | None
) -> tuple[str | None, str | None, str | None]:
    """What the operator chooses for the shape it saw last; None where `auto` lacks a density."""
    if conv._last_call is None:
        return None, None, None
    chosen = explain(
        tuple(conv._last_call.shape),
        tuple(conv.weight.shape),
        conv.stride,
        conv._last_call.padding,
        conv.dilation,
        conv.groups,
        dtype=conv._last_call.dtype,
        input_density=1.0 if input_density is None else input_density,
        grad_density=1.0 if grad_density is None else grad_density,
        backend=conv.backend,
        device="cuda" if conv.weight.is_cuda or conv.backend == "cusparse" else "cpu",
        architecture=_architecture(conv.weight),
    )
    forced = conv.backend != "auto"
    return (
        chosen.forward.backend if forced or input_density is not None else None,
        chosen.grad_input.backend if forced or grad_density is not None else None,
        chosen.grad_weight.backend if forced or grad_density is not None else None,
    )


def _architecture(tensor: torch.Tensor) -> str | None:
    if not tensor.is_cuda:
        return None
    return ".".join(map(str, torch.cuda.get_device_capability(tensor.device)))


def _cell(value: object) -> str:
    return "-" if value is None else str(value)

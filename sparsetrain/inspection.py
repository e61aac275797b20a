"""describe and stats: what convert did to each convolution, and what each measured last."""

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
    """What ``convert`` did to one convolution.

    Attributes:
        name: Its first name in ``model.named_modules()``.
        kind: Name of its class.
        placement: The gradient it prunes: ``"output"``, ``"input"`` or ``"none"``.
        reason: Why it has this placement, or why ``convert`` skipped it.
        rate: Pruning rate; None if nothing is pruned, or if a density was given.
        density: Upper bound of the expected density; None if nothing is pruned, or if a rate was
            given.
        backend: ``backend`` of the layer; None if it is not a SparseConv2d.
    """

    name: str
    kind: str
    placement: str
    reason: str
    rate: float | None
    density: float | None
    backend: str | None


class Descriptions(list[LayerDescription]):
    """A list of ``LayerDescription`` whose ``str()`` is a table."""

    def __str__(self) -> str:
        rows = [LayerDescription._fields, *(tuple(map(_cell, row)) for row in self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)


class LayerStats(NamedTuple):
    """What one SparseConv2d measured last. Values that it did not measure are None.

    Every density is the number of nonzeros divided by the number of elements of one whole tensor,
    all images and channels together: 1 for a dense tensor, 0 for a tensor of zeros. Densities of
    the input, and of gradients that this layer does not prune, are those of the last training step
    that ``measure_every`` counted. Those of the pruned gradient are from the last backward pass.

    Attributes:
        input_density: Density of the layer's input, in the forward pass. Needs ``measure_every``.
        grad_density_before: Density of the output's gradient as it arrives from the following
            layers, before this layer's pruner. Following layers may have pruned their gradients,
            so that it can be lower than without any pruning. Equal to ``grad_density`` unless
            ``placement`` is ``"output"``.
        grad_density: Density of the output's gradient as the two backward convolutions get it.
            Needs ``measure_every`` unless ``placement`` is ``"output"``.
        threshold: Threshold of the last backward pass; 0 if it pruned nothing.
        forward: Backend of the forward pass for these densities and the shape of the last training
            call. None with backend ``"auto"`` and no density of the input, and if
            torch.compile ran all training calls.
        grad_input: Backend of the input's gradient. None as for ``forward``, but for the density of
            the output's gradient.
        grad_weight: Backend of the weight's gradient. None as for ``grad_input``.
        pruned_density_before: Density of the gradient that this layer prunes, before pruning: that
            of the output or of the input, as ``placement`` says.
        pruned_density: Density of the same gradient after pruning.
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
    """Describes every convolution of a model, converted or not.

    Args:
        model: Any module.

    Returns:
        A list with one ``LayerDescription`` for each convolution of any kind; print() shows a
        table.

    Raises:
        TypeError: ``model`` is not an nn.Module.

    Example:
        >>> print(sparsetrain.describe(model))
        name  kind          placement  reason               rate  density  backend
        0     SparseConv2d  output     next is BatchNorm2d  0.9   -        auto
    """
    check_module("describe", "model", model)
    return Descriptions(
        _description(name, module)
        for name, module in model.named_modules()
        if isinstance(module, _ConvNd)
    )


def stats(model: nn.Module) -> dict[str, LayerStats]:
    """Reports what every SparseConv2d of a model measured last: densities, threshold and backends.

    Training steps measure without synchronizing with the device; this function synchronizes.
    ``LayerStats`` says what each density means and when it is measured.

    Args:
        model: A converted model.

    Returns:
        One ``LayerStats`` for each layer, by its first name in ``model.named_modules()``.

    Raises:
        TypeError: ``model`` is not an nn.Module.
        ValueError: The model has no SparseConv2d.
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
        return LayerDescription(name, kind, "none", _why_skipped(module), None, None, None)
    rate = density = None
    if module.placement != "none":
        rate, density = module.pruner.rate, module.pruner.density
    return LayerDescription(
        name, kind, module.placement, module.reason, rate, density, module.backend
    )


def _why_skipped(module: nn.Module) -> str:
    if isinstance(module, LazyModuleMixin):
        return "skipped: lazy, convert after the first forward"
    if is_parametrized(module):
        return "skipped: parametrized"
    if type(module) is nn.Conv2d:
        return "not converted"
    if isinstance(module, nn.Conv2d):
        return "skipped: subclass of nn.Conv2d"
    return "skipped: not an nn.Conv2d"


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
    """The backends that run the last call's shape; None where `auto` needs an unknown density."""
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

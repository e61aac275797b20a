"""Functions that change an existing model: convert, revert, set_rate; thresholds of all pruners."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from sparsetrain import ops
from sparsetrain._checks import check_count, check_module, check_name
from sparsetrain.distributed import has_process_group
from sparsetrain.nn import PLACEMENTS, SparseConv2d
from sparsetrain.placement import Decision, decide
from sparsetrain.pruning import (
    DEFAULT_HISTORY,
    HEADER,
    PruneGrad,
    derive_seed,
    target,
)

_log = logging.getLogger(__name__)
_OVERRIDE_KEYS = ("rate", "density", "placement", "backend")
_ATTRIBUTES = ("backend", "check_finite", "placement", "reason", "_last_call")
_CHILDREN = ("pruner", "input_counter", "grad_counter")
M = TypeVar("M", bound=nn.Module)


class _Plan(NamedTuple):
    """The arguments of SparseConv2d that one convolution gets."""

    placement: str
    reason: str
    rate: float | None
    density: float | None
    backend: str


def convert(
    model: M,
    rate: float | None = None,
    *,
    density: float | None = None,
    history: int = DEFAULT_HISTORY,
    backend: str = "auto",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    measure_every: int = 0,
    check_finite: bool = False,
) -> M:
    """Turns every nn.Conv2d of a model into a SparseConv2d, in place.

    The modules remain the same objects, with the same Parameters, hooks and ``state_dict`` keys.
    Optimizers, DDP and other references to them stay valid, so that convert can run before or after
    their construction. Subclasses of nn.Conv2d, lazy and parametrized convolutions are skipped;
    ``describe`` lists them with the reason.

    The structure of the model decides which gradient each layer prunes: that of the output before a
    norm, that of the input before a ReLU, none in a first layer before a ReLU and in depthwise
    convolutions. ``describe`` shows the decisions, ``overrides`` changes them.

    A second call gives the same result as a single call with its arguments, with one exception: a
    pruner whose placement and history do not change keeps its random state and its history.

    Args:
        model: Any module that contains an nn.Conv2d, or is one.
        rate: Pruning rate in [0, 1), see ``PruneGrad``; 0.9 if neither it nor a density is given.
        density: Upper bound of the expected density after pruning, in (0, 1], instead of a rate.
        history: Number of past backward passes that predict a threshold, see ``PruneGrad``.
        backend: ``"auto"``, ``"sparse"``, ``"dense"`` or ``"cusparse"``, see ``SparseConv2d``.
        overrides: Settings of single layers: maps a layer's name or a pattern of ``fnmatch`` to a
            dict with some of the keys ``rate`` or ``density``, ``placement`` and ``backend``. If
            several entries match a layer, they apply in their order, its full name last.
        measure_every: n > 0 counts nonzeros in every n-th training step, see ``SparseConv2d``.
        check_finite: Run calls with Inf or NaN on the dense backend, see ``SparseConv2d``.

    Returns:
        The model.

    Raises:
        TypeError, ValueError: An argument has the wrong type or is out of range, an override
            matches no layer, or the model has no nn.Conv2d. The model is then unchanged.

    Example:
        >>> model = torchvision.models.resnet18()
        >>> sparsetrain.convert(model, rate=0.9, overrides={"layer1.*": {"rate": 0.7}})
        >>> print(sparsetrain.describe(model))
    """
    target(rate, density, "convert")
    check_count("convert", "history", history)
    check_count("convert", "measure_every", measure_every)
    check_name("convert", "backend", backend, ops.BACKENDS)
    convs = _convertible(model, "convert")
    chosen = _overrides_by_layer({} if overrides is None else overrides, convs)
    decisions = decide(model)
    base = {"rate": rate, "density": density, "backend": backend}
    plans = {name: _plan(decisions[name], base, chosen[name]) for name in convs}
    for name, conv in convs.items():
        plan = plans[name]
        pruner = _pruner(name, conv, plan, history)
        if type(conv) is nn.Conv2d:
            conv.__class__ = SparseConv2d
            conv._last_call = None  # type: ignore[assignment]
        assert isinstance(conv, SparseConv2d)
        conv.configure(
            pruner, plan.placement, plan.reason, plan.backend, measure_every, check_finite
        )
        _log.debug("%s: prunes %s, %s", name, plan.placement, plan.reason)
    _log.info("%d convolutions of %s converted", len(convs), type(model).__name__)
    return model


def revert(model: M) -> M:
    """Turns every SparseConv2d of a model back into an nn.Conv2d, in place.

    Removes all that convert added. A layer that was parametrized after convert stays parametrized.

    Args:
        model: Any module. One without SparseConv2d does not change.

    Returns:
        The model.

    Raises:
        TypeError: ``model`` is not an nn.Module.
    """
    check_module("revert", "model", model)
    for conv in list(model.modules()):
        if type(conv) is SparseConv2d or (is_parametrized(conv) and _is_converted(conv)):
            for name in _CHILDREN:
                conv._modules.pop(name, None)
            for name in _ATTRIBUTES:
                conv.__dict__.pop(name, None)
            conv.__class__ = _plain_class(type(conv))
    return model


def _is_converted(module: nn.Module) -> bool:
    """Whether torch.nn.utils.parametrize derived the class of this module from SparseConv2d."""
    return type(module).__bases__ == (SparseConv2d,)


def _plain_class(converted: type[nn.Module]) -> type[nn.Module]:
    """The class of a reverted layer.

    A class that parametrize derived from SparseConv2d is made again on nn.Conv2d rather than
    changed, because copies of a module share its class.
    """
    if converted is SparseConv2d:
        return nn.Conv2d
    inherited = ("__dict__", "__weakref__")
    members = {k: v for k, v in vars(converted).items() if k not in inherited}
    return type(f"Parametrized{nn.Conv2d.__name__}", (nn.Conv2d,), members)


def set_rate(model: nn.Module, rate: float | None = None, *, density: float | None = None) -> None:
    """Sets the rate or density of every pruner of a model, from its next backward pass on.

    It also replaces rates and densities that ``overrides`` of ``convert`` set. The new thresholds
    apply at once, because a pruner's history holds means of ``|g|``, not thresholds. Call it once
    an epoch, for example, for a schedule.

    Args:
        model: A converted model, or one that contains a ``PruneGrad``.
        rate: In [0, 1).
        density: In (0, 1], instead of a rate.

    Raises:
        TypeError: ``model`` is not an nn.Module, or a value is not a number.
        ValueError: Not exactly one of rate and density, a value out of range, or a model without
            pruners.

    Example:
        >>> for epoch in range(30):
        ...     sparsetrain.set_rate(model, min(0.9, 0.5 + 0.1 * epoch))
        ...     train(model)
    """
    check_module("set_rate", "model", model)
    if rate is None and density is None:
        raise ValueError("sparsetrain.set_rate: expected one of rate and density, got neither")
    target(rate, density, "set_rate")
    for pruner in _pruners(model, "set_rate"):
        pruner.set_rate(rate, density=density)


def average_thresholds(model: nn.Module) -> None:
    """Gives the pruners of all ranks equal thresholds: the mean of every history over the ranks.

    Afterwards, thresholds differ again as each rank pushes the means of its own gradients. Call it
    on all ranks, after the same number of backward passes, whenever thresholds must be equal.
    Random numbers still differ between ranks. Pruners with ``history=0`` have nothing to average.

    Args:
        model: A converted model.

    Raises:
        TypeError: ``model`` is not an nn.Module.
        ValueError: The model has no pruners.
        RuntimeError: No process group is initialized.
    """
    check_module("average_thresholds", "model", model)
    pruners = _pruners(model, "average_thresholds")
    if not has_process_group():
        raise RuntimeError(
            "sparsetrain.average_thresholds: expected a process group to be initialized, got none"
        )
    for pruner in pruners:
        means = pruner.state[HEADER:]
        dist.all_reduce(means)
        means /= dist.get_world_size()


def rescale_thresholds(model: nn.Module, ratio: float | Tensor) -> None:
    """Multiplies the history of every pruner by a ratio, and thus the threshold.

    For a loss scale that changed between two backward passes. Without this call, thresholds reach
    the new scale after ``history`` backward passes; with ``history=0`` it has no effect and is not
    needed.

    Args:
        model: A converted model.
        ratio: New scale / old scale: a number, or a tensor of one element. On a GPU, the tensor is
            read without synchronizing with the device, and its value is not checked.

    Raises:
        TypeError: ``model`` is not an nn.Module, or ``ratio`` not a number.
        ValueError: The model has no pruners, or the ratio is not finite and positive.

    Example:
        >>> before = scaler.get_scale()
        >>> scaler.update()
        >>> sparsetrain.rescale_thresholds(model, scaler.get_scale() / before)
    """
    check_module("rescale_thresholds", "model", model)
    message = "sparsetrain.rescale_thresholds: expected ratio to be"
    scalar = ratio.numel() == 1 if isinstance(ratio, Tensor) else isinstance(ratio, Real)
    if not scalar or isinstance(ratio, bool):
        got = f"{ratio.numel()} elements" if isinstance(ratio, Tensor) else repr(ratio)
        raise TypeError(f"{message} a number or a tensor of one element, got {got}")
    on_device = isinstance(ratio, Tensor) and ratio.device.type != "cpu"
    if not on_device and not 0 < float(ratio) < math.inf:
        raise ValueError(f"{message} finite and positive, got {float(ratio)}")
    factor = ratio.detach().reshape(()) if isinstance(ratio, Tensor) else float(ratio)
    for pruner in _pruners(model, "rescale_thresholds"):
        pruner.state[HEADER:] *= factor


def _pruners(model: nn.Module, function: str) -> list[PruneGrad]:
    pruners = [module for module in model.modules() if isinstance(module, PruneGrad)]
    if not pruners:
        raise ValueError(
            f"sparsetrain.{function}: expected model to have a PruneGrad, got none. "
            "Convert it first"
        )
    return pruners


def _convertible(model: nn.Module, function: str) -> dict[str, nn.Conv2d]:
    """The layers that convert changes, by the first name of each.

    Refuses an nn.Conv2d that has an attribute by a name that SparseConv2d uses.
    """
    check_module(function, "model", model)
    convs: dict[str, nn.Conv2d] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and type(module) in (nn.Conv2d, SparseConv2d)
    }
    if not convs:
        raise ValueError(
            f"sparsetrain.{function}: expected model to have an nn.Conv2d, got none "
            f"in a {type(model).__name__}. describe(model) lists the skipped convolutions"
        )
    taken = {*_ATTRIBUTES, *_CHILDREN, *vars(SparseConv2d)}
    for name, conv in convs.items():
        clashing = taken & {*conv.__dict__, *conv._modules, *conv._buffers, *conv._parameters}
        if type(conv) is nn.Conv2d and clashing:
            attribute = min(clashing)
            raise ValueError(
                f"sparsetrain.{function}: expected {name!r} to have no attribute {attribute!r}, "
                f"got a {type(getattr(conv, attribute)).__name__}. "
                "Rename it, because SparseConv2d has an attribute of this name"
            )
    return convs


def _overrides_by_layer(
    overrides: Mapping[str, Mapping[str, Any]], convs: Mapping[str, nn.Conv2d]
) -> dict[str, dict[str, Any]]:
    """Checks the overrides and returns the settings that apply to each convolution."""
    if not isinstance(overrides, Mapping):
        raise TypeError(f"sparsetrain.convert: expected overrides to be a dict, got {overrides!r}")
    for key, settings in overrides.items():
        _check_override(key, settings)
        if not any(name == key or fnmatchcase(name, key) for name in convs):
            raise ValueError(
                f"sparsetrain.convert: expected override {key!r} to match an nn.Conv2d, "
                f"got none of {_listed(list(convs))}"
            )
    chosen: dict[str, dict[str, Any]] = {name: {} for name in convs}
    for name, merged in chosen.items():
        patterns = [key for key in overrides if key != name and fnmatchcase(name, key)]
        for key in [*patterns, *([name] if name in overrides else [])]:
            merged.update(_with_one_target(overrides[key]))
    return chosen


def _check_override(key: str, settings: Mapping[str, Any]) -> None:
    function = f"convert, override {key!r}"
    if not isinstance(key, str):
        raise TypeError(f"sparsetrain.{function}: expected a name or a pattern, got {key!r}")
    if not isinstance(settings, Mapping):
        raise TypeError(f"sparsetrain.{function}: expected a dict, got {settings!r}")
    for name in settings:
        check_name(function, "every key", name, _OVERRIDE_KEYS)
    target(settings.get("rate"), settings.get("density"), function)
    if "placement" in settings:
        check_name(function, "placement", settings["placement"], PLACEMENTS)
    if "backend" in settings:
        check_name(function, "backend", settings["backend"], ops.BACKENDS)


def _with_one_target(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lets a rate replace the density of an earlier entry, and a density the rate."""
    if "rate" in settings or "density" in settings:
        return {"rate": None, "density": None, **settings}
    return dict(settings)


def _plan(decision: Decision, base: Mapping[str, Any], chosen: Mapping[str, Any]) -> _Plan:
    merged = {**base, **chosen}
    placement, reason = decision
    if "placement" in chosen:
        placement, reason = chosen["placement"], "override"
    elif placement == "none" and ("rate" in chosen or "density" in chosen):
        reason += "; an override prunes here only with a placement"
    return _Plan(placement, reason, merged["rate"], merged["density"], merged["backend"])


def _pruner(name: str, conv: nn.Conv2d, plan: _Plan, history: int) -> PruneGrad:
    """The pruner that the convolution has, if it can be kept; otherwise a new one."""
    if isinstance(conv, SparseConv2d) and _keeps_pruner(conv, plan, history):
        conv.pruner.set_rate(plan.rate, density=plan.density)
        return conv.pruner
    return PruneGrad(plan.rate, history, density=plan.density, seed=derive_seed(name))


def _keeps_pruner(conv: SparseConv2d, plan: _Plan, history: int) -> bool:
    return conv.placement == plan.placement != "none" and conv.pruner.history == history


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"

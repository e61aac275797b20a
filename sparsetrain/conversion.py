"""convert, revert and set_rate: sparse training for a model that exists; and its thresholds."""

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
    """What one convolution becomes."""

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
    """Turns every nn.Conv2d of `model` into a SparseConv2d, in place, and returns `model`.

    The modules stay the same objects with the same Parameters, hooks and state_dict keys, so that
    an optimizer, DDP or a second name of a shared module still hold what they held. Subclasses of
    nn.Conv2d, lazy and parametrized ones are left alone; describe() names them. Where each pruner
    goes is decided from the model's structure.

    rate, density, history, backend, measure_every, check_finite: as for SparseConv2d.
    overrides: {name, or fnmatch pattern: {"rate" or "density", "placement", "backend"}} for single
        convolutions. Patterns apply in their order, a full name last.

    Converting again ends where converting once with the last arguments would, except that a pruner
    that stays where it is, with the same history, goes on with its randomness and thresholds.
    Raises TypeError or ValueError, with the model untouched, for arguments out of range, an
    override that matches nothing, or a model without an nn.Conv2d.
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
    """Turns every SparseConv2d of `model` back into an nn.Conv2d, in place, and returns `model`.

    Nothing of the conversion remains in the modules, and what was parametrized since stays so.
    A model without SparseConv2d is left as it is.
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
    """Whether torch.nn.utils.parametrize made this module's class from SparseConv2d itself."""
    return type(module).__bases__ == (SparseConv2d,)


def _plain_class(converted: type[nn.Module]) -> type[nn.Module]:
    """nn.Conv2d for SparseConv2d; of what parametrize made from that, the same from nn.Conv2d.

    A class anew, as copies of a module share theirs.
    """
    if converted is SparseConv2d:
        return nn.Conv2d
    inherited = ("__dict__", "__weakref__")
    members = {k: v for k, v in vars(converted).items() if k not in inherited}
    return type(f"Parametrized{nn.Conv2d.__name__}", (nn.Conv2d,), members)


def set_rate(model: nn.Module, rate: float | None = None, *, density: float | None = None) -> None:
    """Sets the rate or density of every pruner of `model`, from its next backward pass on.

    That includes those that an override of convert() gave a rate of their own. Thresholds follow at
    once, because a pruner remembers mean|g| and not its thresholds.
    Raises TypeError or ValueError for values out of range or a model without pruners.
    """
    check_module("set_rate", "model", model)
    if rate is None and density is None:
        raise ValueError("sparsetrain.set_rate: expected one of rate and density, got neither")
    target(rate, density, "set_rate")
    for pruner in _pruners(model, "set_rate"):
        pruner.set_rate(rate, density=density)


def average_thresholds(model: nn.Module) -> None:
    """Gives the pruners of all ranks the same history, the mean of theirs, and so one threshold.

    Each rank goes on from there by its own gradients; call it whenever they shall agree again, on
    every rank and with the same number of backward passes behind them. Each keeps its randomness.
    Raises TypeError for what is no nn.Module, ValueError for a model without pruners, RuntimeError
    without a process group.
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
    """Multiplies what the pruners remember of past gradients by `ratio`, and so their thresholds.

    For a loss scale that changed between two backward passes: new scale / old scale, a number or a
    tensor of one element, which on a GPU is neither waited for nor checked. Without this call
    thresholds follow after `history` backward passes.
    Raises TypeError for what is no nn.Module or no number, ValueError for a ratio that is not
    finite and positive or for a model without pruners.
    """
    check_module("rescale_thresholds", "model", model)
    where = "sparsetrain.rescale_thresholds: expected ratio to be"
    scalar = ratio.numel() == 1 if isinstance(ratio, Tensor) else isinstance(ratio, Real)
    if not scalar or isinstance(ratio, bool):
        got = f"{ratio.numel()} elements" if isinstance(ratio, Tensor) else repr(ratio)
        raise TypeError(f"{where} a number or a tensor of one element, got {got}")
    waits = isinstance(ratio, Tensor) and ratio.device.type != "cpu"
    if not waits and not 0 < float(ratio) < math.inf:
        raise ValueError(f"{where} finite and positive, got {float(ratio)}")
    factor = ratio.detach().reshape(()) if isinstance(ratio, Tensor) else float(ratio)
    for pruner in _pruners(model, "rescale_thresholds"):
        pruner.state[HEADER:] *= factor


def _pruners(model: nn.Module, where: str) -> list[PruneGrad]:
    pruners = [module for module in model.modules() if isinstance(module, PruneGrad)]
    if not pruners:
        raise ValueError(
            f"sparsetrain.{where}: expected model to have a PruneGrad, got none. Convert it first"
        )
    return pruners


def _convertible(model: nn.Module, where: str) -> dict[str, nn.Conv2d]:
    """The convolutions of exactly type nn.Conv2d, or converted ones, by their first name.

    Refuses one with an attribute of its own where a SparseConv2d has one.
    """
    check_module(where, "model", model)
    convs: dict[str, nn.Conv2d] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and type(module) in (nn.Conv2d, SparseConv2d)
    }
    if not convs:
        raise ValueError(
            f"sparsetrain.{where}: expected model to have an nn.Conv2d, got none "
            f"in a {type(model).__name__}. describe(model) lists what was left alone"
        )
    taken = {*_ATTRIBUTES, *_CHILDREN, *vars(SparseConv2d)}
    for name, conv in convs.items():
        own = taken & {*conv.__dict__, *conv._modules, *conv._buffers, *conv._parameters}
        if type(conv) is nn.Conv2d and own:
            got = type(getattr(conv, min(own))).__name__
            raise ValueError(
                f"sparsetrain.{where}: expected {name!r} to have no attribute {min(own)!r} of its "
                f"own, got a {got}. A SparseConv2d has one by that name"
            )
    return convs


def _overrides_by_layer(
    overrides: Mapping[str, Mapping[str, Any]], convs: Mapping[str, nn.Conv2d]
) -> dict[str, dict[str, Any]]:
    """The settings of every convolution that has some of its own; checks all of them first."""
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
    where = f"convert, override {key!r}"
    if not isinstance(key, str):
        raise TypeError(f"sparsetrain.{where}: expected a name or a pattern, got {key!r}")
    if not isinstance(settings, Mapping):
        raise TypeError(f"sparsetrain.{where}: expected a dict, got {settings!r}")
    for name in settings:
        check_name(where, "every key", name, _OVERRIDE_KEYS)
    target(settings.get("rate"), settings.get("density"), where)
    if "placement" in settings:
        check_name(where, "placement", settings["placement"], PLACEMENTS)
    if "backend" in settings:
        check_name(where, "backend", settings["backend"], ops.BACKENDS)


def _with_one_target(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A rate takes the place of an inherited density, and the other way round."""
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
    """The convolution's own pruner where it can go on, else a new one."""
    if isinstance(conv, SparseConv2d) and _stays(conv, plan, history):
        conv.pruner.set_rate(plan.rate, density=plan.density)
        return conv.pruner
    return PruneGrad(plan.rate, history, density=plan.density, seed=derive_seed(name))


def _stays(conv: SparseConv2d, plan: _Plan, history: int) -> bool:
    return conv.placement == plan.placement != "none" and conv.pruner.history == history


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"

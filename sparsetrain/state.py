"""pruning_state and load_pruning_state: random state and history of pruners, for checkpoints."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sparsetrain.cost_table import adopt_costs, costs
from sparsetrain.distributed import rank_and_world
from sparsetrain.pruning import (
    ABS_SUM,
    DENSITY,
    FACTOR,
    HEADER,
    LAYOUT,
    RATE,
    RESUMED,
    THRESHOLD,
    PruneGrad,
)

VERSION = 2
_KEYS = ("version", "world_size", "rank", "costs", "pruners")


def pruning_state(model: nn.Module) -> dict[str, Any]:
    """Returns what a checkpoint needs besides the ``state_dict`` to resume pruning bit for bit.

    Under torch.distributed every rank has a different state: save one per rank.

    Args:
        model: A converted model, or one that contains a ``PruneGrad``.

    Returns:
        A dict that ``torch.load(weights_only=True)`` accepts, with these entries:

        - ``"version"``: 2.
        - ``"world_size"``, ``"rank"``: those of this process.
        - ``"costs"``: ``costs()``, because they decide which kernels run.
        - ``"pruners"``: the state of each pruner, a float64 tensor [15 + history] on the CPU, by
          the name of its module.

    Example:
        >>> torch.save({"model": model.state_dict(), "pruning": pruning_state(model)}, "run.pt")
    """
    rank, world_size = rank_and_world()
    pruners = {name: p.state.detach().to("cpu", copy=True) for name, p in _pruners(model).items()}
    return {
        "version": VERSION,
        "world_size": world_size,
        "rank": rank,
        "costs": costs(),
        "pruners": pruners,
    }


def load_pruning_state(model: nn.Module, state: dict[str, Any], *, strict: bool = True) -> None:
    """Loads what ``pruning_state`` returned into a model converted with the same arguments.

    Every pruner's rate or density becomes the saved one. The table of costs becomes the saved one
    for the whole process; if the saved one has another instruction set, the processor's costs stay.

    Args:
        model: A converted model.
        state: What ``pruning_state`` returned.
        strict: Refuse what would change the random masks: another world size or rank in this call;
            another batch size or memory format in the first backward pass, except one smaller
            batch, the last of an epoch. With False the run resumes, but not bit for bit.

    Raises:
        TypeError: ``state`` or one of its entries has the wrong type.
        ValueError: Another version, other pruners, another history, impossible values, or, with
            ``strict``, another world size or rank. Nothing is loaded then.

    Example:
        >>> loaded = torch.load("run.pt", weights_only=True)
        >>> model.load_state_dict(loaded["model"])
        >>> load_pruning_state(model, loaded["pruning"])
    """
    pruners = _pruners(model)
    saved = _checked(state, pruners)
    rank, world_size = rank_and_world()
    if strict:
        _check_equal("world size", world_size, state["world_size"])
        _check_equal("rank", rank, state["rank"])
    adopt_costs(state["costs"])
    for name, pruner in pruners.items():
        pruner.state.copy_(saved[name])
        # Makes the next prune_step compare its gradient with the saved sizes and layout.
        pruner.state[RESUMED] = float(strict)
        pruner.rank = state["rank"]  # if it is another rank, the next forward pass shifts the seed


def _pruners(model: nn.Module) -> dict[str, PruneGrad]:
    return {name: m for name, m in model.named_modules() if isinstance(m, PruneGrad)}


def _checked(state: Any, pruners: dict[str, PruneGrad]) -> dict[str, Tensor]:
    """Checks all that does not depend on `strict`; returns the saved tensor of each pruner."""
    if not isinstance(state, dict) or not all(key in state for key in _KEYS):
        got = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
        got = got or "an empty dict"
        raise TypeError(_message("state", f"a dict with the keys {', '.join(_KEYS)}", got))
    if state["version"] != VERSION:
        raise ValueError(_message("the state's version", VERSION, state["version"]))
    for key, kind in (("world_size", int), ("rank", int), ("costs", dict), ("pruners", dict)):
        if not isinstance(state[key], kind):
            got = type(state[key]).__name__
            raise TypeError(_message(f"the state's {key}", f"of type {kind.__name__}", got))
    saved: dict[str, Tensor] = state["pruners"]
    missing, unexpected = (
        sorted(pruners.keys() - saved.keys()),
        sorted(saved.keys() - pruners.keys()),
    )
    if missing or unexpected:
        got = f"{_first_names(missing)} missing and {_first_names(unexpected)} unexpected"
        raise ValueError(
            _message("the state's pruners", f"the model's {len(pruners)}", got)
            + ". Convert the model with the arguments it was trained with"
        )
    for name, pruner in pruners.items():
        values = saved[name]
        if not isinstance(values, Tensor) or values.dtype != torch.float64 or values.dim() != 1:
            raise TypeError(
                _message(f"the state of {name!r}", "a float64 vector", _type_and_rank(values))
            )
        if values.numel() != pruner.state.numel():
            history = values.numel() - HEADER
            raise ValueError(_message(f"the history of {name!r}", pruner.history, history))
        if (slot := _impossible(values)) is not None:
            got = f"{values[slot].item()} in slot {slot}"
            raise ValueError(_message(f"the state of {name!r}", "possible values", got))
    return saved


def _impossible(values: Tensor) -> int | None:
    """The first slot with a value that no pruner writes, for example in a damaged file."""
    limits = [2.0**53] * HEADER + [math.inf] * (values.numel() - HEADER)
    limits[THRESHOLD] = limits[FACTOR] = math.inf
    limits[LAYOUT], limits[RATE], limits[DENSITY] = 4, 1, math.nextafter(1, 2)
    fractional = (THRESHOLD, FACTOR, RATE, DENSITY)  # other slots before the FIFO hold integers
    for slot, (value, limit) in enumerate(zip(values.tolist(), limits, strict=True)):
        integer = slot < HEADER and slot not in fractional
        possible = 0 <= value < limit and not (integer and value % 1)
        if not possible and slot != ABS_SUM:  # NaN or Inf if the last gradient contained them
            return slot
    return None


def _check_equal(name: str, wanted: int, got: int) -> None:
    if got != wanted:
        raise ValueError(
            _message(f"the state's {name}", wanted, got)
            + ". Save and load one state per rank, or pass strict=False to resume with other masks"
        )


def _message(name: str, wanted: object, got: object) -> str:
    return f"sparsetrain.load_pruning_state: expected {name} to be {wanted}, got {got}"


def _first_names(names: list[str]) -> str:
    shown = ", ".join(names[:3]) or "none"
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _type_and_rank(value: object) -> str:
    return f"{value.dtype} of rank {value.dim()}" if isinstance(value, Tensor) else repr(value)

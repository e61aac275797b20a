"""pruning_state and load_pruning_state: the pruners' randomness and history in a checkpoint."""

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
    """What a checkpoint must hold, beside the state_dict, to resume pruning bit for bit.

    Returns {"version": 2, "world_size": int, "rank": int, "costs": costs(), "pruners": {module
    name: float64 tensor of 15 + history values}}, copied to the CPU; torch.load(weights_only=True)
    accepts it. Under torch.distributed every rank has a state of its own: save one per rank.
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
    """Loads what pruning_state() returned into a model converted the same way, in place.

    The costs by which `auto` chooses become the saved ones, for the whole process, but those of the
    CPU where another instruction set runs here. Every pruner's rate or density becomes the saved
    one, as an optimizer's learning rate does. With strict, another world size or rank is refused
    here, and another batch size or memory format by the first backward pass (one smaller batch, the
    remainder of an epoch, is let through): each of them would change the masks. strict=False
    resumes all the same, not bit for bit.
    Raises TypeError for a state that is no such dict, ValueError for another version, other
    pruners, another history or impossible values; then nothing is loaded.
    """
    pruners = _pruners(model)
    saved = _checked(state, pruners)
    rank, world_size = rank_and_world()
    if strict:
        _expect_same("world size", world_size, state["world_size"])
        _expect_same("rank", rank, state["rank"])
    adopt_costs(state["costs"])
    for name, pruner in pruners.items():
        pruner.state.copy_(saved[name])
        # Makes the next prune_step compare its gradient with the saved sizes and layout.
        pruner.state[RESUMED] = float(strict)
        pruner.rank = state["rank"]  # a seed saved by another rank is shifted by the next forward


def _pruners(model: nn.Module) -> dict[str, PruneGrad]:
    return {name: m for name, m in model.named_modules() if isinstance(m, PruneGrad)}


def _checked(state: Any, pruners: dict[str, PruneGrad]) -> dict[str, Tensor]:
    """The saved tensors, once everything that does not depend on `strict` is found in order."""
    if not isinstance(state, dict) or not all(key in state for key in _KEYS):
        got = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise TypeError(_sentence("state", f"a dict with the keys {', '.join(_KEYS)}", got))
    if state["version"] != VERSION:
        raise ValueError(_sentence("the state's version", VERSION, state["version"]))
    for key, kind in (("world_size", int), ("rank", int), ("costs", dict), ("pruners", dict)):
        if not isinstance(state[key], kind):
            got = type(state[key]).__name__
            raise TypeError(_sentence(f"the state's {key}", f"of type {kind.__name__}", got))
    saved: dict[str, Tensor] = state["pruners"]
    missing, unexpected = (
        sorted(pruners.keys() - saved.keys()),
        sorted(saved.keys() - pruners.keys()),
    )
    if missing or unexpected:
        got = f"{_some(missing)} missing and {_some(unexpected)} unexpected"
        raise ValueError(
            _sentence("the state's pruners", f"the model's {len(pruners)}", got)
            + ". Convert the model with the arguments it was trained with"
        )
    for name, pruner in pruners.items():
        values = saved[name]
        if not isinstance(values, Tensor) or values.dtype != torch.float64 or values.dim() != 1:
            raise TypeError(_sentence(f"the state of {name!r}", "a float64 vector", _kind(values)))
        if values.numel() != pruner.state.numel():
            history = values.numel() - HEADER
            raise ValueError(_sentence(f"the history of {name!r}", pruner.history, history))
        if (slot := _impossible(values)) is not None:
            got = f"{values[slot].item()} in slot {slot}"
            raise ValueError(_sentence(f"the state of {name!r}", "one of possible values", got))
    return saved


def _impossible(values: Tensor) -> int | None:
    """The first slot with a value that no pruner writes, as where bytes were damaged."""
    limits = [2.0**53] * HEADER + [math.inf] * (values.numel() - HEADER)
    limits[THRESHOLD] = limits[FACTOR] = math.inf
    limits[LAYOUT], limits[RATE], limits[DENSITY] = 4, 1, math.nextafter(1, 2)
    real = (THRESHOLD, FACTOR, RATE, DENSITY)  # the others, before the FIFO, are whole numbers
    for slot, (value, limit) in enumerate(zip(values.tolist(), limits, strict=True)):
        whole = slot < HEADER and slot not in real
        possible = 0 <= value < limit and not (whole and value % 1)
        if not possible and slot != ABS_SUM:  # the last gradient may have held NaN or Inf
            return slot
    return None


def _expect_same(what: str, wanted: int, got: int) -> None:
    if got != wanted:
        raise ValueError(
            _sentence(f"the state's {what}", wanted, got)
            + ". Save and load one state per rank, or pass strict=False to resume with other masks"
        )


def _sentence(what: str, wanted: object, got: object) -> str:
    return f"sparsetrain.load_pruning_state: expected {what} to be {wanted}, got {got}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3]) or "none"
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _kind(value: object) -> str:
    return f"{value.dtype} of rank {value.dim()}" if isinstance(value, Tensor) else repr(value)

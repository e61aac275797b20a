"""Checks of arguments, each raising one sentence that names argument, expectation and value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn


def check_rank(function: str, name: str, shape: Sequence[int], ranks: tuple[int, ...]) -> None:
    if len(shape) not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ValueError(
            f"sparsetrain.{function}: expected {name} to have {wanted} dimensions, "
            f"got {list(shape)}"
        )


def check_tensor(function: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"sparsetrain.{function}: expected {name} to be a tensor, got {type(value).__name__}"
        )
    if value.layout != torch.strided:
        raise TypeError(
            f"sparsetrain.{function}: expected {name} to be a dense (strided) tensor, "
            f"got {value.layout}"
        )


def check_integer(function: str, name: str, value: object) -> None:
    if not isinstance(value, int | torch.SymInt):
        raise TypeError(f"sparsetrain.{function}: expected {name} to be an integer, got {value!r}")


def one_of(value: object, known: tuple[str, ...], what: str, where: str) -> None:
    """Raises ValueError, in the name of `where`, unless `value` is one of the known names."""
    if value not in known:
        names = ", ".join(known)
        raise ValueError(
            f"sparsetrain.{where}: expected {what} to be one of {names}, got {value!r}"
        )


def number(value: Any, what: str, interval: str, where: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(
            f"sparsetrain.{where}: expected {what} to be a number in {interval}, got {value!r}"
        )
    return float(value)


def whole_number(value: Any, what: str, where: str, below: int | None = None) -> int:
    """`value` when it is an int in [0, below), else TypeError or ValueError."""
    wanted = "an int of at least 0" + (f" and below {below}" if below is not None else "")
    message = f"sparsetrain.{where}: expected {what} to be {wanted}, got {value!r}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(message)
    if value < 0 or (below is not None and value >= below):
        raise ValueError(message)
    return value


def expect_module(model: object, where: str) -> None:
    """Raises TypeError, in the name of `where`, when `model` is no nn.Module."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"sparsetrain.{where}: expected model to be an nn.Module, got {type(model).__name__}"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """What an error says after an unknown name: the known name most like it, then all of them."""
    names = sorted(known)
    like = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"did you mean {like[0]!r}? known are {', '.join(names)}"

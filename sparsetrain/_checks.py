"""Checks of arguments for all modules of the package; each raises one sentence in one form.

Every check takes the name of the function that the message starts with, the name of the argument,
and its value, in this order.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

IntPair = int | Sequence[int]


def check_rank(function: str, name: str, shape: Sequence[int], ranks: tuple[int, ...]) -> None:
    """Raises ValueError unless the number of dimensions of `shape` is one of `ranks`."""
    if len(shape) not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ValueError(
            f"sparsetrain.{function}: expected {name} to have {wanted} dimensions, "
            f"got {list(shape)}"
        )


def check_tensor(function: str, name: str, value: object) -> None:
    """Raises TypeError unless `value` is a tensor of the strided layout."""
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
    """Raises TypeError unless `value` is an int, or the symbolic one that torch.compile passes."""
    if not isinstance(value, int | torch.SymInt):
        raise TypeError(f"sparsetrain.{function}: expected {name} to be an integer, got {value!r}")


def check_pair(function: str, name: str, value: IntPair) -> tuple[int, int]:
    """Returns (vertical, horizontal); raises ValueError unless `value` is one integer or two."""
    pair = (value, value) if isinstance(value, int | torch.SymInt) else value
    if isinstance(pair, Sequence) and len(pair) == 1:
        pair = (pair[0], pair[0])
    if (
        not isinstance(pair, Sequence)
        or len(pair) != 2
        or not all(isinstance(number, int | torch.SymInt) for number in pair)
    ):
        raise ValueError(
            f"sparsetrain.{function}: expected {name} to be one integer or two, got {value!r}"
        )
    if any(isinstance(number, int) and abs(number) >= 2**63 for number in pair):
        raise ValueError(
            f"sparsetrain.{function}: expected {name} to be integers below 2^31, got {value!r}"
        )
    return pair[0], pair[1]


def check_padding(
    function: str,
    padding: IntPair | str,
    kernel: Sequence[int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Resolves padding given as integers, "same" or "valid".

    Returns:
        The zeros on each side of (height, width), and the odd zeros that "same" adds at the
        end only.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str) and padding != "same":
        raise ValueError(
            f"sparsetrain.{function}: expected padding to be 'same', 'valid' or integers, "
            f"got {padding!r}"
        )
    if not isinstance(padding, str):
        return check_pair(function, "padding", padding), (0, 0)
    if stride != (1, 1):
        raise ValueError(
            f"sparsetrain.{function}: expected stride to be 1 for padding='same', got {stride}"
        )
    down, right = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    return (down // 2, right // 2), (down % 2, right % 2)


def check_count(function: str, name: str, value: Any, below: int | None = None) -> int:
    """Returns `value`; raises TypeError or ValueError unless it is an int in [0, below)."""
    wanted = "an int of at least 0" + (f" and below {below}" if below is not None else "")
    message = f"sparsetrain.{function}: expected {name} to be {wanted}, got {value!r}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(message)
    if value < 0 or (below is not None and value >= below):
        raise ValueError(message)
    return value


def check_number(function: str, name: str, value: Any, interval: str) -> float:
    """Returns float(value); raises TypeError for anything but a real number.

    The caller checks the range; `interval` only appears in the message.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(
            f"sparsetrain.{function}: expected {name} to be a number in {interval}, got {value!r}"
        )
    return float(value)


def check_name(function: str, name: str, value: object, known: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of the `known` names."""
    if value not in known:
        similar = difflib.get_close_matches(value, known, n=1) if isinstance(value, str) else []
        hint = f". Did you mean {similar[0]!r}?" if similar else ""
        raise ValueError(
            f"sparsetrain.{function}: expected {name} to be one of {', '.join(known)}, "
            f"got {value!r}{hint}"
        )


def check_module(function: str, name: str, value: object) -> None:
    """Raises TypeError unless `value` is an nn.Module."""
    if not isinstance(value, nn.Module):
        raise TypeError(
            f"sparsetrain.{function}: expected {name} to be an nn.Module, "
            f"got {type(value).__name__}"
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the most similar known name, then all of them."""
    names = sorted(known)
    similar = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"did you mean {similar[0]!r}? known are {', '.join(names)}"

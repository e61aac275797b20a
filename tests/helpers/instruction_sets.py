"""Runs code with another instruction set than the one in force."""

from collections.abc import Iterator
from contextlib import contextmanager

from sparsetrain._native import _C


@contextmanager
def instruction_set(name: str) -> Iterator[str]:
    """Yields the instruction set that runs inside: `name`, or the best one if there is no `name`."""
    before = _C.isa()
    _C.set_isa(name)
    try:
        yield _C.isa()
    finally:
        _C.set_isa(before)

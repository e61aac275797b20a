"""Runs code with another instruction set than the one in force."""

from collections.abc import Iterator
from contextlib import contextmanager

from sparsetrain._native import _C


@contextmanager
def instruction_set(name: str) -> Iterator[str]:
    """Yields what runs inside: `name`, or the best instruction set if this machine lacks it."""
    before = _C.isa()
    _C.set_isa(name)
    try:
        yield _C.isa()
    finally:
        _C.set_isa(before)

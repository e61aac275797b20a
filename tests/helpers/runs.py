"""Short training runs, and the comparison of their states."""

from collections.abc import Iterable
from typing import Any

import torch

from sparsetrain.experiments.settings import Settings

TINY = Settings(rate=0.9, epochs=2, batch_size=24, learning_rate=0.02)
"""Eight steps an epoch on the 192 images of small_data.write()."""


def exhaust(iterable: Iterable[Any]) -> None:
    """Goes through `iterable` to its end."""
    for _ in iterable:
        pass


def assert_bit_equal(one: Any, other: Any) -> None:
    """Fails unless two nested states are equal, tensors bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_bit_equal(one[key], other[key])
    elif isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            assert_bit_equal(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other

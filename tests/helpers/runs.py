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


def assert_bit_equal(found: Any, expected: Any) -> None:
    """Fails unless two nested states are equal, tensors bit for bit."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key in found:
            assert_bit_equal(found[key], expected[key])
    elif isinstance(found, list):
        for left, right in zip(found, expected, strict=True):
            assert_bit_equal(left, right)
    elif isinstance(found, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected

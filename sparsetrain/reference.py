"""Pruning in plain PyTorch, written from its definition.

Tests and `sparsetrain doctor` compare the operators with it, bit for bit. It uses nothing else of
this package.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def _multiply(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of word * multiplier.

    The unsigned 64-bit product does not fit in int64, so the multiplier is split into halves.
    """
    low, high = word * (multiplier & 0xFFFF), word * (multiplier >> 16)
    middle = (low >> 16) + (high & 0xFFFF)
    return (high >> 16) + (middle >> 16), ((middle & 0xFFFF) << 16) | (low & 0xFFFF)


def philox(counter: Tensor, key: int) -> Tensor:
    """Philox4x32-10, a counter-based random number generator (Salmon et al., SC 2011).

    Args:
        counter: int64 [n, 4], words in [0, 2^32), least significant first.
        key: In [0, 2^64).

    Returns:
        int64 [n, 4]: random words in [0, 2^32).
    """
    c0, c1, c2, c3 = counter.unbind(1)
    k0, k1 = key & _WORD, key >> 32
    for _ in range(10):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return torch.stack([c0, c1, c2, c3], 1)


def uniforms(n: int, seed: int, offset: int) -> Tensor:
    """The random numbers that n elements draw, in their order in memory.

    Elements 4 i to 4 i + 3 take the four words of counter ``offset + i``; a number is the low 24
    bits of a word.

    Args:
        n: Number of elements.
        seed: Philox key, in [0, 2^63).
        offset: Philox counter of the first four elements, in [0, 2^63).

    Returns:
        int64 [n]: multiples of 2^-24 in [0, 1), as integers in [0, 2^24).
    """
    block = torch.arange((n + 3) // 4, dtype=torch.int64) + offset
    zero = torch.zeros_like(block)
    counter = torch.stack([block & _WORD, block >> 32, zero, zero], 1)
    return (philox(counter, seed).flatten() & 0xFFFFFF)[:n]


def prune(grad: Tensor, threshold: float, seed: int, offset: int = 0) -> Tensor:
    """Prunes a gradient stochastically; bit-equal to ``ops.prune``.

    With the threshold t rounded to the data type of grad and r the element's random number in
    [0, 1): an element with ``|g| <= r * t`` becomes 0, any other with ``|g| < t`` becomes
    ``sign(g) * t``. A threshold that is not finite or not positive counts as 0.

    Args:
        grad: Floating-point tensor of any shape, contiguous.
        threshold: Any number.
        seed, offset: As for ``uniforms``.
    """
    rounded = torch.tensor(threshold, dtype=torch.float64).to(grad.dtype)
    if not (torch.isfinite(rounded) and rounded > 0):
        rounded = torch.zeros_like(rounded)
    compute = torch.float64 if grad.dtype == torch.float64 else torch.float32
    t, g = rounded.to(compute), grad.flatten().to(compute)
    cut = uniforms(g.numel(), seed, offset).to(compute) * (t * 2.0**-24)
    value = torch.where(g.abs() < t, torch.copysign(t, g), g)
    out = torch.where(g.abs() <= cut, torch.zeros_like(g), value)
    return out.to(grad.dtype).view_as(grad)


def abs_sum(grad: Tensor) -> float:
    """Sum of ``|g|``, in the order of additions that all implementations share.

    In a chunk of 2,048 elements, element i is added to lane i % 256 in float32 (float64 for a
    float64 gradient); then the lanes are added pairwise. The sum of chunk j is added to lane
    j % 1024 in float64; then these lanes are added pairwise.

    Args:
        grad: Floating-point tensor of any shape, contiguous.
    """
    compute = torch.float64 if grad.dtype == torch.float64 else torch.float32
    g = grad.flatten().to(compute).abs()
    chunks = -(-g.numel() // 2048)
    padded = torch.zeros(chunks * 2048, dtype=compute)
    padded[: g.numel()] = g
    sums = _add_lanes(padded.view(chunks, 8, 256)).double()
    rows = -(-chunks // 1024)
    wide = torch.zeros(rows * 1024, dtype=torch.float64)
    wide[:chunks] = sums
    return float(_add_lanes(wide.view(1, rows, 1024)))


def _add_lanes(values: Tensor) -> Tensor:
    """Adds values [n, rows, lanes] row after row, then lanes pairwise; returns [n]."""
    lane = torch.zeros_like(values[:, 0])
    for row in values.unbind(1):
        lane = lane + row
    while lane.shape[1] > 1:
        half = lane.shape[1] // 2
        lane = lane[:, :half] + lane[:, half:]
    return lane[:, 0]

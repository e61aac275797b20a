"""Draws the fuzzer's cases: calls of every operator, each determined by a seed and an index."""

import math
import random
from dataclasses import dataclass

import torch

DTYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Sizes around every vector width (4, 8, 16), block (16 to 64) and tile, and multiples of none.
CHANNELS = (*range(1, 10), 15, 16, 17, 20, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100, 127, 128, 129)
SIZES = (*range(1, 20), 23, 28, 31, 32, 33, 56, 63, 64, 65, 127, 128, 129, 200, 255, 257)
KERNELS = (1, 1, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 11, 13)
LAYOUTS = ("contiguous", "channels_last", "permuted", "sliced", "expanded", "overlapping")
SCALES = ("normal", "denormal", "huge", "mixed")
POISONS = (float("inf"), float("-inf"), float("nan"))
MACS = 300_000  # multiply-adds of most cases, which bounds their time


@dataclass(frozen=True)
class Operand:
    """Memory layout and contents of a tensor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int  # of its first element in its storage
    density: float
    scale: str
    poison: tuple[float, ...]  # non-finite values, each stored at one random place
    seed: int


@dataclass(frozen=True)
class Conv:
    """A convolution and its gradient."""

    dtype: torch.dtype
    x: Operand
    w: Operand
    bias: Operand | None
    dy: Operand
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int
    needs_grad: tuple[bool, bool, bool]  # of x, w and bias
    threads: int
    valid: bool  # whether the call should be accepted


@dataclass(frozen=True)
class Prune:
    """A call of `prune`, also run as a `prune_step` with the same threshold."""

    dtype: torch.dtype
    grad: Operand
    threshold: float
    seed: int
    offset: int
    threads: int


def tensor(operand, dtype):
    """Allocates the operand; its storage ends with its last element, so that overruns are found."""
    reach = [(n - 1) * s for n, s in zip(operand.shape, operand.strides, strict=True)]
    length = operand.offset + (0 if 0 in operand.shape else 1 + sum(reach))
    g = torch.Generator().manual_seed(operand.seed)
    values = torch.randn(length, generator=g, dtype=torch.float64)
    info = torch.finfo(dtype)
    if operand.scale == "denormal":
        values *= info.tiny
    elif operand.scale == "huge":
        values *= info.max / 8
    elif operand.scale == "mixed":
        octaves = min(40, math.log2(info.max) / 2)
        values *= 2 ** ((torch.rand(length, generator=g) * 2 - 1) * octaves).double()
    values = values.clamp(info.min, info.max)
    # Multiplying by 0 makes zeros of both signs.
    values *= torch.rand(length, generator=g) < operand.density
    for poison in operand.poison:
        at = operand.offset + int(torch.randint(1 << 30, (), generator=g)) % max(1, length)
        if at < length:
            values[at] = poison
    return values.to(dtype).as_strided(operand.shape, operand.strides, operand.offset)


def _strides(r, shape, layout):
    """Strides of a layout in elements; a dimension of size 1 may have any stride."""
    if layout == "overlapping":
        return tuple(r.randint(0, 5) for _ in shape)
    order = list(range(len(shape)))
    if layout == "channels_last":
        order = [*order[:-3], *order[-2:], len(shape) - 3]
    elif layout == "permuted":
        r.shuffle(order)
    gaps = (1, 1, 2, 3) if layout == "sliced" else (1,)
    strides, step = [0] * len(shape), 1
    for d in reversed(order):
        strides[d] = step * r.choice(gaps)
        step = strides[d] * (max(1, shape[d]) + r.choice(gaps) - 1)
    if layout == "expanded":
        for d in r.sample(range(len(shape)), r.randint(1, len(shape))):
            strides[d] = 0
    for d, n in enumerate(shape):
        if n == 1 and r.random() < 0.2:
            strides[d] = r.choice((0, 1, 7))
    return tuple(strides)


def _operand(r, shape, scale="normal", poison=(), density=None):
    layout = r.choice(("contiguous", "channels_last", "channels_last", r.choice(LAYOUTS)))
    if len(shape) < 3:
        layout = r.choice(("contiguous", "expanded", "sliced"))
    return Operand(
        shape=tuple(shape),
        strides=_strides(r, shape, layout),
        offset=r.choice((0, 0, 0, 1, 3, 8, 16)),
        density=r.choice((0.0, 0.05, 0.3, 0.7, 1.0)) if density is None else density,
        scale=scale,
        poison=poison,
        seed=r.randrange(2**31),
    )


def _geometry(r):
    """Draws sizes and geometry of a convolution."""
    groups = r.choice((1, 1, 1, 1, 2, 3, 5, 16))
    depthwise = groups > 3
    c = groups if depthwise else groups * r.choice(CHANNELS)
    k = groups * (r.choice((1, 1, 2)) if depthwise else r.choice(CHANNELS))
    kernel = (r.choice(KERNELS), r.choice(KERNELS))
    if r.random() < 0.5:
        kernel = (kernel[0], kernel[0])
    dilation = (r.choice((1, 1, 1, 2, 3)), r.choice((1, 1, 1, 2, 3)))
    padding = r.choice(("same", "valid", *[(r.randint(0, 6), r.randint(0, 6)) for _ in range(8)]))
    stride = (r.choice((1, 1, 2, 3, 5)), r.choice((1, 1, 2, 3, 5)))
    if padding == "same":
        stride = (1, 1)
    size = (r.choice(SIZES), r.choice(SIZES))
    return r.choice((None, 0, 1, 1, 2, 3, 5)), c, k, size, kernel, stride, padding, dilation, groups


def _output(size, kernel, stride, padding, dilation):
    out = []
    for d in range(2):
        reach = dilation[d] * (kernel[d] - 1)
        both = reach if padding == "same" else 0 if padding == "valid" else 2 * padding[d]
        out.append((size[d] + both - reach - 1) // stride[d] + 1)
    return out


def _conv(r):
    large = r.random() < 0.004  # a result so large that it is written with non-temporal stores
    while True:
        n, c, k, size, kernel, stride, padding, dilation, groups = _geometry(r)
        if large:
            n, c, k, kernel, groups = 1, r.choice((1, 3)), r.choice((16, 32)), (1, 1), 1
            size, stride = (r.choice((300, 321)), r.choice((320, 333))), (1, 1)
        p, q = _output(size, kernel, stride, padding, dilation)
        macs = (n or 1) * p * q * k * c // groups * kernel[0] * kernel[1]
        if min(p, q) >= 1 and (large or macs <= MACS * r.choice((0.02, 0.1, 1, 1, 4))):
            break
    batch = () if n is None else (n,)
    valid = r.random() > 0.02
    if not valid:  # one dimension is empty, too small, or contradicts another
        c, k, size, groups = r.choice(
            ((c, k, (0, size[1]), groups), (c, k, (size[0], 0), groups), (c, 0, size, groups),
             (c, k, (1, 1), groups), (c, k, size, groups + 1))
        )  # fmt: skip
        p, q = _output(size, kernel, stride, padding, dilation)
    kind = r.random()
    scales = [r.choice(SCALES) if kind < 0.2 else "normal" for _ in range(4)]
    poisons = [()] * 4
    if 0.2 <= kind < 0.32:
        amount = r.choice((1, 1, 2))
        for i in r.sample(range(4), amount):
            poisons[i] = tuple(r.choice(POISONS) for _ in range(r.choice((1, 1, 3))))
    return Conv(
        dtype=r.choice(DTYPES),
        x=_operand(r, (*batch, c, *size), scales[0], poisons[0]),
        w=_operand(r, (k, c // groups, *kernel), scales[1], poisons[1], density=r.choice((0.5, 1))),
        bias=_operand(r, (k,), scales[2], poisons[2]) if r.random() < 0.5 else None,
        dy=_operand(r, (*batch, k, max(0, p), max(0, q)), scales[3], poisons[3]),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        needs_grad=r.choice(((True,) * 3, (True,) * 3, tuple(r.random() < 0.5 for _ in range(3)))),
        threads=r.choice((1, 1, 1, 1, 1, 1, 1, 2, 3)),
        valid=valid,
    )


def _prune(r):
    rank = r.randint(1, 5)
    shape = [r.choice((0, 1, 2, 3, 4, 5, 8, 15, 17)) for _ in range(rank)]
    if rank == 1:
        shape = [r.choice((*SIZES, 2047, 2048, 2049, 4097, 32768, 70_000))]
    dtype = r.choice(DTYPES)
    scale = r.choice(("normal", "normal", *SCALES))
    poison = tuple(r.choice(POISONS) for _ in range(r.choice((0, 0, 0, 1, 4))))
    info = torch.finfo(dtype)
    odd = (0.0, -1.0, *POISONS, info.tiny, info.tiny / 4, info.max, info.max * 0.3, 1e-3, 1e30)
    return Prune(
        dtype=dtype,
        grad=_operand(r, shape, scale, poison),
        threshold=r.choice((0.3, 1.0, 1.7, r.uniform(0, 3), r.choice(odd))),
        seed=r.choice((0, r.randrange(2**31), r.randrange(2**53))),
        offset=r.choice((0, r.randrange(1000), 2**32 - 3, 2**52)),
        threads=r.choice((1, 1, 1, 3)),
    )


def draw(seed, index):
    """The case with number `index` of a run: a Conv or a Prune."""
    r = random.Random(f"sparsetrain {seed} {index}")
    return _prune(r) if r.random() < 0.15 else _conv(r)

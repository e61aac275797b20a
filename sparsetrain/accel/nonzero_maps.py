"""Counts and bits of the nonzeros of one operand of a convolution; used by recording.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sparsetrain.accel.core import Bitmap, ConvShape, Maps, Trace, nonzero_maps, window_variance

_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class NonzeroMaps:
    """The nonzeros of a tensor [N,C,H,W].

    It takes 4 bytes for each pixel, 8 for each channel, and one bit for each element of `bits`.

    Attributes:
        map: [N*H*W], the number of channels that are nonzero at a pixel.
        channels: [C], the number of nonzeros of a channel, over images and pixels.
        row_var: Mean over (n, h) of the variance over channels of a row's number of nonzeros.
        bits: One bit for each element of the first images.
    """

    map: NDArray[np.int32]
    channels: NDArray[np.int64]
    row_var: float
    bits: Bitmap

    @property
    def nonzeros(self) -> int:
        """Number of nonzero elements, for the whole batch."""
        return int(self.channels.sum())


def _words(tensor: Tensor) -> NDArray[Any]:
    view: NDArray[Any] = tensor.view(_WORDS[tensor.element_size()]).numpy()
    return view


def begin_nonzero_maps(tensor: Tensor, images: int) -> Callable[[], NonzeroMaps]:
    """Begins to count the nonzeros of a tensor, and returns a function that returns the result.

    A CPU tensor is read once, without a copy, with any strides and dtype. On other devices this
    function only launches the counting and does not synchronize. The returned function then waits
    and copies the result to the CPU.

    Args:
        tensor: [N,C,H,W].
        images: The number of images whose bits are kept, at least one.
    """
    tensor = tensor.detach()
    images = min(max(images, 1), tensor.shape[0])
    if tensor.device.type != "cpu":
        return begin_nonzero_maps_on_device(tensor, images)
    words = _words(tensor)
    is_float = tensor.is_floating_point()
    maps = NonzeroMaps(*nonzero_maps(words, is_float), Bitmap(words, is_float, images))
    return lambda: maps


def begin_nonzero_maps_on_device(tensor: Tensor, images: int) -> Callable[[], NonzeroMaps]:
    """Does the work of `begin_nonzero_maps` with PyTorch operators on the device of the tensor."""
    nonzero = tensor != 0
    pixels, channels = nonzero.sum(1, dtype=torch.int32), nonzero.sum((0, 2, 3))
    row_var = nonzero.sum(3).double().var(1, unbiased=False).mean()
    kept = nonzero[:images]
    bits = F.pad(kept.flatten(), (0, -kept.numel() % 8)).view(-1, 8)
    place = 1 << torch.arange(8, dtype=torch.uint8, device=tensor.device)
    packed = (bits * place).sum(1, dtype=torch.uint8)
    shape = kept.shape  # finish() uses the shape, so that the unpacked tensors are freed

    def finish() -> NonzeroMaps:
        unpacked = np.unpackbits(packed.cpu().numpy(), count=shape.numel(), bitorder="little")
        return NonzeroMaps(
            pixels.cpu().numpy().ravel(),
            channels.cpu().numpy(),
            float(row_var),
            Bitmap(unpacked.reshape(shape)),
        )

    return finish


def maps_of(x: NonzeroMaps, dy: NonzeroMaps, images: int, shape: ConvShape) -> Maps:
    """Returns the maps of a layer from those of its operands, for a batch of `images`.

    The variance of the window counts is that of the images kept as bits.
    """
    return Maps(
        images=images,
        x_map=x.map,
        dy_map=dy.map,
        x_channel_nnz=x.channels,
        dy_channel_nnz=dy.channels,
        x_row_nnz_var=x.row_var,
        dy_row_nnz_var=dy.row_var,
        window_var=window_variance(x.bits, shape),
    )


def trace_of(x: NonzeroMaps, dy: NonzeroMaps) -> Trace:
    """Returns the trace of a layer from the bits of its operands, with the mask x != 0."""
    return Trace(x.bits, dy.bits)

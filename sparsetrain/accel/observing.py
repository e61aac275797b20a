"""What is kept of one operand of a convolution: counts and bits, never the tensor."""

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
class Observed:
    """Zeros of a tensor [N,C,H,W]: 4 bytes a pixel, 8 a channel, one bit an element of `bits`."""

    map: NDArray[np.int32]  # [N*H*W]: nonzero channels of a pixel
    channels: NDArray[np.int64]  # [C]: nonzeros over images and pixels
    row_var: float  # mean over (n, h) of the variance over channels of a row's nonzeros
    bits: Bitmap  # of the first images

    @property
    def nonzeros(self) -> int:
        """Elements that are not zero, whole batch."""
        return int(self.channels.sum())


def _words(tensor: Tensor) -> NDArray[Any]:
    view: NDArray[Any] = tensor.view(_WORDS[tensor.element_size()]).numpy()
    return view


def observe_tensor(tensor: Tensor, images: int) -> Callable[[], Observed]:
    """Counts of the whole batch and the bits of the first `images` (at least one) images.

    A CPU tensor is read once where it lies, whatever its strides and dtype. On other devices the
    counting is only begun here, nothing waits for it, and one bit an element of `images` images is
    kept; what is returned waits, and copies to the CPU.
    """
    tensor = tensor.detach()
    images = min(max(images, 1), tensor.shape[0])
    if tensor.device.type != "cpu":
        return observe_on_device(tensor, images)
    words = _words(tensor)
    is_float = tensor.is_floating_point()
    seen = Observed(*nonzero_maps(words, is_float), Bitmap(words, is_float, images))
    return lambda: seen


def observe_on_device(tensor: Tensor, images: int) -> Callable[[], Observed]:
    """The same by operators of PyTorch, on the device of `tensor`, without waiting for it."""
    nonzero = tensor != 0
    pixels, channels = nonzero.sum(1, dtype=torch.int32), nonzero.sum((0, 2, 3))
    row_var = nonzero.sum(3).double().var(1, unbiased=False).mean()
    kept = nonzero[:images]
    bits = F.pad(kept.flatten(), (0, -kept.numel() % 8)).view(-1, 8)
    place = 1 << torch.arange(8, dtype=torch.uint8, device=tensor.device)
    packed = (bits * place).sum(1, dtype=torch.uint8)
    shape = kept.shape  # all that finish() needs of the tensors before packing

    def finish() -> Observed:
        unpacked = np.unpackbits(packed.cpu().numpy(), count=shape.numel(), bitorder="little")
        return Observed(
            pixels.cpu().numpy().ravel(),
            channels.cpu().numpy(),
            float(row_var),
            Bitmap(unpacked.reshape(shape)),
        )

    return finish


def maps_of(x: Observed, dy: Observed, images: int, shape: ConvShape) -> Maps:
    """Maps of a whole batch of `images`; windows vary as in the images kept as bits."""
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


def trace_of(x: Observed, dy: Observed) -> Trace:
    """The recorded bits, the gradient mask being x != 0."""
    return Trace(x.bits, dy.bits)

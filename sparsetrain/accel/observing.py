"""What is kept of one operand of a convolution: counts and bits, never the tensor."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsetrain.accel.core import Bitmap, ConvShape, Maps, Trace, observe, window_variance

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


def observe_tensor(tensor: Tensor, images: int) -> Observed:
    """Counts of the whole batch and the bits of the first `images` (at least one) images.

    A CPU tensor is read once where it lies, whatever its strides and dtype; on other devices the
    counting happens there and one bit an element of `images` images comes over.
    """
    tensor = tensor.detach()
    images = min(max(images, 1), tensor.shape[0])
    if tensor.device.type == "cpu":
        words = _words(tensor)
        is_float = tensor.is_floating_point()
        return Observed(*observe(words, is_float), Bitmap(words, is_float, images))
    nonzero = tensor != 0
    rows = nonzero.sum(3).double()
    return Observed(
        nonzero.sum(1, dtype=torch.int32).cpu().numpy().ravel(),
        nonzero.sum((0, 2, 3)).cpu().numpy(),
        float(rows.var(1, unbiased=False).mean()),
        Bitmap(_words(nonzero[:images].cpu())),
    )


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

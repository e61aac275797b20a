"""Random layers of the cost model, layers with given zeros, and counts of their multiplications."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from sparsetrain import accel
from sparsetrain.accel.core import Bitmap, Trace


@st.composite
def layers(draw, *, largest=9, densities=True):
    """A convolution with any kernel, stride, padding, dilation and groups that has an output."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    r, s = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    low_h = max(1, dilation[0] * (r - 1) + 1 - 2 * padding[0])
    low_w = max(1, dilation[1] * (s - 1) + 1 - 2 * padding[1])
    unit = st.floats(0, 1) if densities else st.just(1.0)
    return accel.Layer(
        name="conv",
        N=draw(st.integers(1, 3)),
        C=groups * draw(st.integers(1, 4)),
        H=draw(st.integers(low_h, low_h + largest)),
        W=draw(st.integers(low_w, low_w + largest)),
        K=groups * draw(st.integers(1, 4)),
        R=r,
        S=s,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=padding,
        dilation=dilation,
        groups=groups,
        x_density=draw(unit),
        dy_density=draw(unit),
        mask_density=draw(unit),
    )


def dense_multiplications(layer):
    """Multiplications of a pass whose operands are all inside the image: torch convolves ones."""
    x = torch.ones(layer.N, layer.C, layer.H, layer.W, dtype=torch.float64)
    w = torch.ones(layer.K, layer.C // layer.groups, layer.R, layer.S, dtype=torch.float64)
    geometry = layer.stride, layer.padding, layer.dilation, layer.groups
    return int(nn.functional.conv2d(x, w, None, *geometry).sum())


def effectual_multiplications(layer, x, dy, mask):
    """Multiplications of two nonzeros by enumeration: forward, grad_input (masked), grad_weight."""
    forward = grad_input = grad_weight = 0
    cg, kg = layer.C // layer.groups, layer.K // layer.groups
    for p, q, r, s in np.ndindex(layer.P, layer.Q, layer.R, layer.S):
        h = p * layer.stride[0] + r * layer.dilation[0] - layer.padding[0]
        w = q * layer.stride[1] + s * layer.dilation[1] - layer.padding[1]
        if not (0 <= h < layer.H and 0 <= w < layer.W):
            continue
        for g in range(layer.groups):
            inputs = x[:, g * cg : (g + 1) * cg, h, w].astype(int)
            kept = mask[:, g * cg : (g + 1) * cg, h, w].astype(int)
            grad = dy[:, g * kg : (g + 1) * kg, p, q].astype(int)
            forward += kg * inputs.sum()
            grad_input += (kept.sum(1) * grad.sum(1)).sum()
            grad_weight += (inputs.sum(1) * grad.sum(1)).sum()
    return forward, grad_input, grad_weight


def traced(layer, x, dy, mask=None):
    """A copy of the layer with these zeros; x, dy and mask are arrays of 0 and 1."""
    x, dy = np.asarray(x, np.uint8), np.asarray(dy, np.uint8)
    bits = None if mask is None else Bitmap(np.asarray(mask, np.uint8))
    return replace(
        layer,
        x_density=float(x.mean()),
        dy_density=float(dy.mean()),
        mask_density=float(x.mean() if mask is None else np.mean(mask)),
        trace=Trace(Bitmap(x), Bitmap(dy), bits),
    )


@st.composite
def traced_layers(draw):
    """A random layer with random zeros, and its x, dy and mask as arrays."""
    layer = draw(layers(largest=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = rng.uniform(0, 1, 3)
    x = rng.random((layer.N, layer.C, layer.H, layer.W)) < density[0]
    dy = rng.random((layer.N, layer.K, layer.P, layer.Q)) < density[1]
    mask = rng.random(x.shape) < density[2] if draw(st.booleans()) else None
    return traced(layer, x, dy, mask), x, dy, x if mask is None else mask

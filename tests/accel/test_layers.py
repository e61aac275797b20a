"""sparsetrain.accel.layers: densities of a workload, and the layers that it refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from sparsetrain import accel
from sparsetrain.accel.core import Bitmap, Maps, Trace


def test_outputs_have_the_density_of_the_neighbor_that_reads_them():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    work = accel.workload(
        model, (3, 12, 12), 2, x_density={"0": 1.0, "2": 0.25}, dy_density={"0": 0.5, "2": 0.125}
    )
    first, second = work.layers
    assert (first.name, second.name) == ("0", "2")
    assert not first.needs_grad_input
    assert second.needs_grad_input
    assert first.y_density == second.x_density == second.mask_density == 0.25
    assert second.dx_density == first.dy_density == 0.5
    x0, x1 = 3 * 12 * 12, 8 * 10 * 10
    assert math.isclose(work.x_density, (x0 + 0.25 * x1) / (x0 + x1))
    d0, d1 = 8 * 10 * 10, 8 * 8 * 8
    assert math.isclose(work.dy_density, (0.5 * d0 + 0.125 * d1) / (d0 + d1))


REFUSED = {
    "at least one convolution": lambda: accel.Workload(()),
    "x_density to be in": lambda: work(4, 4, 1, 3, 3, x_density=1.5),
    "groups to divide": lambda: work(4, 4, 1, 3, 3, C=3, groups=2),
    "kernel to fit": lambda: work(2, 2, 1, 3, 3),
    "at most 1e18": lambda: work(2**10, 2**10, 2**10, 1, 1, N=2**20, C=2**10),
    "strides, dilations": lambda: work(4, 4, 1, 3, 3, stride=(0, 1)),
    r"padding to be in \[0, 2\^24\], got 0 and -1": lambda: work(4, 4, 1, 1, 1, padding=(0, -1)),
}


def work(H, W, K, R, S, N=1, C=1, **fields):
    return accel.Workload((accel.Layer("a", N, C, H, W, K, R, S, **fields),))


@pytest.mark.parametrize("message", REFUSED)
def test_impossible_layers_are_refused_in_one_sentence(message):
    with pytest.raises(ValueError, match=message) as error:
        REFUSED[message]()
    assert "\n" not in str(error.value)
    assert "expected" in str(error.value)


# Changes to the maps of a layer with one pixel. In x one of two channels is not zero, so that its
# density is .5; in dy the only filter is not zero.
CONTRADICTIONS = {
    "agree with density 0.5": {"x_map": [2], "x_channel_nnz": [1, 1]},
    "sum to equal its sum over channels, got 1": {"x_channel_nnz": [1, 1]},
    r"counts to be in \[0, 2\], got 3": {"x_map": [3]},
    "have 1 pixels an image and 2 channels, got 2 pixels of 1 images and 2 channels": {
        "x_map": [1, 0]
    },
    "1 channels, got 1 pixels of 1 images and 2 channels": {"dy_channel_nnz": [1, 0]},
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_maps_that_contradict_their_layer_are_refused(message):
    right = {"x_map": [1], "dy_map": [1], "x_channel_nnz": [1, 0], "dy_channel_nnz": [1]}
    layer = accel.Layer("a", 1, 2, 1, 1, 1, 1, 1, x_density=0.5)

    def with_maps(numbers):
        variances = {"x_row_nnz_var": 0.25, "dy_row_nnz_var": 0.0, "window_var": 0.25}
        maps = Maps(images=1, **{**right, **numbers}, **variances)
        return accel.Workload((replace(layer, maps=maps),))

    assert accel.estimate(with_maps({})).layers[0].grad_weight.macs == 1
    with pytest.raises(ValueError, match=message):
        with_maps(CONTRADICTIONS[message])


def test_a_trace_of_another_shape_is_refused():
    layer = accel.Layer("a", 1, 1, 3, 3, 1, 1, 1)
    small = Bitmap(np.ones((1, 1, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="trace of x to be"):
        accel.Workload((replace(layer, trace=Trace(small, small)),))

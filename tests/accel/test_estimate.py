"""The closed form: counts against torch's own convolutions, laws of reports, chips, prices."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparsetrain import accel
from sparsetrain.accel.core import Maps


@st.composite
def layers(draw, *, largest=9, densities=True):
    """A convolution of any kernel, stride, padding, dilation and groups that has an output."""
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


def products(layer):
    """Multiplications whose both operands are inside the image: torch convolves ones."""
    x = torch.ones(layer.N, layer.C, layer.H, layer.W, dtype=torch.float64)
    w = torch.ones(layer.K, layer.C // layer.groups, layer.R, layer.S, dtype=torch.float64)
    geometry = layer.stride, layer.padding, layer.dilation, layer.groups
    return int(nn.functional.conv2d(x, w, None, *geometry).sum())


@settings(deadline=None, max_examples=100)
@given(layers(densities=False))
def test_the_dense_twin_multiplies_what_torch_multiplies(layer):
    report = accel.estimate(accel.Workload((layer,)), accel.dense_twin168).layers[0]
    for _, counts in report.passes:
        assert counts.macs == products(layer)


@settings(deadline=None, max_examples=100)
@given(layers())
def test_laws_of_a_report(layer):
    chip = accel.sparsetrain168
    work = accel.Workload((layer,))
    report = accel.estimate(work, chip)
    (rows,) = report.layers
    assert accel.estimate(work, chip).total == report.total
    expected = products(layer)
    tolerance = {"abs": 1}
    assert rows.forward.macs == pytest.approx(expected * layer.x_density, **tolerance)
    assert rows.grad_input.macs == pytest.approx(
        expected * layer.dy_density * layer.mask_density, **tolerance
    )
    assert rows.grad_weight.macs == pytest.approx(
        expected * layer.dy_density * layer.x_density, **tolerance
    )
    assert rows.forward.row_ops == rows.grad_input.row_ops == rows.grad_weight.row_ops
    for _, c in rows.passes:
        assert c.busy_cycles == pytest.approx(c.macs + c.row_ops, abs=2)
        assert c.cycles + 1 >= c.busy_cycles / chip.pes
        assert c.cycles + 1 >= c.port_bytes / (chip.port_bytes_per_cycle * chip.pe_groups)
        dram = c.dram_read_bytes + c.dram_write_bytes
        assert c.cycles + 1 >= dram / chip.dram_bytes_per_cycle


@given(layers())
def test_energy_is_linear_and_its_parts_sum(layer):
    report = accel.estimate(accel.Workload((layer,)))
    e = report.energy("eyeriss_ratios")
    assert e.chip_pj == pytest.approx(e.mac_pj + e.register_pj + e.buffer_pj)
    assert e.total_pj == pytest.approx(e.chip_pj + e.dram_pj)
    doubled = accel.Prices(
        mac_pj=2, register_pj=2, buffer_read_pj=12, buffer_write_pj=12, dram_pj=400
    )
    assert report.energy_pj(doubled) == pytest.approx(2 * report.energy_pj("eyeriss_ratios"))
    only_macs = accel.Prices(
        mac_pj=1, register_pj=0, buffer_read_pj=0, buffer_write_pj=0, dram_pj=0
    )
    assert report.energy_pj(only_macs) == report.macs


@pytest.mark.parametrize(("depth", "gmacs"), [(18, 1.8), (34, 3.6), (152, 11.3)])
def test_multiplications_of_resnets_as_he_et_al_count_them(depth, gmacs):
    """He et al. 2016, table 1, count taps on padding as well (ours: 3 to 6 % fewer) and the FC."""
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = getattr(torchvision.models, f"resnet{depth}")()
    work = accel.workload(model, (3, 224, 224))
    forward = sum(layer.forward.macs for layer in accel.estimate(work, accel.dense_twin168).layers)
    assert 0.93 * gmacs < forward / 1e9 < 1.03 * gmacs


def test_a_denser_step_costs_more_and_density_one_beats_no_twin():
    model = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3))
    cycles = [
        accel.compare(accel.workload(model, (16, 12, 12), 8, x_density=d, dy_density=d))
        for d in (0.1, 0.4, 1.0)
    ]
    assert cycles[0].speedup > cycles[1].speedup > cycles[2].speedup
    assert cycles[2].speedup <= 1
    assert "speedup" in str(cycles[0])
    assert "eyeriss_ratios" in str(cycles[0])


def test_counts_of_imagenet_resnet152_stay_far_from_the_end_of_int64():
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = torchvision.models.resnet152()
    work = accel.workload(model, (3, 224, 224), batch=4096)
    total = accel.estimate(work, accel.dense_twin168).total
    assert 1e14 < total.macs < 2**63 / 1e4
    assert total.macs == 4096 * accel.estimate(work.with_batch(1), accel.dense_twin168).macs


def test_chips_are_values():
    chip = accel.chip(pe_groups=28)
    assert chip.pe_groups == 28
    assert accel.sparsetrain168.pe_groups == 56
    assert chip != accel.sparsetrain168
    assert accel.chip() == accel.sparsetrain168
    assert chip.pes == 84
    assert "pe_groups=28" in chip.name
    with pytest.raises(AttributeError):
        chip.pe_groups = 1
    assert accel.dense_twin(accel.sparsetrain168) == accel.dense_twin168
    assert not accel.dense_twin(chip).skips_zeros


def test_time_follows_the_clock():
    layer = accel.Layer("conv", 1, 4, 8, 8, 4, 3, 3)
    slow = accel.estimate(accel.Workload((layer,)), accel.chip(clock_mhz=400))
    fast = accel.estimate(accel.Workload((layer,)), accel.chip(clock_mhz=800))
    assert slow.cycles == fast.cycles
    assert math.isclose(slow.time_ms, 2 * fast.time_ms)
    assert math.isclose(slow.time_ms, slow.cycles / 400e3)


def test_densities_by_layer_and_what_the_chip_writes():
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


BAD = {
    "pe_groups to be in": lambda: accel.chip(pe_groups=0),
    "did you mean 'pe_groups'": lambda: accel.chip(pe_group=3),
    "did you mean 'sparsetrain168'": lambda: accel.chip("sparstrain168"),
    "did you mean 'eyeriss_ratios'": lambda: accel.prices("eyeris"),
    "mac_pj to be finite": lambda: accel.Prices(
        mac_pj=-1, register_pj=0, buffer_read_pj=0, buffer_write_pj=0, dram_pj=0
    ),
    "at least one convolution": lambda: accel.Workload(()),
    "x_density to be in": lambda: accel.Workload(
        (accel.Layer("a", 1, 1, 4, 4, 1, 3, 3, x_density=1.5),)
    ),
    "groups to divide": lambda: accel.Workload((accel.Layer("a", 1, 3, 4, 4, 1, 3, 3, groups=2),)),
    "kernel to fit": lambda: accel.Workload((accel.Layer("a", 1, 1, 2, 2, 1, 3, 3),)),
    "at most 1e18": lambda: accel.Workload(
        (accel.Layer("a", 2**20, 2**10, 2**10, 2**10, 2**10, 1, 1),)
    ),
    "strides, dilations": lambda: accel.Workload(
        (accel.Layer("a", 1, 1, 4, 4, 1, 3, 3, stride=(0, 1)),)
    ),
    "one row of 4": lambda: accel.estimate(
        accel.Workload((accel.Layer("a", 1, 1, 4, 4, 1, 3, 3),)), accel.chip(buffer_bytes=64 - 32)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_values_are_refused_in_one_sentence(message):
    if message == "one row of 4":
        wide = accel.Workload((accel.Layer("a", 1, 1, 4, 40, 1, 3, 3),))
        with pytest.raises(ValueError, match="one row of 40 values"):
            accel.estimate(wide, accel.chip(buffer_bytes=64))
        return
    with pytest.raises(ValueError, match=message) as error:
        BAD[message]()
    assert "\n" not in str(error.value)
    assert "expected" in str(error.value)


ZEROS = {  # one pixel; x: one of two channels set, density .5; dy: its one filter set
    "agree with density 0.5": {"x_map": [2], "x_channel_nnz": [1, 1]},
    "sum to equal its sum over channels, got 1": {"x_channel_nnz": [1, 1]},
    r"counts to be in \[0, 2\], got 3": {"x_map": [3]},
    "have 1 pixels an image and 2 channels, got 2 pixels of 1 images and 2 channels": {
        "x_map": [1, 0]
    },
    "1 channels, got 1 pixels of 1 images and 2 channels": {"dy_channel_nnz": [1, 0]},
}


@pytest.mark.parametrize("message", ZEROS)
def test_maps_that_contradict_a_layer_are_refused(message):
    right = {"x_map": [1], "dy_map": [1], "x_channel_nnz": [1, 0], "dy_channel_nnz": [1]}
    layer = accel.Layer("a", 1, 2, 1, 1, 1, 1, 1, x_density=0.5)

    def work(numbers):
        variances = {"x_row_nnz_var": 0.25, "dy_row_nnz_var": 0.0, "window_var": 0.25}
        maps = Maps(images=1, **{**right, **numbers}, **variances)
        return accel.Workload((replace(layer, maps=maps),))

    assert accel.estimate(work({})).layers[0].grad_weight.macs == 1
    with pytest.raises(ValueError, match=message):
        work(ZEROS[message])


def test_padding_has_a_limit():
    with pytest.raises(ValueError, match=r"padding to be in \[0, 2\^24\], got 0 and -1"):
        accel.Workload((accel.Layer("a", 1, 1, 4, 4, 1, 1, 1, padding=(0, -1)),))

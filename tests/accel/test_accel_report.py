"""sparsetrain.accel.report: the counts of the closed form, laws of reports and energies."""

import math

import pytest
import torch
from helpers.accel_layers import dense_multiplications, layers
from hypothesis import given, settings
from torch import nn

from sparsetrain import accel


@settings(deadline=None, max_examples=100)
@given(layers(densities=False))
def test_the_dense_twin_executes_every_multiplication_inside_the_image(layer):
    report = accel.estimate(accel.Workload((layer,)), accel.dense_twin168).layers[0]
    for _, counts in report.passes:
        assert counts.macs == dense_multiplications(layer)


@settings(deadline=None, max_examples=100)
@given(layers())
def test_counts_follow_the_densities_and_cycles_the_lower_bounds(layer):
    chip = accel.sparsetrain168
    work = accel.Workload((layer,))
    report = accel.estimate(work, chip)
    (rows,) = report.layers
    assert accel.estimate(work, chip).total == report.total
    expected = dense_multiplications(layer)
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
def test_energy_is_linear_in_prices_and_the_sum_of_its_parts(layer):
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
    """He et al. 2016, table 1, include taps on padding (3 to 6 % of all) and the linear layer."""
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = getattr(torchvision.models, f"resnet{depth}")()
    work = accel.workload(model, (3, 224, 224))
    forward = sum(layer.forward.macs for layer in accel.estimate(work, accel.dense_twin168).layers)
    assert 0.93 * gmacs < forward / 1e9 < 1.03 * gmacs


def test_speedup_falls_with_density_and_a_dense_step_is_not_faster_than_on_the_twin():
    model = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3))
    compared = [
        accel.compare(accel.workload(model, (16, 12, 12), 8, x_density=d, dy_density=d))
        for d in (0.1, 0.4, 1.0)
    ]
    assert compared[0].speedup > compared[1].speedup > compared[2].speedup
    assert compared[2].speedup <= 1
    assert "speedup" in str(compared[0])
    assert "eyeriss_ratios" in str(compared[0])


def test_counts_of_resnet152_on_imagenet_stay_far_below_the_limit_of_int64():
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = torchvision.models.resnet152()
    work = accel.workload(model, (3, 224, 224), batch=4096)
    total = accel.estimate(work, accel.dense_twin168).total
    assert 1e14 < total.macs < 2**63 / 1e4
    assert total.macs == 4096 * accel.estimate(work.with_batch(1), accel.dense_twin168).macs


def test_the_clock_changes_time_and_not_cycles():
    layer = accel.Layer("conv", 1, 4, 8, 8, 4, 3, 3)
    slow = accel.estimate(accel.Workload((layer,)), accel.chip(clock_mhz=400))
    fast = accel.estimate(accel.Workload((layer,)), accel.chip(clock_mhz=800))
    assert slow.cycles == fast.cycles
    assert math.isclose(slow.time_ms, 2 * fast.time_ms)
    assert math.isclose(slow.time_ms, slow.cycles / 400e3)


def test_a_buffer_too_small_for_one_row_is_refused():
    wide = accel.Workload((accel.Layer("a", 1, 1, 4, 40, 1, 3, 3),))
    with pytest.raises(ValueError, match="one row of 40 values"):
        accel.estimate(wide, accel.chip(buffer_bytes=64))


def test_closed_form_and_simulator_count_alike_on_a_recorded_step():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1, groups=2), nn.ReLU(),
        nn.Conv2d(12, 6, 1),
    )  # fmt: skip
    with accel.record(model, images=2) as recording:
        torch.relu(model(torch.randn(2, 3, 12, 12))).sum().backward()
    work = recording.workload(batch=2)
    exact, closed = accel.simulate(work), accel.estimate(work)
    for simulated, estimated in zip(exact.layers, closed.layers, strict=True):
        for pass_name, c in simulated.passes:
            model_counts = getattr(estimated, pass_name)
            # Maps are sums over all groups, so pairs within a group are only estimated.
            if simulated.layer.groups == 1:
                assert model_counts.macs == c.macs
            assert model_counts.row_ops == c.row_ops
            assert model_counts.tasks == c.tasks
            assert model_counts.port_bytes == c.port_bytes
            assert model_counts.drain_cycles == c.drain_cycles
            assert abs(model_counts.dram_read_bytes - c.dram_read_bytes) <= 10


def test_an_unknown_level_of_detail_is_refused():
    work = accel.Workload((accel.Layer("a", 1, 1, 3, 3, 1, 1, 1),))
    with pytest.raises(ValueError, match="one of block, task, op"):
        accel.disassemble(work, level="word")

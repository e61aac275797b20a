"""sparsetrain.accel.meter: the meter records every n-th step and keeps only numbers."""

import pytest
import torch
from helpers.accel_step import Net, recorded_step

from sparsetrain import accel


def test_a_meter_records_every_nth_step_and_keeps_numbers():
    torch.manual_seed(0)
    model = Net()
    meter = accel.CostMeter(model, every=3)
    with pytest.raises(ValueError, match="at least one step"):
        _ = meter.speedup
    for _ in range(7):
        x = torch.randn(2, 3, 6, 8)
        with meter.step():
            model(x).square().sum().backward()
    assert [cost.step for cost in meter.costs] == [0, 3, 6]
    compared = accel.compare(recorded_step(model, x))
    last = meter.costs[-1]
    assert (last.cycles, last.dense_cycles) == (compared.report.cycles, compared.dense.cycles)
    assert last.energy_pj == compared.report.energy_pj()
    total = sum(cost.dense_cycles for cost in meter.costs)
    assert meter.speedup == total / sum(cost.cycles for cost in meter.costs)
    assert sum(layer.energy_pj for layer in last.layers) == pytest.approx(last.energy_pj)
    assert [layer.layer.name for layer in last.layers] == ["a", "b"]
    assert all(layer.layer.maps is layer.layer.trace is None for layer in last.layers)


def test_a_meter_begins_at_first_and_continues_from_steps():
    model, x = Net(), torch.randn(1, 3, 6, 8)
    meter = accel.CostMeter(model, every=4, first=3)
    meter.steps = 2
    for _ in range(6):
        with meter.step():
            model(x).square().sum().backward()
    assert [cost.step for cost in meter.costs] == [3, 7]
    for every, first in ((0, 0), (4, 4), (4, -1)):
        with pytest.raises(ValueError, match=f"got every {every} and first {first}"):
            accel.CostMeter(model, every=every, first=first)

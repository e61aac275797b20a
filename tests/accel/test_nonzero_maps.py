"""sparsetrain.accel.nonzero_maps: counts and bits are those of the tensors, on every device."""

import pytest
import torch
from helpers.accel_step import Net
from torch import nn

from sparsetrain import accel
from sparsetrain.accel import recording
from sparsetrain.accel.nonzero_maps import begin_nonzero_maps_on_device


def test_maps_and_traces_are_the_nonzeros_of_the_tensors():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for layout in (torch.contiguous_format, torch.channels_last):
            model = conv.to(dtype)
            x = torch.relu(torch.randn(3, 3, 7, 5, dtype=dtype)).to(memory_format=layout)
            x[0, 0, 0, 0] = -0.0
            x[0, 0, 0, 1] = float("nan")
            x.requires_grad_()
            dy = torch.relu(torch.randn(3, 4, 7, 5, dtype=dtype)).to(memory_format=layout)
            with accel.record(model, images=2) as recorder:
                (model(x).nan_to_num() * dy).sum().backward()
            (layer,) = recorder.workload().layers
            whole = accel.estimate(recorder.workload()).layers[0]
            nonzero = (x != 0).double()
            weight = torch.ones(4, 3, 3, 3, dtype=torch.float64)
            taps = nn.functional.conv2d(nonzero, weight, padding=1)
            nonzeros = layer.dy_density * dy.numel()  # NaN outputs have no gradient
            assert 0 < nonzeros <= float((dy != 0).sum())
            assert whole.forward.macs == int(taps.sum())
            assert layer.trace.x.shape == (2, 3, 7, 5)
            assert layer.trace.x.nonzeros == int(nonzero[:2].sum())
            (two,) = recorder.workload(batch=2).layers
            assert two.N == 2
            assert two.x_density == pytest.approx(float(nonzero[:2].mean()))


def test_the_way_of_other_devices_counts_like_that_of_the_cpu(monkeypatch):
    """Runs the code for GPUs on the CPU: counts and cycles are equal, from maps and from bits."""

    def costs():
        torch.manual_seed(0)
        model, x = Net(), torch.relu(torch.randn(5, 3, 6, 8))
        x[0, 0, 0, :2] = torch.tensor([-0.0, float("nan")])
        with accel.record(model, images=3) as recorder:
            model(x).nan_to_num().square().sum().backward()
        reports = accel.estimate(recorder.workload()), accel.simulate(recorder.workload(batch=3))
        return [
            (pass_name, counts.macs, counts.cycles)
            for report in reports
            for layer in report.layers
            for pass_name, counts in layer.passes
        ]

    on_cpu = costs()
    assert {pass_name for pass_name, macs, _ in on_cpu if macs > 0} == set(accel.PASSES)
    monkeypatch.setattr(recording, "begin_nonzero_maps", begin_nonzero_maps_on_device)
    assert costs() == on_cpu

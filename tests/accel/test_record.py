"""Recording at operator level: what the kernels see, by layer name, nothing kept alive."""

import gc
import weakref

import pytest
import torch
from torch import nn

from sparsetrain import accel
from sparsetrain.accel import recording
from sparsetrain.accel.observing import observe_on_device


class Half(torch.autograd.Function):
    """Identity whose backward zeroes every second column: a stand-in for a pruner."""

    @staticmethod
    def forward(_ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(_ctx, grad):
        grad = grad.clone()
        grad[..., ::2] = 0
        return grad


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, (1, 3), stride=(1, 2), padding=(0, 1), groups=2)

    def forward(self, x):
        return self.b(torch.relu(Half.apply(self.a(x))))


def step(model, x):
    with accel.record(model) as rec:
        model(x).square().sum().backward()
    return rec.workload()


def test_shapes_names_and_densities_are_those_of_the_operators():
    torch.manual_seed(0)
    model, x = Net(), torch.randn(2, 3, 6, 8)
    x[:, 0] = 0
    a, b = step(model, x).layers
    assert (a.name, b.name) == ("a", "b")
    assert (a.N, a.C, a.H, a.W, a.K, a.R, a.S) == (2, 3, 6, 8, 8, 3, 3)
    assert (b.stride, b.padding, b.dilation, b.groups) == ((1, 2), (0, 1), (1, 1), 2)
    assert (b.P, b.Q) == (6, 4)
    assert not a.needs_grad_input
    assert b.needs_grad_input
    assert a.x_density == pytest.approx(2 / 3)
    hidden = model.a(x).relu()
    assert b.x_density == pytest.approx(float((hidden != 0).double().mean()))
    assert a.dy_density < 0.5  # half by the pruner, less by the ReLU
    assert b.dy_density == 1.0


def test_dy_is_recorded_after_pruning():
    torch.manual_seed(0)
    model = Net()
    x = torch.randn(2, 3, 6, 8, requires_grad=True)
    seen = []
    model.a.register_full_backward_hook(lambda _m, _gi, go: seen.append(go[0]))
    a, _ = step(model, x).layers
    assert a.dy_density == pytest.approx(float((seen[0] != 0).double().mean()))


def test_a_layer_used_twice_is_two_layers():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    first, second = step(model, torch.randn(1, 4, 5, 5)).layers
    assert (first.name, second.name) == ("0", "0#2")
    assert not first.needs_grad_input
    assert second.needs_grad_input
    assert first.x_density == 1.0
    assert second.x_density < 1.0


def test_checkpointing_does_not_count_a_layer_twice():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    with accel.record(model) as rec:
        out = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
        out.sum().backward()
    assert [layer.name for layer in rec.workload().layers] == ["0", "2"]


def test_a_frozen_layer_costs_its_forward_only():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    model[0].requires_grad_(False)
    work = step(model, torch.randn(1, 3, 9, 9))
    frozen, trained = accel.estimate(work).layers
    assert frozen.forward.macs > 0
    assert frozen.grad_input.cycles == frozen.grad_weight.cycles == 0
    assert trained.grad_weight.macs > 0
    assert trained.grad_input.cycles == 0  # nobody below needs a gradient


def test_autocast_keeps_names():
    model = Net()
    with accel.record(model) as rec, torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(1, 3, 6, 8)).float().sum().backward()
    assert [layer.name for layer in rec.workload().layers] == ["a", "b"]


def test_the_sparse_operator_is_seen_as_well():
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.relu(torch.randn(2, 3, 6, 6))
    from sparsetrain import conv2d

    for backend in ("sparse", "dense"):
        with accel.record(conv) as rec:
            conv2d(x, conv.weight, conv.bias, padding=1, backend=backend).sum().backward()
        (layer,) = rec.workload().layers
        assert layer.x_density == pytest.approx(float((x != 0).double().mean()))
        assert layer.dy_density == 1.0
        assert layer.padding == (1, 1)
        assert not layer.needs_grad_input


def test_nothing_of_the_step_is_kept_alive():
    model, x = Net(), torch.randn(1, 3, 6, 8)
    with accel.record(model) as rec:
        hidden = model.a(x)
        model.b(hidden).sum().backward()
    alive = weakref.ref(hidden)
    del hidden
    gc.collect()
    assert alive() is None
    assert len(rec.workload().layers) == 2


def test_offline_and_live_shapes_agree_for_a_real_network():
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.resnet18(num_classes=10)
    live = step(model, torch.randn(2, 3, 32, 32))
    offline = accel.workload(model, (3, 32, 32), 2)
    dense = live.with_densities(1.0, 1.0)
    assert dense.layers == offline.layers


def test_recordings_that_cannot_be_are_refused():
    model = Net()
    with accel.record(model) as rec:
        pass
    with pytest.raises(ValueError, match="at least one convolution"):
        rec.workload()
    with accel.record(model) as rec:
        model(torch.randn(1, 3, 6, 8))
    with pytest.raises(ValueError, match="expected backward to run inside"):
        rec.workload()
    with pytest.raises(ValueError, match="uncompiled"):
        accel.record(torch.compile(model))
    frozen = Net().requires_grad_(False)
    with pytest.raises(ValueError, match="parameters that need a gradient"):
        accel.workload(frozen, (3, 6, 8))
    with pytest.raises(ValueError, match="none for 'b'"):
        accel.workload(model, (3, 6, 8), x_density={"a": 1.0})
    with pytest.raises(ValueError, match="one for 'c'"):
        accel.workload(model, (3, 6, 8), dy_density={"a": 1.0, "b": 1.0, "c": 1.0})
    with pytest.raises(ValueError, match="dy_density to be in"):
        accel.workload(model, (3, 6, 8), dy_density=1.5)


def test_traces_and_maps_are_the_zeros_of_the_tensors():
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
            with accel.record(model, images=2) as rec:
                (model(x).nan_to_num() * dy).sum().backward()
            (layer,) = rec.workload().layers
            whole = accel.estimate(rec.workload()).layers[0]
            nonzero = (x != 0).double()
            weight = torch.ones(4, 3, 3, 3, dtype=torch.float64)
            taps = nn.functional.conv2d(nonzero, weight, padding=1)
            seen = layer.dy_density * dy.numel()  # NaN outputs have no gradient
            assert 0 < seen <= float((dy != 0).sum())
            assert whole.forward.macs == int(taps.sum())
            assert layer.trace.x.shape == (2, 3, 7, 5)
            assert layer.trace.x.nonzeros == int(nonzero[:2].sum())
            (two,) = rec.workload(batch=2).layers
            assert two.N == 2
            assert two.x_density == pytest.approx(float(nonzero[:2].mean()))


def test_another_device_counts_what_the_cpu_counts(monkeypatch):
    """A GPU's way, taken on the CPU: the same work and cycles, from counts and from bits."""

    def costs():
        torch.manual_seed(0)
        model, x = Net(), torch.relu(torch.randn(5, 3, 6, 8))
        x[0, 0, 0, :2] = torch.tensor([-0.0, float("nan")])
        with accel.record(model, images=3) as rec:
            model(x).nan_to_num().square().sum().backward()
        reports = accel.estimate(rec.workload()), accel.simulate(rec.workload(batch=3))
        return [
            (p.macs, p.cycles)
            for report in reports
            for layer in report.layers
            for p in (layer.forward, layer.grad_input, layer.grad_weight)
        ]

    here = costs()
    assert sum(macs > 0 for macs, _ in here) == 2 * 5
    monkeypatch.setattr(recording, "observe_tensor", observe_on_device)
    assert costs() == here


def test_model_counts_what_the_simulator_counts_on_a_recorded_step():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1, groups=2), nn.ReLU(),
        nn.Conv2d(12, 6, 1),
    )  # fmt: skip
    with accel.record(model, images=2) as rec:
        torch.relu(model(torch.randn(2, 3, 12, 12))).sum().backward()
    work = rec.workload(batch=2)
    exact, closed = accel.simulate(work), accel.estimate(work)
    for one, other in zip(exact.layers, closed.layers, strict=True):
        for name, c in one.passes:
            model_counts = getattr(other, name)
            if one.layer.groups == 1:  # maps add up all groups: pairs inside one are estimated
                assert model_counts.macs == c.macs
            assert model_counts.row_ops == c.row_ops
            assert model_counts.tasks == c.tasks
            assert model_counts.port_bytes == c.port_bytes
            assert model_counts.drain_cycles == c.drain_cycles
            assert abs(model_counts.dram_read_bytes - c.dram_read_bytes) <= 10


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
    compared = accel.compare(step(model, x))
    last = meter.costs[-1]
    assert (last.cycles, last.dense_cycles) == (compared.report.cycles, compared.dense.cycles)
    assert last.energy_pj == compared.report.energy_pj()
    total = sum(cost.dense_cycles for cost in meter.costs)
    assert meter.speedup == total / sum(cost.cycles for cost in meter.costs)
    assert sum(layer.energy_pj for layer in last.layers) == pytest.approx(last.energy_pj)
    assert [layer.layer.name for layer in last.layers] == ["a", "b"]
    assert all(layer.layer.maps is layer.layer.trace is None for layer in last.layers)


def test_a_meter_starts_where_it_is_told_and_goes_on_where_it_is_set():
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


def test_recorded_densities_are_those_of_stats():
    import sparsetrain

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
    )  # fmt: skip
    sparsetrain.convert(model, rate=0.9, history=1, measure_every=1)
    for _ in range(3):
        work = step(model, torch.randn(4, 3, 8, 8))
    measured = sparsetrain.stats(model)
    for layer in work.layers:
        assert layer.dy_density == pytest.approx(measured[layer.name].grad_density)
        assert layer.dy_density < 0.7

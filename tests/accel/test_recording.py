"""sparsetrain.accel.recording: what the kernels read, by layer name, with no tensor kept alive."""

import gc
import weakref

import pytest
import torch
from helpers.accel_step import Net, recorded_step
from torch import nn

import sparsetrain
from sparsetrain import accel


def test_shapes_names_and_densities_are_those_of_the_operators():
    torch.manual_seed(0)
    model, x = Net(), torch.randn(2, 3, 6, 8)
    x[:, 0] = 0
    a, b = recorded_step(model, x).layers
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
    gradients = []
    model.a.register_full_backward_hook(lambda _m, _gi, go: gradients.append(go[0]))
    a, _ = recorded_step(model, x).layers
    assert a.dy_density == pytest.approx(float((gradients[0] != 0).double().mean()))


def test_a_layer_used_twice_is_two_layers():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    first, second = recorded_step(model, torch.randn(1, 4, 5, 5)).layers
    assert (first.name, second.name) == ("0", "0#2")
    assert not first.needs_grad_input
    assert second.needs_grad_input
    assert first.x_density == 1.0
    assert second.x_density < 1.0


def test_checkpointing_does_not_count_a_layer_twice():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    with accel.record(model) as recording:
        out = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
        out.sum().backward()
    assert [layer.name for layer in recording.workload().layers] == ["0", "2"]


def test_a_frozen_layer_only_costs_its_forward():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    model[0].requires_grad_(False)
    work = recorded_step(model, torch.randn(1, 3, 9, 9))
    frozen, trained = accel.estimate(work).layers
    assert frozen.forward.macs > 0
    assert frozen.grad_input.cycles == frozen.grad_weight.cycles == 0
    assert trained.grad_weight.macs > 0
    assert trained.grad_input.cycles == 0  # no earlier layer needs a gradient


def test_autocast_keeps_names():
    model = Net()
    with accel.record(model) as recording, torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(1, 3, 6, 8)).float().sum().backward()
    assert [layer.name for layer in recording.workload().layers] == ["a", "b"]


def test_the_operator_of_sparsetrain_is_recorded_as_well():
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.relu(torch.randn(2, 3, 6, 6))
    for backend in ("sparse", "dense"):
        with accel.record(conv) as recording:
            y = sparsetrain.conv2d(x, conv.weight, conv.bias, padding=1, backend=backend)
            y.sum().backward()
        (layer,) = recording.workload().layers
        assert layer.x_density == pytest.approx(float((x != 0).double().mean()))
        assert layer.dy_density == 1.0
        assert layer.padding == (1, 1)
        assert not layer.needs_grad_input


def test_no_tensor_of_the_step_is_kept_alive():
    model, x = Net(), torch.randn(1, 3, 6, 8)
    with accel.record(model) as recording:
        hidden = model.a(x)
        model.b(hidden).sum().backward()
    alive = weakref.ref(hidden)
    del hidden
    gc.collect()
    assert alive() is None
    assert [layer.name for layer in recording.workload().layers] == ["a", "b"]


def test_shapes_of_a_recorded_step_and_of_the_meta_device_agree():
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.resnet18(num_classes=10)
    recorded = recorded_step(model, torch.randn(2, 3, 32, 32))
    assumed = accel.workload(model, (3, 32, 32), 2)
    dense = recorded.with_densities(1.0, 1.0)
    assert dense.layers == assumed.layers


def test_recordings_without_a_step_and_densities_that_do_not_fit_are_refused():
    model = Net()
    with accel.record(model) as recording:
        pass
    with pytest.raises(ValueError, match="at least one convolution"):
        recording.workload()
    with accel.record(model) as recording:
        model(torch.randn(1, 3, 6, 8))
    with pytest.raises(ValueError, match="expected backward to run inside"):
        recording.workload()
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


def test_recorded_densities_are_those_of_stats():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
    )  # fmt: skip
    sparsetrain.convert(model, rate=0.9, history=1, measure_every=1)
    for _ in range(3):
        work = recorded_step(model, torch.randn(4, 3, 8, 8))
    measured = sparsetrain.stats(model)
    for layer in work.layers:
        assert layer.dy_density == pytest.approx(measured[layer.name].grad_density)
        assert layer.dy_density < 0.7


def test_linear_layers_are_recorded_with_their_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    x = torch.relu(torch.randn(5, 3, 8))
    with accel.record(model, linear=True) as recording:
        torch.relu(model(x)).sum().backward()
    first, second = recording.workload().layers
    assert (first.C, first.H, first.W, first.K) == (8, 1, 3, 6)
    assert first.x_density == pytest.approx(float((x != 0).double().mean()))
    assert second.dy_density == pytest.approx(float((model(x) > 0).double().mean()))
    assert (first.needs_grad_input, second.needs_grad_input) == (False, True)

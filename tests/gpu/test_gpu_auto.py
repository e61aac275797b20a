"""backend="auto" on a GPU: choices, densities that arrive without waiting, tuning."""

import copy
import time

import pytest
import torch
from helpers.nets import small_net
from test_gpu import equal, sparse, trained

import sparsetrain
from sparsetrain import PruneGrad, SparseConv2d, accel, convert, ops
from sparsetrain.tuning import cuda as tuning_cuda
from sparsetrain.tuning.fit import Shape

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")

# With these costs the sparse kernels are faster below a density of about .4.
SPARSE_WINS = {"dense_mac_ns": 1.0, "nonzero_ns": 512.0}


@pytest.fixture(autouse=True)
def own_costs():
    """Restores the shipped cost table after each test."""
    yield
    sparsetrain.set_costs(None)


def price(**units):
    """Sets the costs `units` of this GPU in every precision, and all other costs to 0."""
    costs = dict.fromkeys(sparsetrain._C.CUDA_UNITS, 0.0) | units
    passes = {name: dict(costs) for name in accel.PASSES}
    names = [name for group in tuning_cuda.PRECISIONS.values() for name in group]
    gpu = {tuning_cuda.architecture(): dict.fromkeys(names, passes)}
    sparsetrain.set_costs({**sparsetrain.costs(), "cuda": gpu})


def known(value):
    return torch.tensor(value, dtype=torch.float64)


def passes(backend, density=None):
    """y, dx and dw of operands of density .1; `density` is what the operator is given."""
    x = sparse(4, 256, 14, 14, density=0.1).cuda().requires_grad_()
    w = sparse(256, 256, 3, 3, density=1, seed=1).cuda().requires_grad_()
    densities = {} if density is None else {"input_density": density, "grad_density": density}
    y = ops.conv2d(x, w, padding=1, backend=backend, **densities)
    dy = sparse(*y.shape, density=0.1, seed=2).cuda()
    return [y.detach(), *torch.autograd.grad(y, (x, w), dy)]


def test_auto_follows_its_costs():
    """The sparse kernels are deterministic, so the bits of a result show which backend ran."""
    price(**SPARSE_WINS)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        ours, dense = passes("sparse"), passes("dense")
        assert equal(passes("auto", known(0.1)), ours)
        assert not equal(passes("auto", known(0.9)), ours)
        assert not equal(passes("auto", known(float("nan"))), ours)
        assert not equal(passes("auto"), ours)
    for one, two in zip(ours, dense, strict=True):  # sums of 2304 products, or 784 of them
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4 * two.abs().max().item())


def test_calls_that_cannot_be_sparse_are_pytorchs_own_convolution():
    x = torch.randn(4, 64, 14, 14, device="cuda", requires_grad=True)
    w = torch.randn(64, 64, 3, 3, device="cuda", requires_grad=True)
    wanted = torch.nn.functional.conv2d(x, w).grad_fn.name()
    for units in ({}, {"dense_call_ns": 1.0, "call_ns": 1.0}):
        sparsetrain.set_costs(None)
        if units:
            price(**units)
        for layout in (torch.contiguous_format, torch.channels_last):
            y = ops.conv2d(x.to(memory_format=layout), w)
            assert y.grad_fn.name() == wanted and y.is_contiguous(memory_format=layout)
    price(**SPARSE_WINS)
    assert ops.conv2d(x, w).grad_fn.name() != wanted


def test_deterministic_algorithms_ignore_densities():
    price(**SPARSE_WINS)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert not equal(passes("auto", known(0.0)), passes("sparse"))
    finally:
        torch.use_deterministic_algorithms(False)


def counted(model):
    """Densities from the states (which waits for the GPU) beside those in the density slots."""
    values = []
    for conv in (m for m in model.modules() if isinstance(m, SparseConv2d)):
        measured = sparsetrain.stats(conv)[""]
        values.append((measured.input_density, conv.input_counter._density_slot.item()))
        values.append((measured.pruned_density, conv.pruner._density_slot.item()))
    return values


def net():
    """A converted net that counts every density: x by a counter, the gradient by the pruner."""
    everywhere = {"*": {"placement": "output"}}
    return convert(small_net(), 0.9, history=1, measure_every=1, overrides=everywhere).cuda()


def step(model, x):
    for parameter in model.parameters():
        parameter.grad = None
    model(x).square().sum().backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("units", [SPARSE_WINS, {"dense_mac_ns": 1.0}], ids=["some", "always"])
def test_a_step_of_auto_never_waits_and_its_densities_arrive(units):
    """Costs make some calls sparse, or all."""
    price(**units)
    model, x = net(), torch.randn(4, 3, 8, 8, device="cuda")
    step(model, x)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step(model, x)
            with accel.record(model) as recording:
                step(model, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert accel.estimate(recording.workload()).total.cycles > 0
    for measured, read in counted(model):
        assert read == measured


def test_a_density_arrives_without_synchronization():
    """A plain read of the slot sees the value once the GPU has stored it."""
    model, x = net(), torch.randn(4, 3, 8, 8, device="cuda")
    pruners = [m for m in model.modules() if isinstance(m, PruneGrad)]
    assert all(m._density_slot.isnan() for m in pruners)
    step(model, x)
    deadline = time.monotonic() + 60
    while any(m._density_slot.isnan() for m in pruners) and time.monotonic() < deadline:
        time.sleep(1e-3)
    assert not any(m._density_slot.isnan() for m in pruners)


def test_a_captured_graph_keeps_its_choice():
    price(**SPARSE_WINS)
    x = sparse(4, 256, 14, 14, density=0.1).cuda()
    w, density = sparse(256, 256, 3, 3, density=1, seed=1).cuda(), known(0.1)

    def convolve(backend, **densities):
        return ops.conv2d(x, w, padding=1, backend=backend, **densities)

    expected = convolve("sparse")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        convolve("auto", input_density=density)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = convolve("auto", input_density=density)
    for value in (0.1, 1.0):
        density.fill_(value)
        y.zero_()
        graph.replay()
        assert torch.equal(y, expected)
    assert not torch.equal(convolve("auto", input_density=density), expected)


def test_replays_of_a_captured_step_update_densities():
    model, x = net(), torch.randn(4, 3, 8, 8, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(model, x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(model, x)
    for scale in (0.0, 1.0):
        x.mul_(0).add_(scale * torch.randn(4, 3, 8, 8, device="cuda"))
        graph.replay()
        torch.cuda.synchronize()
        for measured, read in counted(model):
            assert read == measured
    first = next(m for m in model.modules() if isinstance(m, SparseConv2d))
    assert first.input_counter._density_slot.item() > 0.9


def test_copies_and_moved_modules_have_their_own_density_slots():
    model, x = net(), torch.randn(4, 3, 8, 8, device="cuda")
    step(model, x)
    twin = copy.deepcopy(model)
    slots = [
        m._density_slot
        for each in (model, twin)
        for m in each.modules()
        if hasattr(m, "_density_slot")
    ]
    assert len({t.data_ptr() for t in slots}) == len(slots)
    twin.cpu()
    assert all(m._density_slot.isnan() for m in twin.modules() if hasattr(m, "_density_slot"))
    twin.cuda()
    step(twin, x)
    torch.cuda.synchronize()
    for measured, read in counted(twin):
        assert read == measured


def test_deterministic_runs_with_auto_are_bit_equal():
    """With deterministic algorithms, choices depend on shapes alone."""
    price(**SPARSE_WINS)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        images = [torch.randn(4, 3, 8, 8, device="cuda") for _ in range(3)]
        runs = []
        for _ in range(2):
            torch.manual_seed(0)
            runs.append(trained(net(), 3, lambda model, i: step(model, images[i])))
        assert equal(*runs)
    finally:
        torch.use_deterministic_algorithms(False)


def test_tune_fits_costs_that_auto_can_use(monkeypatch):
    few = (Shape(8, 64, 28, 64, 3, 1), Shape(8, 96, 28, 96, 3, 1), Shape(8, 128, 14, 256, 1, 1))
    monkeypatch.setattr(tuning_cuda, "SHAPES", few)
    table = tuning_cuda.tune(("float32",), lambda: None)
    sparsetrain.set_costs(table)
    for precision in ("fp32", "tf32"):
        for units in table["cuda"][tuning_cuda.architecture()][precision].values():
            assert any(units[u] for u in tuning_cuda.DENSE_UNITS)
            assert any(units[u] for u in tuning_cuda.SPARSE_UNITS)
    explanation = sparsetrain.explain((8, 64, 28, 28), (64, 64, 3, 3), 1, 1, device="cuda")
    assert explanation.forward.dense_ms > 0 and explanation.forward.sparse_ms > 0

"""Densities that steer `auto`: who stores them, who reads them, and what they may not change."""

import copy
import io
import math
import pickle

import pytest
import torch
from helpers.nets import same, small_net, step
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import sparsetrain
from sparsetrain import PruneGrad, SparseConv2d, convert, ops, pruning_state
from sparsetrain.nn import NonzeroCounter


def slot(value=math.nan, **options):
    return torch.full((), value, dtype=torch.float64, **options)


@pytest.fixture
def slots(monkeypatch):
    """The slots that are made, in order, each an ordinary number."""
    made = []

    def density_slot(state):
        made.append(slot())
        return made[-1]

    monkeypatch.setattr(ops, "density_slot", density_slot)
    return made


def gradients_of(backend, density=None):
    """dx and dw of a convolution that `auto` may run sparse, of a dy that is half zeros.

    The weight holds an Inf: a dense grad_input multiplies it with zeros and has NaN for it.
    """
    g = torch.Generator().manual_seed(0)
    x, w, dy = (
        torch.randn(size, generator=g)
        for size in ((8, 64, 16, 16), (64, 64, 3, 3), (8, 64, 16, 16))
    )
    w[0, 0, 1, 1] = math.inf
    x.requires_grad_()
    y = ops.conv2d(x, w, padding=1, backend=backend, grad_density=density)
    return torch.autograd.grad(y, x, dy.relu())[0]


@pytest.mark.parametrize("backend", ["sparse", "dense"])
def test_a_forced_backend_ignores_densities(backend):
    results = [gradients_of(backend, density) for density in (None, slot(0.0), slot(1.0))]
    assert results[0].isnan().any() == (backend == "dense")
    for other in results[1:]:
        assert torch.equal(other.nan_to_num(), results[0].nan_to_num())


def test_on_the_cpu_auto_goes_by_a_known_density_and_samples_otherwise():
    assert not gradients_of("auto", slot(0.01)).isnan().any()
    assert gradients_of("auto", slot(1.0)).isnan().any()
    sampled = gradients_of("auto")
    for unknown in (math.nan, -1.0, 7.0):
        assert torch.equal(gradients_of("auto", slot(unknown)).isnan(), sampled.isnan())


def test_on_the_cpu_pruning_stores_the_density_of_its_result_into_slots_only():
    pruner, grad = PruneGrad(history=0, seed=1), torch.randn(4, 5, 6, 7)
    number = slot(0.75)
    for density in (pruner._density_slot, number):
        pruned = ops.prune_step(grad, pruner.state, density)
    assert 0 < pruner._density_slot < 1 and number == 0.75
    ops.prune_step(grad.zero_(), pruner.state, pruner._density_slot)
    assert pruner._density_slot == 0
    assert pruned.count_nonzero() > 0


def test_on_the_cpu_counting_stores_no_density():
    """Measuring must not change which kernels run."""
    counter = NonzeroCounter(1)
    counter(torch.ones(3))
    assert counter.density() == 1 and counter._density_slot.isnan()


def test_on_the_cpu_a_layer_passes_on_a_density_only_if_its_pruner_prunes():
    def given(layer):
        with Calls() as calls:
            layer(torch.randn(2, 3, 8, 8, requires_grad=True))
        return calls.densities["conv2d"]

    layer = SparseConv2d(3, 5, 3, measure_every=1)
    assert [id(density) for density in given(layer)] == [id(None), id(layer.pruner._density_slot)]
    layer.pruner.eval()
    assert given(layer) == [None, None]
    layer.train().eval()
    assert given(layer) == [None, None]
    for placement in ("input", "none"):
        assert given(SparseConv2d(3, 5, 3, placement=placement, measure_every=1)) == [None, None]


def test_runs_whose_choices_depend_on_densities_resume_bit_for_bit():
    def model():
        torch.manual_seed(0)
        conv = SparseConv2d(32, 32, 3, padding=1, history=2, seed=1)
        layers = [nn.Conv2d(3, 32, 3, padding=1), conv, nn.Flatten(), nn.Linear(32 * 64, 5)]
        return nn.Sequential(*layers)

    def run(net, steps):
        for i in steps:
            step(net, i)
        return [*net.state_dict().values(), *pruning_state(net)["pruners"].values()]

    # Costs at which a backward pass is sparse if less than half of dy is nonzero.
    costs = sparsetrain.costs()
    for units in costs["float32"].values():
        units.update(dict.fromkeys(units, 0.0), dense_mac_ns=0.5, vector_ns=16.0)
    sparsetrain.set_costs(costs)
    try:
        whole, stopped, resumed = model(), model(), model()
        expected = run(whole, range(6))
        run(stopped, range(3))
        resumed.load_state_dict(stopped.state_dict())
        sparsetrain.load_pruning_state(resumed, pruning_state(stopped))
        assert same(run(resumed, range(3, 6)), expected)
    finally:
        sparsetrain.set_costs(None)


REFUSED = {
    "float32": torch.tensor(0.5),
    "a vector": torch.zeros(1, dtype=torch.float64),
    "without storage": torch.zeros((), dtype=torch.float64, device="meta"),
}
WANTED = "to be one float64 number of no dimension on the CPU, got "


@pytest.mark.parametrize("density", REFUSED.values(), ids=REFUSED)
def test_other_tensors_are_refused_as_densities(density):
    x, w, state = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3), torch.zeros(3).double()
    pruner = torch.zeros(16).double()
    rest = ([1, 1], [0, 0], [1, 1], 1, [True] * 3)
    got = rf"\w+ \[1?\] on {density.device}"
    for call, what in (
        (lambda: ops.conv2d(x, w, input_density=density), "conv2d: expected input_density"),
        (lambda: ops.conv2d(x, w, grad_density=density), "conv2d: expected grad_density"),
        (
            lambda: torch.ops.sparsetrain.conv2d_backward(
                torch.ones(1, 1, 2, 2), x, w, *rest, grad_density=density
            ),
            "conv2d_backward: expected grad_density",
        ),
        (lambda: ops.count_nonzeros(x, state, 1, density), "count_nonzeros: expected density"),
        (lambda: ops.prune_step(x, pruner, density), "prune_step: expected density"),
    ):
        message = f"sparsetrain::{what} {WANTED}{got}"
        with pytest.raises(ValueError, match=message):
            call()
        with torch.inference_mode(), pytest.raises(ValueError, match=message):
            call()


def test_copied_and_pickled_modules_have_slots_of_their_own(slots):
    for module in (NonzeroCounter(1), PruneGrad(seed=1)):
        module._density_slot = slot(0.25)
        slots.clear()
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        copies = [
            copy.deepcopy(module),
            pickle.loads(pickle.dumps(module)),
            torch.load(file, weights_only=False),
        ]
        for other, made in zip(copies, slots, strict=True):
            assert other._density_slot is made and made.isnan()
            assert torch.equal(other.state, module.state)
        assert "_density_slot" not in "".join(module.state_dict())


def test_a_state_that_moves_gets_a_slot_for_its_device(slots):
    """The GPU is a fake one, so that the test runs everywhere."""
    with FakeTensorMode():
        counters = nn.ModuleList([NonzeroCounter(1), PruneGrad(seed=1)])
        slots.clear()
        counters.to("cuda")
        made = list(slots)
        assert len(made) == 2
        counters.to("cuda")
        assert all(m._density_slot is one for m, one in zip(counters, made, strict=True))
        counters.to("cpu")
    assert len(slots) == 4
    assert not any(m._density_slot is one for m, one in zip(counters, made, strict=True))


def test_fake_states_have_no_slots():
    with FakeTensorMode(), torch.device("cuda"):
        fake = convert(small_net(), 0.9, measure_every=1)
    for module in fake.modules():
        assert getattr(module, "_density_slot", None) is None


class Calls(TorchDispatchMode):
    """Records the densities that each operator was given, by the operator's name."""

    def __init__(self):
        super().__init__()
        self.densities = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("sparsetrain::")
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | (kwargs or {})
        if func.namespace == "sparsetrain":
            self.densities[name] = [
                given.get(argument) for argument in names if argument.endswith("density")
            ]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("placement", ["output", "input", "none"])
def test_on_cuda_a_layer_passes_on_every_slot_it_has(placement):
    """Runs the forward on fake CUDA tensors; slots are real numbers on the CPU."""
    with FakeTensorMode(), torch.device("cuda"):
        conv = SparseConv2d(3, 5, 3, placement=placement, measure_every=1)
        x = torch.empty(2, 3, 8, 8, requires_grad=True)
        for name, child in conv.named_children():
            assert name in ("input_counter", "grad_counter", "pruner")
            child._density_slot = slot(device="cpu")
        with Calls() as calls:
            assert conv(x).device.type == "cuda"
    counter = conv.pruner if placement == "output" else conv.grad_counter
    given = [conv.input_counter._density_slot, counter._density_slot]
    assert [id(t) for t in calls.densities["count_nonzeros"]] == [id(given[0])]
    assert [id(t) for t in calls.densities["conv2d"]] == [id(t) for t in given]


class Net(nn.Module):
    """A convolution that takes its densities from a counter of its input and a pruner."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pruner, self.counter = PruneGrad(seed=1, history=1), NonzeroCounter(1)
        self.pruner._density_slot, self.counter._density_slot = slot(), slot()

    def forward(self, x):
        self.counter(x)
        known = {
            "input_density": self.counter._density_slot,
            "grad_density": self.pruner._density_slot,
        }
        y = ops.conv2d(x, self.conv.weight, self.conv.bias, padding=1, **known)
        return self.counter.gradient(self.pruner(y))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_passes_the_slot_itself_and_is_not_compiled_again(backend):
    """Whatever a slot holds, one graph serves."""
    eager = Net().double()
    torch._dynamo.reset()
    fast = torch.compile(copy.deepcopy(eager), fullgraph=True, backend=backend)
    fast._orig_mod.pruner._density_slot, fast._orig_mod.counter._density_slot = (
        slot(),
        slot(),
    )
    for i, density in enumerate((math.nan, 0.1, 1.0)):
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        results = []
        for net in (eager, fast):
            module = getattr(net, "_orig_mod", net)
            module.pruner._density_slot.fill_(density)
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                results.append(_gradients(net, x))
        torch.testing.assert_close(results[0], results[1])
    assert torch.equal(eager.counter.state, fast._orig_mod.counter.state)
    with Calls() as calls:
        _gradients(eager, x)
    for name in ("conv2d_backward", "prune_step"):
        assert [id(density) for density in calls.densities[name]] == [
            id(eager.pruner._density_slot)
        ]


def _gradients(net, x):
    net.zero_grad()
    net(x).square().sum().backward()
    return [p.grad.clone() for p in net.parameters()]


def test_saved_states_hold_no_slots():
    model = convert(small_net(), 0.9, history=2, measure_every=1)
    for module in model.modules():
        if isinstance(module, NonzeroCounter | PruneGrad):
            module._density_slot = slot()
    step(model, 0)
    assert not any("_density_slot" in name for name in model.state_dict())
    assert set(pruning_state(model)) == {"version", "world_size", "rank", "costs", "pruners"}
    assert all(s.input_density for s in sparsetrain.stats(model).values())

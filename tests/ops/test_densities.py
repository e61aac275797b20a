"""Densities that reach the host late: where they go, and that they change nothing but choices."""

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
    """As on CUDA: every state has a slot; a list of those that were made."""
    made = []

    def density_slot(state):
        made.append(slot())
        return made[-1]

    monkeypatch.setattr(ops, "density_slot", density_slot)
    return made


@pytest.mark.parametrize("backend", ops.CPU_BACKENDS)
def test_the_cpu_looks_at_no_density(backend):
    """It samples. The same bits and the same states, the slots as they were."""
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(s, generator=g).requires_grad_() for s in ((8, 64, 16, 16), (64, 64, 3, 3)))
    results = []
    for densities in ((None, None), (slot(0.0), slot(1.0)), (slot(), slot(7.0))):
        known = dict(zip(("input_density", "grad_density"), densities, strict=True))
        states = [torch.zeros(size, dtype=torch.float64) for size in (17, 3, 3)]
        states[0][12] = 1.0  # the factor
        y = ops.conv2d(x.relu(), w, padding=1, backend=backend, **known)
        y = ops.prune_grad(y, states[0], densities[0])
        y = ops.count_grad_nonzeros(y, states[1], 1, densities[0])
        ops.count_nonzeros(y, states[2], 1, densities[1])
        results.append([y, *torch.autograd.grad(y.square().sum(), (x, w)), *states])
    assert same(results[0], results[1]) and same(results[0], results[2])
    assert densities[0].isnan() and densities[1] == 7


REFUSED = {
    "float32": torch.tensor(0.5),
    "a vector": torch.zeros(1, dtype=torch.float64),
    "without storage": torch.zeros((), dtype=torch.float64, device="meta"),
}
WANTED = "to be one float64 number of no dimension on the CPU, got "


@pytest.mark.parametrize("density", REFUSED.values(), ids=REFUSED)
def test_refusals_of_densities(density):
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


def test_copies_and_what_was_pickled_have_slots_of_their_own(slots):
    for module in (NonzeroCounter(1), PruneGrad(seed=1)):
        module._density_slot = slot(0.25)
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
        slots.clear()


def test_a_state_that_moves_gets_a_slot_there(slots):
    """On a fake GPU, as there is no other; there, to stay, and back."""
    with FakeTensorMode():
        counters = nn.ModuleList([NonzeroCounter(1), PruneGrad(seed=1)])
        assert [m._density_slot for m in counters] == [None, None]
        counters.to("cuda")
        made = list(slots)
        assert len(made) == 2
        counters.to("cuda")
        assert all(m._density_slot is one for m, one in zip(counters, made, strict=True))
        counters.to("cpu")
    assert len(slots) == 4
    assert not any(m._density_slot is one for m, one in zip(counters, made, strict=True))


def test_there_is_none_on_the_cpu_and_none_of_fake_tensors():
    model = convert(small_net(), 0.9, measure_every=1)
    with FakeTensorMode(), torch.device("cuda"):
        fake = convert(small_net(), 0.9, measure_every=1)
    for module in [*model.modules(), *fake.modules()]:
        assert getattr(module, "_density_slot", None) is None


class Calls(TorchDispatchMode):
    """The densities that each operator was given."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("sparsetrain::")
        names = [argument.name for argument in func._schema.arguments]
        given = dict(zip(names, args, strict=False)) | (kwargs or {})
        if func.namespace == "sparsetrain":
            self.seen[name] = [v for k, v in given.items() if k.endswith("density")]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("placement", ["output", "input", "none"])
def test_a_layer_passes_on_where_its_densities_arrive(placement):
    """The forward on fake CUDA tensors, with numbers on the CPU among them."""
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
    assert [id(t) for t in calls.seen["count_nonzeros"]] == [id(given[0])]
    assert [id(t) for t in calls.seen["conv2d"]] == [id(t) for t in given]


class Net(nn.Module):
    """A convolution that is told densities, beside a pruner and an observer that have slots."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pruner, self.observer = PruneGrad(seed=1, history=1), NonzeroCounter(1)
        self.pruner._density_slot, self.observer._density_slot = slot(), slot()

    def forward(self, x):
        self.observer(x)
        known = {
            "input_density": self.observer._density_slot,
            "grad_density": self.pruner._density_slot,
        }
        y = ops.conv2d(x, self.conv.weight, self.conv.bias, padding=1, **known)
        return self.observer.gradient(self.pruner(y))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_takes_densities_as_they_come(backend):
    """One graph, compiled once whatever they hold, that hands every operator the slot itself."""
    eager = Net().double()
    torch._dynamo.reset()
    fast = torch.compile(copy.deepcopy(eager), fullgraph=True, backend=backend)
    fast._orig_mod.pruner._density_slot, fast._orig_mod.observer._density_slot = (
        slot(),
        slot(),
    )  # as on CUDA
    for i, density in enumerate((math.nan, 0.1, 1.0)):
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        results = []
        for net in (eager, fast):
            module = getattr(net, "_orig_mod", net)
            module.pruner._density_slot.fill_(density)
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                results.append(_gradients(net, x))
        torch.testing.assert_close(results[0], results[1])
    assert torch.equal(eager.observer.state, fast._orig_mod.observer.state)
    seen = Calls()
    with seen:
        _gradients(eager, x)
    assert seen.seen["conv2d_backward"] == [eager.pruner._density_slot]
    assert seen.seen["prune_step"] == [eager.pruner._density_slot]


def _gradients(net, x):
    net.zero_grad()
    net(x).square().sum().backward()
    return [p.grad.clone() for p in net.parameters()]


def test_runs_and_their_states_do_not_know_of_slots():
    """What is saved is what was saved before there were any."""
    model = convert(small_net(), 0.9, history=2, measure_every=1)
    for module in model.modules():
        if isinstance(module, NonzeroCounter | PruneGrad):
            module._density_slot = slot()
    step(model, 0)
    assert not any("_density_slot" in name for name in model.state_dict())
    assert set(pruning_state(model)) == {"version", "world_size", "rank", "costs", "pruners"}
    assert all(s.input_density for s in sparsetrain.stats(model).values())

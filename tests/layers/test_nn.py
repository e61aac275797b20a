"""Laws of SparseConv2d: it convolves as nn.Conv2d does and prunes one gradient."""

import copy

import pytest
import torch
from helpers.nets import CONFIGURATIONS, density, message, same, small_net, step
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import sparsetrain
from sparsetrain import SparseConv2d, convert, describe, pruning, revert, stats
from sparsetrain.nn import LastCall, NonzeroCounter


@pytest.mark.parametrize("arguments", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("backend", ["dense", "sparse"])
@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (4, 7, 6)], ids=["batched", "unbatched"])
def test_an_unpruned_layer_equals_nn_conv2d(arguments, backend, shape):
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 8, **arguments, dtype=torch.float64)
    sparse = SparseConv2d(4, 8, **arguments, dtype=torch.float64, backend=backend, rate=0)
    sparse.load_state_dict(plain.state_dict())
    x = torch.randn(shape, dtype=torch.float64).relu()
    results = []
    for conv in (plain, sparse):
        leaf = x.clone().requires_grad_()
        y = conv(leaf)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        y.backward(dy * (dy > 0))
        results.append([y, leaf.grad, *(p.grad for p in conv.parameters())])
    if backend == "dense":
        assert same(*results)
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_the_constructor_accepts_positional_arguments_of_conv2d_and_keywords():
    conv = SparseConv2d(3, 4, 3, 2, 1, density=0.2, history=2, placement="input", seed=7)
    assert (conv.stride, conv.padding) == ((2, 2), (1, 1))
    assert (conv.pruner.density, conv.pruner.history, conv.placement) == (0.2, 2, "input")
    assert conv.pruner.state[pruning.SEED] == 7 and conv.backend == "auto"


@pytest.mark.parametrize(
    "arguments, kind, sentence",
    [
        (
            dict(backend="fast"),
            ValueError,
            "SparseConv2d: expected backend to be one of auto, sparse, dense, cusparse, got 'fast'",
        ),
        (
            dict(placement="both"),
            ValueError,
            "SparseConv2d: expected placement to be one of output, input, none, got 'both'",
        ),
        (
            dict(measure_every=-1),
            ValueError,
            "SparseConv2d: expected measure_every to be an int of at least 0, got -1",
        ),
        (dict(rate=1), ValueError, "PruneGrad: expected rate to be in [0, 1), got 1"),
    ],
)
def test_the_constructor_refuses_arguments_out_of_range(arguments, kind, sentence):
    assert message(kind, lambda: SparseConv2d(3, 4, 3, **arguments)) == f"sparsetrain.{sentence}"


def test_repr_names_backend_placement_and_pruner():
    conv = SparseConv2d(3, 4, 1, backend="dense", rate=0.5, measure_every=3)
    assert repr(conv) == (
        "SparseConv2d(\n"
        "  3, 4, kernel_size=(1, 1), stride=(1, 1), backend=dense, placement=output\n"
        "  (pruner): PruneGrad(rate=0.5, history=4)\n"
        "  (input_counter): NonzeroCounter(every=3)\n"
        ")"
    )


@pytest.mark.parametrize("placement", ["output", "input", "none"])
def test_each_placement_prunes_one_gradient_only(placement):
    torch.manual_seed(0)
    conv = SparseConv2d(4, 4, 3, placement=placement, history=0, seed=1)
    plain = revert(copy.deepcopy(conv))
    x = torch.randn(8, 4, 9, 9, requires_grad=True)
    dy = torch.randn(8, 4, 7, 7)
    conv(x).backward(dy)
    grads = x.grad, conv.weight.grad
    x.grad = None
    plain(x).backward(dy)
    assert torch.equal(grads[0], x.grad) == (placement == "none")
    assert torch.equal(grads[1], plain.weight.grad) == (placement != "output")
    assert (density(grads[0]) < 0.7) == (placement == "input")


class Backends(TorchDispatchMode):
    """Records the backend argument of every operator of this package."""

    def __init__(self):
        super().__init__()
        self.backends = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "sparsetrain":
            self.backends.append(args[-1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backend", ["sparse", "dense"])
def test_the_backend_reaches_the_forward_and_the_backward_operator(backend):
    conv = SparseConv2d(2, 2, 1, backend=backend, placement="none")
    with Backends() as recorder:
        conv(torch.randn(1, 2, 3, 3, requires_grad=True)).sum().backward()
    assert recorder.backends == [backend] * 2


def test_eval_mode_and_no_grad_change_no_state():
    model = convert(small_net(), measure_every=1)
    x = torch.randn(2, 3, 8, 8)
    states = [m.state.clone() for m in model.modules() if hasattr(m, "state")]
    with torch.no_grad():
        model(x)
    model.eval()
    model(x.requires_grad_()).sum().backward()
    assert same(states, [m.state for m in model.modules() if hasattr(m, "state")])
    assert torch.equal(model(x), revert(model)(x))


@pytest.mark.parametrize("placement", ["output", "input", "none"])
def test_an_activation_may_overwrite_the_output(placement):
    conv = SparseConv2d(4, 4, 3, placement=placement, history=9, measure_every=1)
    x = torch.randn(2, 4, 6, 6)
    grads = []
    for inplace in (False, True):
        conv.zero_grad()
        nn.LeakyReLU(0.1, inplace)(conv(x.clone().requires_grad_())).square().sum().backward()
        grads.append([p.grad.clone() for p in conv.parameters()])
    assert same(*grads)


def renamed(dictionary, new_names):
    return {new_names.get(name, name): value for name, value in dictionary.items()}


def attributes_of_an_older_version(module):
    """A module's attributes under the names that they had in pickles of the first versions."""
    attributes = renamed(vars(module), {"_last_call": "seen", "reason": "rule"})
    if "_density_slot" in attributes:
        attributes["lagged"] = attributes.pop("_density_slot")
    children = {"input_counter": "input_observer", "grad_counter": "grad_observer"}
    attributes["_modules"] = renamed(attributes["_modules"], children)
    return attributes


def test_pickles_of_older_versions_are_restored():
    model = convert(small_net(), history=1, measure_every=1)
    for i in range(2):
        step(model, i)
    expected, restored = model[6], SparseConv2d.__new__(SparseConv2d)
    attributes = attributes_of_an_older_version(expected)
    for name, child in attributes["_modules"].items():
        copied = type(child).__new__(type(child))
        copied.__setstate__(attributes_of_an_older_version(child))
        attributes["_modules"][name] = copied
    restored.__setstate__(attributes)
    assert set(vars(restored)) == set(vars(expected))
    assert set(restored._modules) == {"pruner", "input_counter", "grad_counter"}
    assert set(vars(restored.pruner)) == set(vars(expected.pruner))
    assert stats(restored) == stats(expected) and describe(restored) == describe(expected)
    assert sparsetrain.nn.Observer is NonzeroCounter and sparsetrain.nn.Seen is LastCall

"""Training under torch.compile, torch.export and make_fx equals eager training."""

import copy

import pytest
import torch
import torchvision
from helpers.nets import same, small_net, step
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from sparsetrain import PruneGrad, convert, ops, pruning, set_rate, stats


def images(batch, size=64, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, size, size, generator=generator, dtype=dtype, requires_grad=True)


def gradients(model, x):
    """The gradients of one training step: of the input, then of the parameters."""
    model.zero_grad()
    x.grad = None
    model(x).square().sum().backward()
    return [x.grad, *(p.grad for p in model.parameters())]


def states(model):
    return [m.state for m in model.modules() if isinstance(m, PruneGrad)]


def compiled(model, **options):
    """Compiles a copy; a graph break is an error."""
    torch._dynamo.reset()
    return torch.compile(copy.deepcopy(model), fullgraph=True, **options)


def resnet18(**options):
    """A ResNet-18 in which every convolution's gradient and the input's gradient are pruned."""
    torch.manual_seed(0)
    model = convert(torchvision.models.resnet18(num_classes=10), 0.9, history=1, **options)
    return nn.Sequential(PruneGrad(0.9, history=1, seed=1), model)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_training_is_bit_equal_to_eager_training(dynamic):
    eager = resnet18()
    fast = compiled(eager, backend="aot_eager", dynamic=dynamic)
    for i, batch in enumerate((4, 6, 3) if dynamic else (3, 3, 3)):
        x = images(batch, seed=i)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            ours = gradients(fast, x)
        assert same(ours, gradients(eager, x))
        assert same(states(fast), states(eager))
        assert all(state[pruning.PUSHES] == i + 1 for state in states(fast))
    assert 0 < (ours[0] == 0).double().mean() < 1


def test_inductor_prunes_like_eager():
    """Runs in float64: in float32 one rounding difference can flip a survivor of pruning."""
    eager = resnet18(backend="sparse").double()
    fast = compiled(eager)
    for i in range(2):
        x = images(2, dtype=torch.float64, seed=i)
        ours, theirs = gradients(fast, x)[0], gradients(eager, x)[0]
    one, two = torch.stack(states(fast)), torch.stack(states(eager))
    assert torch.equal(one[:, pruning.OFFSET], two[:, pruning.OFFSET])
    threshold = one[:, pruning.THRESHOLD]
    torch.testing.assert_close(threshold, two[:, pruning.THRESHOLD], rtol=1e-6, atol=0)
    assert (threshold > 0).all()
    assert ((ours == 0) != (theirs == 0)).double().mean() <= 1e-4
    assert 0 < (ours == 0).double().mean() < 1


def test_inductor_takes_any_batch_size():
    eager = convert(small_net().double(), 0.9, history=1, backend="sparse")
    fast = compiled(eager, dynamic=True)
    for i, batch in enumerate((4, 6, 3)):
        x = images(batch, 8, torch.float64, seed=i)
        torch.testing.assert_close(gradients(fast, x), gradients(eager, x))
    assert all(map(torch.equal, *(torch.stack(states(m))[:, :3] for m in (fast, eager))))


def test_set_rate_does_not_recompile():
    eager = convert(small_net(), 0.5, history=1)
    fast = compiled(eager, backend="aot_eager")
    for i, rate in enumerate((None, 0.9, 0, 0.99)):
        if rate is not None:
            set_rate(eager, rate)
            set_rate(fast, rate)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            ours = gradients(fast, images(4, 8, seed=i))
        assert same(ours, gradients(eager, images(4, 8, seed=i)))
    assert same(states(fast), states(eager))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = small_net()

    def forward(self, x):
        return self.net[6:](checkpoint(self.net[:6], x, use_reentrant=False))


def test_activation_checkpointing_compiles():
    eager = convert(Checkpointed(), 0.9, history=1)
    fast = compiled(eager, backend="aot_eager")
    for i in range(3):
        assert same(gradients(fast, images(4, 8, seed=i)), gradients(eager, images(4, 8, seed=i)))
    assert same(states(fast), states(eager))


def test_stats_of_a_compiled_model_have_densities():
    fast = compiled(convert(small_net(), history=0, measure_every=1), backend="aot_eager")
    gradients(fast, images(4, 8))
    measured = stats(fast._orig_mod)["2"]
    assert 0 < measured.grad_density < measured.grad_density_before == 1
    assert 0 < measured.input_density < 1


def test_an_exported_model_equals_eager_for_any_batch_size():
    model = convert(small_net()).eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (images(4, 8),), dynamic_shapes=({0: batch},))
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called.count(torch.ops.sparsetrain.conv2d.default) == 4
    for n in (2, 5):
        assert torch.equal(program.module()(images(n, 8)), model(images(n, 8)))


def test_make_fx_records_a_pruned_backward():
    def step(x, weight, state):
        y = ops.conv2d(x, weight, padding=1)
        return torch.autograd.grad(ops.prune_grad(y, state).square().sum(), (x, weight))

    pruner = PruneGrad(0.9, history=0, seed=1)
    x, weight = images(2, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    for mode in ("real", "symbolic"):
        graph = make_fx(step, tracing_mode=mode)(x, weight, pruner.state.clone())
        called = [node.target for node in graph.graph.nodes if node.op == "call_function"]
        assert called.count(torch.ops.sparsetrain.prune_step.default) == 1
        one, two = pruner.state.clone(), pruner.state.clone()
        for _ in range(2):
            assert same(graph(x, weight, one), step(x, weight, two))
        assert torch.equal(one, two) and one[pruning.PUSHES] == 0 < one[pruning.OFFSET]


@pytest.mark.parametrize("training", [True, False])
def test_torch_fx_records_a_converted_convolution_as_one_node(training):
    model = convert(nn.Sequential(PruneGrad(seed=1), small_net()), history=1).train(training)
    twin = copy.deepcopy(model)
    traced = fx.symbolic_trace(model)
    called = [traced.get_submodule(n.target) for n in traced.graph.nodes if n.op == "call_module"]
    assert [type(m) for m in called[1:]] == [type(m) for m in model[1]]
    for i in range(3):
        assert same(step(traced, i), step(twin, i))
    assert torch.equal(model[1][2].pruner.state, twin[1][2].pruner.state)

"""Laws of every operator in PyTorch: opcheck, determinism, the profiler, derivatives."""

import pytest
import torch
from helpers.nets import same, small_net, step, trained

from sparsetrain import convert, load_pruning_state, ops, pruning, pruning_state


def samples():
    """Arguments for every operator, by the operator's name."""
    g = torch.Generator().manual_seed(0)

    def leaf(*size):
        return torch.randn(size, generator=g).requires_grad_()

    geometry = ((1, 1), (1, 1), (1, 1), 1)
    state = torch.zeros(17, dtype=torch.float64)
    state[12] = 1.0  # the factor
    counts = torch.zeros(3, dtype=torch.float64)
    density = torch.tensor(0.5, dtype=torch.float64)  # on the CPU, wherever the other tensors are
    return {
        "conv2d": [
            (leaf(2, 4, 8, 8), leaf(8, 4, 3, 3), leaf(8), *geometry, *rest)
            for rest in (["sparse"], ["dense"], ["auto", False, density, density])
        ],
        "conv2d_backward": [
            (leaf(2, 8, 8, 8), leaf(2, 4, 8, 8), leaf(8, 4, 3, 3), *geometry, *rest)
            for rest in (
                ([True, True, True], "sparse"),
                ([False, True, False], "sparse"),
                ([True, True, True], "auto", False, density),
            )
        ],
        "prune": [(leaf(100), torch.tensor(1.0), torch.tensor([1, 2]))],
        "prune_step": [
            (leaf(100), state.clone()),
            (leaf(100), state.clone(), density),
            (leaf(4, 6, 9)[1:, :, 2:].permute(2, 0, 1), state.clone()),
        ],
        "prune_grad": [(leaf(100), state.clone()), (leaf(100), state.clone(), density)],
        "count_nonzeros": [(leaf(100), counts.clone(), 1), (leaf(100), counts.clone(), 1, density)],
        "count_grad_nonzeros": [
            (leaf(100), counts.clone(), 1),
            (leaf(100), counts.clone(), 1, density),
        ],
    }


def test_every_operator_has_samples():
    registered = torch._C._dispatch_get_all_op_names()
    ours = {name.split("::")[1] for name in registered if name.startswith("sparsetrain::")}
    assert ours == set(samples())


@pytest.mark.parametrize("name", samples())
def test_operators_pass_opcheck(name):
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if name != "conv2d_backward" or torch.__version__ >= "2.15":
        # torch 2.11's own double backward of a convolution asks symbolic sizes for a number.
        checks.append("test_aot_dispatch_dynamic")
    for arguments in samples()[name]:
        operator = getattr(torch.ops.sparsetrain, name).default
        torch.library.opcheck(operator, arguments, test_utils=checks)


@pytest.fixture
def deterministic():
    """Makes torch deterministic, which also fills new memory with NaN: no result may show it."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def run(steps, model=None, first=0):
    """Trains on the sparse kernels with pruning, and returns the model."""
    model = model or convert(small_net(), 0.9, history=2, backend="sparse")
    return trained(steps, model, torch.optim.SGD(model.parameters(), 0.01), first)[0]


def contents(model):
    return [*model.state_dict().values(), *pruning_state(model)["pruners"].values()]


def test_deterministic_runs_are_bit_equal_and_resume_bit_for_bit(deterministic):
    whole = run(6)
    assert same(contents(whole), contents(run(6)))
    assert all(values.isfinite().all() for values in contents(whole))
    stopped, resumed = run(3), convert(small_net(), 0.9, history=2, backend="sparse")
    resumed.load_state_dict(stopped.state_dict())
    load_pruning_state(resumed, pruning_state(stopped))
    assert same(contents(whole), contents(run(3, resumed, first=3)))


def test_the_profiler_shows_operators_by_name_with_shapes():
    model = convert(small_net(), history=0, backend="sparse")
    with torch.profiler.profile(record_shapes=True) as profile:
        step(model, 0)
    shapes = {}
    for event in profile.key_averages(group_by_input_shape=True):
        shapes.setdefault(event.key, []).append(event.input_shapes)
    x, weight, gradient = [4, 3, 8, 8], [8, 3, 3, 3], [4, 8, 8, 8]
    assert [x, weight] in [each[:2] for each in shapes["sparsetrain::conv2d"]]
    backward = shapes["sparsetrain::conv2d_backward"]
    assert [gradient, x, weight] in [each[:3] for each in backward]
    pruned = shapes["sparsetrain::prune_step"]
    assert [gradient, [pruning.HEADER]] in [each[:2] for each in pruned]


def test_gradients_that_were_not_asked_for_have_no_derivative():
    dy = torch.randn(2, 4, 6, 6, requires_grad=True)
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    backward = torch.ops.sparsetrain.conv2d_backward
    got = backward(dy, x, w, [1, 1], [0, 0], [1, 1], 1, [False, True, False], "sparse")
    assert [gradient.requires_grad for gradient in got] == [False, True, False]


def test_a_refused_call_runs_once(monkeypatch):
    """The operator is not called again to find out what was wrong."""
    calls, operator = [], ops._C.conv2d

    def counted(*arguments):
        calls.append(arguments)
        return operator(*arguments)

    monkeypatch.setattr(ops._C, "conv2d", counted)
    for x, message in (
        (torch.zeros(1, 2, 5, 5), "expected weight to be"),  # refused by the operator
        ([1.0], "expected input to be a tensor, got list"),  # not taken by the operator
    ):
        calls.clear()
        with pytest.raises((TypeError, ValueError), match=message):
            ops.conv2d(x, torch.zeros(4, 3, 3, 3))
        assert len(calls) == 1


def test_an_error_inside_a_kernel_is_raised_unchanged():
    """No machine has the memory for a copy of these 2^54 elements."""
    x = torch.zeros(1, 1, 1, 1).expand(1, 1, 2**27, 2**27)
    with pytest.raises(RuntimeError, match="can't allocate memory") as error:
        ops.conv2d(x, torch.zeros(1, 1, 3, 3), backend="sparse")
    assert error.value.__cause__ is None and error.value.__context__ is None


def test_the_native_functions_refuse_another_number_of_arguments():
    for function, wanted in ((ops._C.conv2d, 11), (ops._C.prune_grad, 3)):
        with pytest.raises(TypeError, match=f"expected {wanted} arguments, got 1"):
            function(None)

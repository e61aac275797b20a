"""Laws of training beside the rest of PyTorch: scaling, recomputation, copies, threads, loaders."""

import io
import math
import threading

import pytest
import torch
from helpers.nets import same, small_net, step
from torch import nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from sparsetrain import PruneGrad, convert, pruning, reference, rescale_thresholds


def pruned_net():
    return convert(small_net(), 0.9, history=2)


def states(model):
    return [m.state for m in model.modules() if isinstance(m, PruneGrad)]


def images(seed, batch=4):
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def backward(pruner, grad):
    x = torch.zeros_like(grad, requires_grad=True)
    pruner(x).backward(grad)
    return x.grad


@pytest.mark.parametrize("exponent", [-6, 8])
def test_pruning_commutes_with_the_loss_scale(exponent):
    """A power of two only moves exponents, so that every bit of the mantissas is the same."""
    one, scaled = pruned_net(), pruned_net()
    for i in range(5):
        gradients = step(one, i)
        scaled.zero_grad()
        (scaled(images(i)).square().sum() * 2.0**exponent).backward()
        assert same(gradients, [p.grad * 2.0**-exponent for p in scaled.parameters()])
    assert (gradients[2] == 0).any() or states(one)[0][pruning.THRESHOLD] > 0


@pytest.mark.parametrize("history", [1, 4])
def test_after_a_change_of_scale_thresholds_recover_within_the_history(history):
    one, scaled = PruneGrad(0.9, history, seed=1), PruneGrad(0.9, history, seed=1)
    ratios = []
    for i in range(3 * history):
        scale = 2.0**5 if i >= history + 1 else 1.0
        grad = images(i)
        backward(one, grad)
        backward(scaled, grad * scale)
        thresholds = [p.state[pruning.THRESHOLD].item() for p in (scaled, one)]
        ratios.append(thresholds[0] / thresholds[1] if i >= history else 1.0)
    change = history + 1
    assert ratios[: change + 1] == [1.0] * (change + 1)
    assert all(1 < r < 32 for r in ratios[change + 1 : change + history])
    assert ratios[change + history :] == [32.0] * (len(ratios) - change - history)


def test_a_gradient_that_overflows_is_skipped_and_never_remembered():
    model = pruned_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-120)
    before = [p.clone() for p in model.parameters()]
    for i in range(6):
        optimizer.zero_grad()
        scaler.scale(model(images(i)).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        pushes = [int(state[pruning.PUSHES]) for state in states(model)]
        assert pushes == [i] * len(pushes)  # all but the first
        assert same(before, list(model.parameters())) == (i == 0)
    assert all(0 < state[pruning.THRESHOLD] < math.inf for state in states(model))


def trained_with(scaler, rescaled, history=2, backend="eager"):
    """Thresholds of every step and the weights after nine, with plain gradients in float32."""
    torch.manual_seed(0)
    model = convert(small_net(), 0.9, history=history)
    called = torch.compile(model, backend=backend, fullgraph=True) if backend != "eager" else model
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    thresholds = []
    for i in range(9):
        optimizer.zero_grad()
        scaler.scale(called(images(i)).square().sum()).backward()
        scale = scaler.get_scale()
        thresholds.append([state[pruning.THRESHOLD].item() / scale for state in states(model)])
        scaler.step(optimizer)
        scaler.update()
        if rescaled:
            rescale_thresholds(model, torch.tensor(scaler.get_scale() / scale))
    return thresholds, list(model.parameters())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_thresholds_follow_the_loss_scale_at_once_when_they_are_told(backend):
    """Powers of two round nothing: the run is that of a constant scale, bit for bit."""
    growing = dict(init_scale=2.0**4, growth_factor=16.0, growth_interval=3)
    constant = trained_with(torch.amp.GradScaler("cpu", init_scale=1.0), False, backend=backend)
    told = trained_with(torch.amp.GradScaler("cpu", **growing), True, backend=backend)
    untold = trained_with(torch.amp.GradScaler("cpu", **growing), False, backend=backend)
    assert told[0] == constant[0] and same(told[1], constant[1])
    assert not same(untold[1], constant[1])
    ratios = [a[0] / b[0] if b[0] else 1 for a, b in zip(untold[0], constant[0], strict=True)]
    assert ratios[3] < 0.1 and ratios[4] < 0.6 and 0.5 < ratios[5] < 2  # within `history` batches


def test_thresholds_are_rescaled_by_positive_numbers_only():
    model = convert(small_net(), history=1)
    for ratio in (0, -1.0, math.inf, torch.tensor(math.nan)):
        with pytest.raises(ValueError, match=r"^sparsetrain\.rescale_thresholds: expected"):
            rescale_thresholds(model, ratio)
    for ratio in ("2", None, True, torch.ones(2)):
        with pytest.raises(TypeError, match="to be a number or a tensor of one element, got"):
            rescale_thresholds(model, ratio)
    with pytest.raises(ValueError, match="expected model to have a PruneGrad, got none"):
        rescale_thresholds(small_net(), 2)
    rescale_thresholds(convert(small_net(), history=0), 2)  # which remembers nothing


def test_autocast_prunes_in_its_lower_precision():
    plain, model = small_net(), convert(small_net(), 0, backend="dense")
    with torch.autocast("cpu", torch.bfloat16):
        losses = [m(images(0)).square().sum() for m in (plain, model)]
    for loss in losses:
        loss.backward()
    assert same(*([p.grad for p in m.parameters()] for m in (plain, model)))

    seen, pruner = [], PruneGrad(0.9, history=0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), pruner)
    net[0].register_full_backward_hook(lambda module, inputs, outputs: seen.append(outputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        net(images(0).requires_grad_()).square().sum().backward()
    values = seen[0].abs().unique()
    threshold = pruner.state[pruning.THRESHOLD].to(torch.bfloat16)
    assert values.dtype == torch.bfloat16 and values[:2].tolist() == [0, threshold]


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_draws_nothing_anew(reentrant):
    model, twin = pruned_net(), pruned_net()
    for i in range(4):
        gradients = step(model, i)
        twin.zero_grad()
        x = images(i).requires_grad_()  # without one, reentrant checkpoints give no gradients
        y = twin[6:](checkpoint(twin[:6], x, use_reentrant=reentrant))
        y.square().sum().backward()
        assert same(gradients, [p.grad for p in twin.parameters()])
    assert same(states(model), states(twin))
    assert states(model)[0][pruning.PUSHES] == 4


@pytest.mark.parametrize("reentrant, calls", [(False, 2), (True, 1)])
def test_a_forward_that_is_repeated_is_observed_again(reentrant, calls):
    """PyTorch tells no module that it runs again; what is counted is the same tensor."""
    model = convert(small_net(), 0.9, measure_every=1)
    for i in range(3):
        checkpoint(model, images(i).requires_grad_(), use_reentrant=reentrant).sum().backward()
        conv = next(m for m in model.modules() if hasattr(m, "input_counter"))
        assert conv.input_counter.state.tolist() == [calls * (i + 1), 4 * 3 * 8 * 8, 4 * 3 * 8 * 8]


def test_accumulated_gradients_are_the_sum_of_those_apart():
    model, twin = pruned_net(), pruned_net()
    apart = [step(model, i) for i in range(3)]
    for i in range(3):
        twin(images(i)).square().sum().backward()
    total = [one + two + three for one, two, three in zip(*apart, strict=True)]
    assert same(total, [p.grad for p in twin.parameters()])
    assert same(states(model), states(twin))


def test_two_passes_through_one_forward_are_two_batches():
    model, twin = pruned_net(), pruned_net()
    loss = model(images(0)).square().sum()
    loss.backward(retain_graph=True)
    model.zero_grad()
    loss.backward()
    for _ in range(2):
        twin.zero_grad()
        gradients = step(twin, 0)
    assert same(gradients, [p.grad for p in model.parameters()])
    assert same(states(model), states(twin))


def test_hooks_see_and_change_gradients_as_those_of_a_plain_convolution():
    results = []
    for model in (small_net(), convert(small_net(), 0, backend="dense")):
        seen = []
        model[2].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
        model[2].register_full_backward_pre_hook(lambda module, outputs: (outputs[0] * 3,))
        model[2].register_full_backward_hook(
            lambda module, inputs, outputs, seen=seen: seen.extend((*inputs, *outputs))
        )
        model[2].weight.register_post_accumulate_grad_hook(lambda p, seen=seen: seen.append(p.grad))
        model[2].weight.register_hook(lambda grad: grad * 5)
        results.append([*step(model, 0), *seen])
    assert len(results[0]) == 3 + len(list(small_net().parameters())) and same(*results)


def test_a_functional_call_is_a_call():
    model, twin = pruned_net(), pruned_net()
    for i in range(4):
        gradients = step(model, i)
        parameters = {n: p.detach().clone().requires_grad_() for n, p in twin.named_parameters()}
        functional_call(twin, parameters, (images(i),)).square().sum().backward()
        assert same(gradients, [p.grad for p in parameters.values()])
    assert same(states(model), states(twin))


def test_who_follows_python_calls_sees_the_operator():
    class Log(TorchFunctionMode):
        called = ()

        def __torch_function__(self, function, types, args=(), kwargs=None):
            self.called += (str(function),)
            return function(*args, **(kwargs or {}))

    with Log() as log:
        convert(small_net(), backend="sparse")(images(0))
    assert "sparsetrain.conv2d" in " ".join(log.called)


def test_function_transforms_are_refused_by_torch_in_a_sentence():
    model = pruned_net()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters):
        return functional_call(model, parameters, (images(0),)).square().sum()

    with pytest.raises(RuntimeError, match=r"C\+\+ torch::autograd::Function with functorch"):
        torch.func.grad(loss)(parameters)


def test_a_saved_model_trains_on():
    model, file = pruned_net(), io.BytesIO()
    for i in range(3):
        step(model, i)
    torch.save(model, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    assert same(step(model, 3), step(twin, 3)) and same(states(model), states(twin))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_loaders_processes_feed_the_same_training(start):
    data = TensorDataset(torch.cat([images(i) for i in range(4)]))
    runs = []
    for options in ({}, {"num_workers": 2, "multiprocessing_context": start}):
        model = pruned_net()
        for (batch,) in DataLoader(data, batch_size=4, **options):
            model.zero_grad()
            model(batch).square().sum().backward()
        runs.append([*(p.grad for p in model.parameters()), *states(model)])
    assert same(*runs)


def at_once(*calls):
    start, errors = threading.Barrier(len(calls)), []

    def run(call):
        try:
            start.wait()
            call()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_threads_train_models_of_their_own_as_if_alone():
    alone, models = pruned_net(), [pruned_net() for _ in range(4)]

    def train(model):
        for i in range(4):
            model.zero_grad()
            model(images(i)).square().sum().backward()

    train(alone)
    at_once(*(lambda model=model: train(model) for model in models))
    for model in models:
        assert same(states(model), states(alone))
        assert same(*([p.grad for p in m.parameters()] for m in (model, alone)))


def test_threads_through_one_pruner_share_its_numbers_out():
    """Each of 40 backward passes takes a range of the counter that no other one takes."""
    pruner, n, passes, outputs = PruneGrad(0.9, history=0, seed=7), 999, 10, []
    grads = [torch.randn(n, generator=torch.Generator().manual_seed(i)) for i in range(40)]

    def work(mine):
        for grad in mine:
            outputs.append((grad, backward(pruner, grad)))

    at_once(*(lambda k=k: work(grads[k * passes : (k + 1) * passes]) for k in range(4)))
    taken = set()
    for grad, out in outputs:
        threshold = pruner.factor * (reference.abs_sum(grad) / n)
        matches = [
            k for k in range(40) if torch.equal(out, reference.prune(grad, threshold, 7, 250 * k))
        ]
        assert len(matches) == 1
        taken.update(matches)
    assert len(taken) == 40 and pruner.state[pruning.OFFSET] == 40 * 250

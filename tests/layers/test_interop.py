"""Laws of training with other features of PyTorch: loss scaling, checkpointing, hooks, threads."""

import io
import math
import threading

import pytest
import torch
from helpers.nets import pruner_states, same, small_net, step
from torch import nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from sparsetrain import PruneGrad, convert, pruning, reference, rescale_thresholds


def pruned_net():
    return convert(small_net(), 0.9, history=2)


def images(seed, batch=4):
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def backward(pruner, grad):
    """The pruned gradient."""
    x = torch.zeros_like(grad, requires_grad=True)
    pruner(x).backward(grad)
    return x.grad


@pytest.mark.parametrize("exponent", [-6, 8])
def test_pruning_commutes_with_the_loss_scale(exponent):
    """Scaling by a power of two changes exponents only, so that all mantissas are bit-equal."""
    model, scaled = pruned_net(), pruned_net()
    for i in range(5):
        gradients = step(model, i)
        scaled.zero_grad()
        (scaled(images(i)).square().sum() * 2.0**exponent).backward()
        assert same(gradients, [p.grad * 2.0**-exponent for p in scaled.parameters()])
    assert (gradients[2] == 0).any() or pruner_states(model)[0][pruning.THRESHOLD] > 0


@pytest.mark.parametrize("history", [1, 4])
def test_thresholds_follow_a_change_of_scale_within_the_history(history):
    unscaled, scaled = PruneGrad(0.9, history, seed=1), PruneGrad(0.9, history, seed=1)
    ratios = []
    for i in range(3 * history):
        scale = 2.0**5 if i >= history + 1 else 1.0
        grad = images(i)
        backward(unscaled, grad)
        backward(scaled, grad * scale)
        thresholds = [p.state[pruning.THRESHOLD].item() for p in (scaled, unscaled)]
        ratios.append(thresholds[0] / thresholds[1] if i >= history else 1.0)
    change = history + 1
    assert ratios[: change + 1] == [1.0] * (change + 1)
    assert all(1 < r < 32 for r in ratios[change + 1 : change + history])
    assert ratios[change + history :] == [32.0] * (len(ratios) - change - history)


def test_an_overflowing_gradient_is_skipped_and_does_not_enter_the_history():
    model = pruned_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-120)
    before = [p.clone() for p in model.parameters()]
    for i in range(6):
        optimizer.zero_grad()
        scaler.scale(model(images(i)).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        pushes = [int(state[pruning.PUSHES]) for state in pruner_states(model)]
        assert pushes == [i] * len(pushes)  # the first step overflowed
        assert same(before, list(model.parameters())) == (i == 0)
    assert all(0 < state[pruning.THRESHOLD] < math.inf for state in pruner_states(model))


def trained_with(scaler, rescaled, history=2, backend="eager"):
    """Thresholds of nine steps, divided by the loss scale, and the weights after them."""
    torch.manual_seed(0)
    model = convert(small_net(), 0.9, history=history)
    called = torch.compile(model, backend=backend, fullgraph=True) if backend != "eager" else model
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    thresholds = []
    for i in range(9):
        optimizer.zero_grad()
        scaler.scale(called(images(i)).square().sum()).backward()
        scale = scaler.get_scale()
        thresholds.append(
            [state[pruning.THRESHOLD].item() / scale for state in pruner_states(model)]
        )
        scaler.step(optimizer)
        scaler.update()
        if rescaled:
            rescale_thresholds(model, torch.tensor(scaler.get_scale() / scale))
    return thresholds, list(model.parameters())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_rescaled_thresholds_follow_the_loss_scale_at_once(backend):
    """Powers of two cause no rounding: the run is bit-equal to one with a constant scale."""
    growing = dict(init_scale=2.0**4, growth_factor=16.0, growth_interval=3)
    constant = trained_with(torch.amp.GradScaler("cpu", init_scale=1.0), False, backend=backend)
    rescaled = trained_with(torch.amp.GradScaler("cpu", **growing), True, backend=backend)
    unadjusted = trained_with(torch.amp.GradScaler("cpu", **growing), False, backend=backend)
    assert rescaled[0] == constant[0] and same(rescaled[1], constant[1])
    assert not same(unadjusted[1], constant[1])
    ratios = [a[0] / b[0] if b[0] else 1 for a, b in zip(unadjusted[0], constant[0], strict=True)]
    assert (
        ratios[3] < 0.1 and ratios[4] < 0.6 and 0.5 < ratios[5] < 2
    )  # equal after `history` batches


def test_rescale_thresholds_refuses_all_but_finite_positive_numbers():
    model = convert(small_net(), history=1)
    for ratio in (0, -1.0, math.inf, torch.tensor(math.nan)):
        with pytest.raises(ValueError, match=r"^sparsetrain\.rescale_thresholds: expected"):
            rescale_thresholds(model, ratio)
    for ratio in ("2", None, True, torch.ones(2)):
        with pytest.raises(TypeError, match="to be a number or a tensor of one element, got"):
            rescale_thresholds(model, ratio)
    with pytest.raises(ValueError, match="expected model to have a PruneGrad, got none"):
        rescale_thresholds(small_net(), 2)
    rescale_thresholds(convert(small_net(), history=0), 2)  # no history to rescale, and no error


def test_autocast_prunes_gradients_of_lower_precision():
    plain, model = small_net(), convert(small_net(), 0, backend="dense")
    with torch.autocast("cpu", torch.bfloat16):
        losses = [m(images(0)).square().sum() for m in (plain, model)]
    for loss in losses:
        loss.backward()
    assert same(*([p.grad for p in m.parameters()] for m in (plain, model)))

    grads, pruner = [], PruneGrad(0.9, history=0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), pruner)
    net[0].register_full_backward_hook(lambda module, inputs, outputs: grads.append(outputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        net(images(0).requires_grad_()).square().sum().backward()
    values = grads[0].abs().unique()
    threshold = pruner.state[pruning.THRESHOLD].to(torch.bfloat16)
    assert values.dtype == torch.bfloat16 and values[:2].tolist() == [0, threshold]


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_draws_the_same_random_numbers(reentrant):
    model, twin = pruned_net(), pruned_net()
    for i in range(4):
        gradients = step(model, i)
        twin.zero_grad()
        x = images(i).requires_grad_()  # reentrant checkpointing requires it
        y = twin[6:](checkpoint(twin[:6], x, use_reentrant=reentrant))
        y.square().sum().backward()
        assert same(gradients, [p.grad for p in twin.parameters()])
    assert same(pruner_states(model), pruner_states(twin))
    assert pruner_states(model)[0][pruning.PUSHES] == 4


@pytest.mark.parametrize("reentrant, calls", [(False, 2), (True, 1)])
def test_a_recomputed_forward_pass_counts_the_same_tensor_again(reentrant, calls):
    """A module cannot know that PyTorch recomputes its forward pass."""
    model = convert(small_net(), 0.9, measure_every=1)
    for i in range(3):
        checkpoint(model, images(i).requires_grad_(), use_reentrant=reentrant).sum().backward()
        conv = next(m for m in model.modules() if hasattr(m, "input_counter"))
        elements = images(i).numel()
        assert conv.input_counter.state.tolist() == [calls * (i + 1), elements, elements]


def test_accumulated_gradients_are_the_sum_of_the_gradients_of_single_steps():
    model, twin = pruned_net(), pruned_net()
    single = [step(model, i) for i in range(3)]
    for i in range(3):
        twin(images(i)).square().sum().backward()
    total = [a + b + c for a, b, c in zip(*single, strict=True)]
    assert same(total, [p.grad for p in twin.parameters()])
    assert same(pruner_states(model), pruner_states(twin))


def test_two_backward_passes_of_one_forward_pass_count_as_two_steps():
    model, twin = pruned_net(), pruned_net()
    loss = model(images(0)).square().sum()
    loss.backward(retain_graph=True)
    model.zero_grad()
    loss.backward()
    for _ in range(2):
        twin.zero_grad()
        gradients = step(twin, 0)
    assert same(gradients, [p.grad for p in model.parameters()])
    assert same(pruner_states(model), pruner_states(twin))


def test_hooks_get_and_change_the_gradients_of_a_plain_convolution():
    results = []
    for model in (small_net(), convert(small_net(), 0, backend="dense")):
        grads = []
        model[2].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
        model[2].register_full_backward_pre_hook(lambda module, outputs: (outputs[0] * 3,))
        model[2].register_full_backward_hook(
            lambda module, inputs, outputs, grads=grads: grads.extend((*inputs, *outputs))
        )
        model[2].weight.register_post_accumulate_grad_hook(
            lambda p, grads=grads: grads.append(p.grad)
        )
        model[2].weight.register_hook(lambda grad: grad * 5)
        results.append([*step(model, 0), *grads])
    hooked = 3  # gradients of input, output and weight
    assert len(results[0]) == hooked + len(list(small_net().parameters())) and same(*results)


def test_functional_call_equals_a_call():
    model, twin = pruned_net(), pruned_net()
    for i in range(4):
        gradients = step(model, i)
        parameters = {n: p.detach().clone().requires_grad_() for n, p in twin.named_parameters()}
        functional_call(twin, parameters, (images(i),)).square().sum().backward()
        assert same(gradients, [p.grad for p in parameters.values()])
    assert same(pruner_states(model), pruner_states(twin))


def test_a_torch_function_mode_gets_the_operator():
    class Log(TorchFunctionMode):
        called = ()

        def __torch_function__(self, function, types, args=(), kwargs=None):
            self.called += (str(function),)
            return function(*args, **(kwargs or {}))

    with Log() as log:
        convert(small_net(), backend="sparse")(images(0))
    assert "sparsetrain.conv2d" in " ".join(log.called)


def test_torch_refuses_function_transforms_with_a_message():
    model = pruned_net()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters):
        return functional_call(model, parameters, (images(0),)).square().sum()

    with pytest.raises(RuntimeError, match=r"C\+\+ torch::autograd::Function with functorch"):
        torch.func.grad(loss)(parameters)


def test_a_saved_model_continues_training_bit_for_bit():
    model, file = pruned_net(), io.BytesIO()
    for i in range(3):
        step(model, i)
    torch.save(model, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    assert same(step(model, 3), step(twin, 3)) and same(pruner_states(model), pruner_states(twin))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_training_does_not_depend_on_the_processes_of_the_data_loader(start):
    data = TensorDataset(torch.cat([images(i) for i in range(4)]))
    runs = []
    for options in ({}, {"num_workers": 2, "multiprocessing_context": start}):
        model = pruned_net()
        for (batch,) in DataLoader(data, batch_size=4, **options):
            model.zero_grad()
            model(batch).square().sum().backward()
        runs.append([*(p.grad for p in model.parameters()), *pruner_states(model)])
    assert same(*runs)


def run_concurrently(*calls):
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


def test_concurrent_training_of_separate_models_equals_sequential_training():
    alone, models = pruned_net(), [pruned_net() for _ in range(4)]

    def train(model):
        for i in range(4):
            model.zero_grad()
            model(images(i)).square().sum().backward()

    train(alone)
    run_concurrently(*(lambda model=model: train(model) for model in models))
    for model in models:
        assert same(pruner_states(model), pruner_states(alone))
        assert same(*([p.grad for p in m.parameters()] for m in (model, alone)))


def test_threads_that_share_a_pruner_draw_different_random_numbers():
    """Each of 40 backward passes takes its own range of the random counter."""
    pruner, n, passes, outputs = PruneGrad(0.9, history=0, seed=7), 999, 10, []
    grads = [torch.randn(n, generator=torch.Generator().manual_seed(i)) for i in range(40)]

    def prune_all(some_grads):
        for grad in some_grads:
            outputs.append((grad, backward(pruner, grad)))

    run_concurrently(
        *(lambda k=k: prune_all(grads[k * passes : (k + 1) * passes]) for k in range(4))
    )
    taken = set()
    for grad, out in outputs:
        threshold = pruner.factor * (reference.abs_sum(grad) / n)
        matches = [
            k for k in range(40) if torch.equal(out, reference.prune(grad, threshold, 7, 250 * k))
        ]
        assert len(matches) == 1
        taken.update(matches)
    assert len(taken) == 40 and pruner.state[pruning.OFFSET] == 40 * 250

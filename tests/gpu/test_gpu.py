"""Pruning, counting and convolutions on a GPU, compared with the CPU's. Skipped without a GPU."""

import copy
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from helpers.nets import small_net
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import sparsetrain
from sparsetrain import (
    PruneGrad,
    accel,
    convert,
    load_pruning_state,
    ops,
    pruning,
    pruning_state,
    testing,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")

DTYPES = testing.DTYPES
SIZES = [0, 1, 7, 2047, 2048, 2049, 300_001, 2048 * 1025 + 3]


def bits(t):
    return t.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[t.element_size()])


def state_of(history, factor=1.5, device="cuda"):
    state = torch.zeros(pruning.HEADER + history, dtype=torch.float64)
    state[pruning.SEED], state[pruning.FACTOR] = 77, factor
    return state.to(device)


def sparse(*shape, density=0.2, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=g) * (torch.rand(shape, generator=g) < density)
    return values.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_prune_is_bit_equal_to_the_cpu(dtype, n):
    rng, threshold = torch.tensor([5, 2**32 - 2]), torch.tensor(0.7)
    for shift in (0, 1):  # storage aligned to 16 bytes, then not aligned
        grad = torch.randn(n + shift).to(dtype)[shift:]
        if n > 3:
            grad[1], grad[2] = -0.0, 0.0
        on_gpu = torch.empty(n + shift, dtype=dtype, device="cuda")[shift:].copy_(grad)
        out, stats = torch.ops.sparsetrain.prune(on_gpu, threshold, rng)
        expected, expected_stats = torch.ops.sparsetrain.prune(grad, threshold, rng)
        assert torch.equal(bits(out.cpu()), bits(expected))
        assert torch.equal(stats.cpu(), expected_stats)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("history", [0, 1, 3])
def test_prune_step_is_bit_equal_to_the_cpu(dtype, history):
    ours, theirs = state_of(history), state_of(history, device="cpu")
    for n in (5000, 5000, 4999, 300, 5000):
        grad = torch.randn(n).to(dtype)
        if n == 300:
            grad[7] = math.inf
        out = ops.prune_step(grad.cuda(), ours)
        assert torch.equal(bits(out.cpu()), bits(ops.prune_step(grad, theirs)))
        assert torch.equal(ours.cpu(), theirs)


def test_pruning_more_than_2_to_the_31_elements():
    n = 2**31 + 4099
    if torch.cuda.mem_get_info()[0] < 6 * n:
        pytest.skip("too little free memory for 2^31 elements")
    grad = torch.zeros(n, dtype=torch.bfloat16, device="cuda")
    grad[-5000:] = torch.randn(5000, device="cuda")
    tail = 4096 + (n - 4096) % 4  # preceded by a whole number of random blocks of four
    expected = sparsetrain.prune(grad[-tail:].cpu(), 0.5, seed=3, offset=(n - tail) // 4)
    out, stats = torch.ops.sparsetrain.prune(
        grad, torch.tensor(0.5), torch.tensor([3, 0], device="cuda")
    )
    assert torch.equal(out[-tail:].cpu(), expected)
    assert stats[2] == out.count_nonzero()


@pytest.mark.parametrize("dtype", DTYPES)
def test_count_nonzeros_counts_every_nth_call(dtype):
    state = torch.zeros(3, dtype=torch.float64, device="cuda")
    for call in range(5):
        x = sparse(3, 5, 70, 31, seed=call, dtype=dtype).cuda()
        ops.count_nonzeros(x, state, 3)
        if call % 3 == 0:
            expected = int(x.count_nonzero())
        assert state.tolist() == [call + 1, x.numel(), expected]
    ops.count_nonzeros(x != 0, state[:].zero_(), 1)
    assert state[2] == x.count_nonzero()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", testing.CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("memory_format", testing.MEMORY_FORMATS)
@pytest.mark.parametrize(
    ("backend", "density"),
    [("sparse", 0.2), ("cusparse", 0.0), ("cusparse", 0.2), ("cusparse", 1.0)],
)
def test_sparse_passes_equal_float64(dtype, case, memory_format, backend, density):
    operands = case.operands(
        dtype, grad_density=density, memory_format=memory_format, device="cuda"
    )

    def convolve(x, w, b):
        return ops.conv2d(x, w, b, **case.geometry, backend=backend)

    junk = torch.full((1 << 22,), math.nan, device="cuda")  # shows reads of unwritten memory
    del junk
    first, second = (testing.three_passes(convolve, operands) for _ in range(2))
    exact = testing.exact_results(operands, **case.geometry)
    chosen = sparsetrain.explain(
        case.input_shape, case.weight_shape, **case.geometry, dtype=dtype, backend=backend,
        device="cuda",
    )  # fmt: skip
    # Passes that run dense are cuDNN's, which the error bound does not cover.
    for index, choice in enumerate((chosen.forward, chosen.grad_input, chosen.grad_weight)):
        if choice.backend == backend:
            assert torch.equal(first[index], second[index])
            assert exact[index].mismatch(first[index]) is None


def trained(model, steps, step):
    for i in range(steps):
        step(model, i)
    return [*model.state_dict().values(), *pruning_state(model)["pruners"].values()]


def plain_step(model, seed):
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).cuda()
    model.zero_grad()
    model(x).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=0.01)


def net(**options):
    return convert(small_net(), 0.9, history=2, **options).cuda()


def equal(one, two):
    return all(map(torch.equal, one, two, strict=True))


def test_a_side_stream_gives_equal_results():
    expected = trained(net(backend="sparse"), 3, plain_step)
    model, stream = net(backend="sparse"), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = trained(model, 3, plain_step)
    torch.cuda.synchronize()
    assert equal(got, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU only")
def test_operators_run_on_the_device_of_their_tensors():
    grad = torch.randn(5000)
    out = sparsetrain.prune(grad.to("cuda:1"), 0.7, seed=3)
    x, w = sparse(2, 8, 9, 9), sparse(16, 8, 3, 3, density=1)
    y = ops.conv2d(x.to("cuda:1"), w.to("cuda:1"), backend="sparse")
    assert torch.cuda.current_device() == 0
    assert out.device == y.device == torch.device("cuda:1")
    assert torch.equal(out.cpu(), sparsetrain.prune(grad, 0.7, seed=3))
    assert torch.equal(y.cpu(), ops.conv2d(x.cuda(), w.cuda(), backend="sparse").cpu())


@pytest.mark.parametrize("backend", ops.CPU_BACKENDS)
def test_a_step_never_waits_for_the_device(backend):
    model = net(backend=backend, measure_every=1)
    x = torch.randn(4, 3, 8, 8, device="cuda")

    def one():
        with accel.record(model) as recording:
            model(x).square().sum().backward()
        return recording

    one()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        recording = one()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert accel.estimate(recording.workload()).total.cycles > 0
    assert all(s.input_density > 0 for s in sparsetrain.stats(model).values())


@pytest.mark.parametrize("backend", ops.CPU_BACKENDS)
def test_every_replay_of_a_captured_step_draws_new_random_numbers(backend):
    eager, model = net(backend=backend), net(backend=backend)
    images = [torch.randn(4, 3, 8, 8, device="cuda") for _ in range(6)]
    x = images[0].clone()

    def step(model, x):
        for parameter in model.parameters():
            parameter.grad = None
        model(x).square().sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for i in range(3):
            x.copy_(images[i])
            step(model, x)
    torch.cuda.current_stream().wait_stream(side)
    for i in range(3):
        step(eager, images[i])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gradients = step(model, x)
    for i in range(3, 6):
        x.copy_(images[i])
        graph.replay()
        expected = step(eager, images[i])
        states = [
            [m.state for m in n.modules() if isinstance(m, PruneGrad)] for n in (model, eager)
        ]
        for one, two in zip(*states, strict=True):
            assert one[pruning.OFFSET] == two[pruning.OFFSET] > 0
            torch.testing.assert_close(one, two)
        if backend == "sparse":
            assert equal(gradients, expected)


def test_a_compiled_step_prunes_like_an_eager_one():
    model = net(backend="sparse").double()
    fast = torch.compile(copy.deepcopy(model), fullgraph=True)
    x = torch.randn(4, 3, 8, 8, device="cuda", dtype=torch.float64)
    for _ in range(4):
        for each in (model, fast):
            each.zero_grad()
            each(x).square().sum().backward()
        for one, two in zip(model.parameters(), fast.parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_with_a_gradient_scaler(dtype):
    model = net(backend="sparse")
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)  # overflows float16 at first
    before = [p.detach().clone() for p in model.parameters()]
    for seed in range(30):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).cuda()
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype):
            loss = model(x).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert dtype == torch.bfloat16 or scaler.get_scale() < 2.0**40
    for one, two in zip(before, model.parameters(), strict=True):
        assert two.isfinite().all() and not torch.equal(one, two)
    for state in pruning_state(model)["pruners"].values():
        assert state.isfinite().all() and state[pruning.PUSHES] > 0


def test_a_run_resumes_bit_for_bit():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        expected = trained(net(backend="sparse"), 6, plain_step)
        first, second = net(backend="sparse"), net(backend="sparse")
        trained(first, 3, plain_step)
        second.load_state_dict(first.state_dict())
        load_pruning_state(second, pruning_state(first))
        got = trained(second, 3, lambda model, i: plain_step(model, i + 3))
        assert equal(got, expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_resuming_with_another_batch_size_ends_in_an_assertion():
    program = """
import torch
from sparsetrain import ops
state = torch.zeros(16, dtype=torch.float64)
state[12] = 1
state = state.cuda()
ops.prune_step(torch.ones(100, device="cuda"), state)
state[11] = 1
ops.prune_step(torch.ones(300, device="cuda"), state)
torch.cuda.synchronize()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "expected the gradient's size to be that of the saved state" in done.stderr


def one_rank(rank, world, folder):
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", f"file://{folder}/store", rank=rank, world_size=world)
    model = net(backend="sparse")
    wrapped = DistributedDataParallel(model, device_ids=[rank])
    for i in range(4):
        plain_step(wrapped, 10 * i + rank)
    seeds = torch.stack([m.state[0] for m in model.modules() if isinstance(m, PruneGrad)])
    all_seeds = [torch.empty_like(seeds) for _ in range(world)]
    dist.all_gather(all_seeds, seeds)
    assert len({float(s) for each in all_seeds for s in each}) == world * seeds.numel()
    weights = nn.utils.parameters_to_vector(model.parameters())
    first = weights.clone()
    dist.broadcast(first, 0)
    assert torch.equal(weights, first)
    dist.destroy_process_group()


def test_nccl_ranks_have_different_seeds_and_equal_weights(tmp_path):
    """With one GPU the world size is 1."""
    world = min(torch.cuda.device_count(), 4)
    os.environ.pop("RANK", None)
    torch.multiprocessing.spawn(one_rank, (world, str(tmp_path)), world)

"""Laws of the pruning operators: random bits, set of outputs, unbiased mean, state."""

import math

import pytest
import torch
from helpers.instruction_sets import instruction_set
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsetrain
from sparsetrain import ops, reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
FACTOR, FIFO = 12, 15  # slots of a pruner's state tensor


def bits(t):
    return t.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[t.element_size()])


def state_of(history, factor=1.0, seed=1):
    state = torch.zeros(FIFO + history, dtype=torch.float64)
    state[0], state[FACTOR] = seed, factor
    return state


def words(*hexadecimal):
    return torch.tensor([[int(h, 16) for h in hexadecimal]])


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # from the file kat_vectors of Random123 1.14, philox4x32 with 10 rounds
        (("0",) * 4, 0, ("6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8")),
        (("ffffffff",) * 4, 2**64 - 1, ("408f276d", "41c83b0e", "a20bc7c6", "6d5451fd")),
        (
            ("243f6a88", "85a308d3", "13198a2e", "03707344"),
            0x299F31D0A4093822,
            ("d16cfe09", "94fdcceb", "5001e420", "24126ea1"),
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    assert torch.equal(reference.philox(words(*counter), key), words(*expected))


@given(
    n=st.one_of(st.sampled_from([0, 1, 3, 4, 5, 255, 257, 2047, 2048, 2049]), st.integers(1, 9000)),
    dtype=st.sampled_from(DTYPES),
    threshold=st.sampled_from([0.0, 1e-3, 0.5, 1.7, 30.0, 1e30, -1.0, math.inf, math.nan]),
    seed=st.integers(0, 2**63 - 1),
    offset=st.one_of(st.integers(0, 100), st.sampled_from([2**32 - 2, 2**62])),
)
@settings(max_examples=150, deadline=None)
def test_bits_equal_the_reference(n, dtype, threshold, seed, offset):
    grad = torch.randn(n, generator=torch.Generator().manual_seed(n)).to(dtype)
    out = sparsetrain.prune(grad, threshold, seed=seed, offset=offset)
    assert torch.equal(bits(out), bits(reference.prune(grad, threshold, seed, offset)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2049, 2048 * 1025 + 3])
def test_stats_equal_the_reference(dtype, n):
    grad = torch.randn(n).to(dtype)
    grad[::3] = 0
    rng = torch.tensor([3, 0])
    out, stats = torch.ops.sparsetrain.prune(grad, torch.tensor(0.8), rng)
    before, after = int(grad.count_nonzero()), int(out.count_nonzero())
    assert stats.tolist() == [reference.abs_sum(grad), before, after]


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_are_zero_threshold_or_the_gradient(dtype):
    grad = torch.randn(5000).to(dtype)
    t = torch.tensor(0.8, dtype=torch.float64).to(dtype)
    out = sparsetrain.prune(grad, 0.8, seed=5)
    large = grad.abs() >= t
    assert torch.equal(out[large], grad[large])
    small = out[~large]
    assert torch.all((small == 0) | (small.abs() == t))
    assert torch.all((small == 0) | (small.sign() == grad[~large].sign()))
    assert 0 < int((small == 0).sum()) < small.numel()


def test_threshold_zero_is_the_identity_by_value():
    grad = torch.tensor([0.0, -0.0, 1e-45, -3.0, math.inf, -math.inf])
    assert torch.equal(sparsetrain.prune(grad, 0.0, seed=0), grad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_pass_through(dtype):
    grad = torch.tensor([math.nan, math.inf, -math.inf] * 100, dtype=dtype)
    out = sparsetrain.prune(grad, 2.0, seed=0)
    assert torch.equal(out.isnan(), grad.isnan())
    assert torch.equal(out[~out.isnan()], grad[~grad.isnan()])


def test_unbiased_in_random_directions():
    """The mean over draws equals the gradient, compared along 64 fixed random directions.

    Elements are independent, so a projection's variance over draws is the sum of u^2 |g| (t - |g|)
    over the elements below the threshold. Over 200 draws of 20,000 elements the mean is normal by
    the central limit theorem; a two-sided 6.2 sigma in any of 64 is rarer than 4e-8.
    """
    torch.manual_seed(0)
    grad, t, draws = torch.randn(20_000).double(), 1.5, 200
    directions = torch.randn(64, grad.numel()).double()
    mean = sum(sparsetrain.prune(grad, t, seed=s) for s in range(draws)) / draws
    magnitude = grad.abs()
    variance = torch.where(magnitude < t, magnitude * (t - magnitude), 0.0)
    sigma = (directions.square() @ variance / draws).sqrt()
    assert torch.all((directions @ (mean - grad)).abs() < 6.2 * sigma)


@pytest.mark.parametrize("rate", [0.7, 0.8, 0.9, 0.99])
def test_density_of_a_normal_gradient(rate):
    """E[min(1, |g|/t)] for g ~ N(0, 1) in closed form: P(|g| > t) + E[|g|; |g| < t] / t."""
    normal = torch.distributions.Normal(0.0, 1.0)
    t = float(normal.icdf(torch.tensor((1 + rate) / 2)))
    above = 2 * (1 - float(normal.cdf(torch.tensor(t))))
    below = math.sqrt(2 / math.pi) * (1 - math.exp(-t * t / 2)) / t
    n = 400_000
    density = float(sparsetrain.prune(torch.randn(n), t, seed=1).count_nonzero()) / n
    assert abs(density - (above + below)) < 5 * math.sqrt(
        0.25 / n
    )  # a Bernoulli's largest variance


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    grad = torch.randn(300_001).to(dtype)
    rng, t = torch.tensor([9, 4]), torch.tensor(1.0)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(torch.ops.sparsetrain.prune(grad, t, rng))
    finally:
        torch.set_num_threads(before)
    for out, stats in results[1:]:
        assert torch.equal(bits(out), bits(results[0][0]))
        assert torch.equal(stats, results[0][1])


def test_random_numbers_follow_memory_order():
    grad = torch.randn(2, 5, 7, 3)
    last = grad.to(memory_format=torch.channels_last)
    out = sparsetrain.prune(last, 1.0, seed=2)
    assert out.is_contiguous(memory_format=torch.channels_last)
    in_memory = last.permute(0, 2, 3, 1)
    assert torch.equal(out.permute(0, 2, 3, 1), reference.prune(in_memory, 1.0, 2))


@pytest.mark.parametrize(
    "view",
    [
        lambda g: g[:, ::2],
        lambda g: g[1:, :, 2:],
        lambda g: g[:, :1].expand(-1, 6, -1),
        lambda g: g.flip(0),
    ],
)
def test_views_with_gaps_overlaps_and_offsets_are_pruned_like_a_contiguous_copy(view):
    grad = view(torch.randn(4, 6, 9))
    out = sparsetrain.prune(grad, 1.0, seed=2)
    assert torch.equal(out, reference.prune(grad.contiguous(), 1.0, 2))


def test_a_step_predicts_the_threshold_from_the_last_batches():
    """Two batches fill the history; the third is pruned with factor * their mean |g|."""
    factor = 3.0
    state = state_of(history=2, factor=factor, seed=6)
    batches = [torch.randn(1001) for _ in range(4)]
    for grad in batches[:2]:
        assert torch.equal(ops.prune_step(grad, state), grad)
    means = [reference.abs_sum(g) / 1001 for g in batches]
    threshold = factor * ((means[0] + means[1]) / 2)
    out = ops.prune_step(batches[2], state)
    blocks = 251  # ceil(1001 / 4) counters for each batch
    assert torch.equal(out, reference.prune(batches[2], threshold, 6, 2 * blocks))
    assert state[1] == 3 * blocks
    assert state[3] == threshold
    assert state[FIFO:].tolist() == [means[2], means[1]]
    ops.prune_step(batches[3], state)
    assert state[3] == factor * ((means[2] + means[1]) / 2)


def test_with_history_0_the_threshold_comes_from_the_batch_itself():
    state, grad = state_of(history=0, factor=2.0, seed=6), torch.randn(999)
    out = ops.prune_step(grad, state)
    assert torch.equal(out, reference.prune(grad, 2.0 * (reference.abs_sum(grad) / 999), 6))


def test_density_target_bounds_the_density():
    """t = mean |g| / d keeps at most d on average, whatever the distribution."""
    for grad in (torch.randn(200_000), torch.rand(200_000), torch.randn(200_000) ** 5):
        kept = ops.prune_step(grad, state_of(history=0, factor=1 / 0.2)).count_nonzero()
        assert float(kept) / 200_000 < 0.2 + 5 * math.sqrt(0.2 / 200_000)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_gradients_never_enter_the_history(bad):
    state = state_of(history=1)
    ops.prune_step(torch.ones(10), state)
    grad = torch.ones(10)
    grad[3] = bad
    out = ops.prune_step(grad, state)
    assert not math.isfinite(out[3])
    assert state[2] == 1
    assert state[FIFO] == 1.0


def test_an_all_zero_gradient_gives_threshold_zero():
    state = state_of(history=1, factor=5.0)
    ops.prune_step(torch.zeros(8), state)
    grad = torch.randn(8)
    assert torch.equal(ops.prune_step(grad, state), grad)


def test_empty_gradients_change_nothing():
    state = state_of(history=1)
    before = state.clone()
    assert ops.prune_step(torch.empty(0, 3), state).shape == (0, 3)
    assert torch.equal(state, before)


def test_prune_grad_is_an_identity_that_prunes_backward():
    state, expected = state_of(0, 2.0, seed=3), state_of(0, 2.0, seed=3)
    x, dy = torch.randn(64, requires_grad=True), torch.randn(64)
    y = ops.prune_grad(x, state)
    assert torch.equal(y, x)
    y.backward(dy, retain_graph=True)
    assert torch.equal(x.grad, ops.prune_step(dy, expected))
    assert torch.equal(state, expected)
    y.backward(dy)  # a second backward through one forward advances the state again
    assert state[1] == 32


def test_second_derivative_is_straight_through():
    grad = torch.randn(50, requires_grad=True)
    weights = torch.randn(50)
    for out in (
        sparsetrain.prune(grad, 1.0, seed=0),
        ops.prune_step(grad, state_of(history=0, factor=2.0)),
    ):
        assert torch.equal(torch.autograd.grad(out, grad, weights)[0], weights)


def test_count_nonzeros_counts_every_nth_call():
    state = torch.zeros(3, dtype=torch.float64)
    for nonzeros in (1, 2, 3, 4):
        ops.count_nonzeros(torch.arange(5) < nonzeros, state, 3)
    assert state.tolist() == [4, 5, 4]  # calls 0 and 3 are counted; the last had 4 nonzeros of 5
    x = torch.ones(4, requires_grad=True)
    ops.count_grad_nonzeros(x, state, 1).backward(torch.tensor([0.0, 1, 0, 2]))
    assert state.tolist() == [5, 4, 2]
    assert x.grad.tolist() == [0, 1, 0, 2]


def resumed(grad):
    state = state_of(history=1)
    ops.prune_step(grad, state)
    state[11] = 1
    return state


def test_resuming_accepts_the_saved_batch_size_and_one_smaller_batch():
    state = resumed(torch.randn(2, 3, 4, 5))
    ops.prune_step(torch.randn(1, 3, 4, 5), state)
    ops.prune_step(torch.randn(2, 3, 4, 5), state)
    assert state[11] == 0
    ops.prune_step(
        torch.randn(9, 3, 4, 5), state
    )  # the check applies to the first backward passes only


def test_resuming_refuses_another_batch_size_or_format():
    state = resumed(torch.randn(2, 3, 4, 5))
    kept = state.clone()
    with pytest.raises(ValueError, match=r"prune_step: expected the gradient's size to be that of"):
        ops.prune_step(torch.randn(3, 3, 4, 5), state)
    last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match=r"expected the gradient's memory format .* channels_last"):
        ops.prune_step(last, state)
    assert torch.equal(state, kept)
    ops.prune_step(torch.randn(1, 3, 4, 5), state)
    with pytest.raises(ValueError, match=r"the gradient's size .* got 60\. Masks depend"):
        ops.prune_step(torch.randn(1, 3, 4, 5), state)


def test_resuming_a_state_that_never_ran_accepts_any_batch():
    state = state_of(history=1)
    state[11] = 1
    ops.prune_step(torch.randn(8), state)
    ops.prune_step(torch.randn(20), state)
    assert state[11] == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sparsetrain.prune(torch.ones(3, dtype=torch.int32), 1.0, seed=0),
            TypeError,
            r"sparsetrain::prune: expected grad to be float32, .* got Int",
        ),
        (
            lambda: sparsetrain.prune(torch.ones(3), torch.ones(2), seed=0),
            ValueError,
            r"sparsetrain::prune: expected threshold to be one number, got a tensor of size \[2\]",
        ),
        (
            lambda: sparsetrain.prune(torch.ones(3), torch.ones((), device="meta"), seed=0),
            ValueError,
            r"prune: expected threshold to be on the CPU, or where grad is, on cpu, got meta",
        ),
        (
            lambda: sparsetrain.prune(torch.ones(3), 1.0, seed=-1),
            ValueError,
            r"sparsetrain.prune: expected seed to be an integer in \[0, 2\^63\), got -1",
        ),
        (
            lambda: sparsetrain.prune(torch.ones(3), 1.0, seed=0, offset=2**63),
            ValueError,
            r"sparsetrain.prune: expected offset to be an integer in .* got 9223372036854775808",
        ),
        (
            lambda: torch.ops.sparsetrain.prune(torch.ones(3), torch.tensor(1.0), torch.ones(2)),
            ValueError,
            r"sparsetrain::prune: expected rng to be int64 \[2\] \(seed, offset\), got Float \[2\]",
        ),
        (
            lambda: ops.prune_step(torch.ones(3, dtype=torch.int64), state_of(1)),
            TypeError,
            r"sparsetrain::prune_step: expected grad to be float32, .* got Long",
        ),
        (
            lambda: ops.prune_step(torch.ones(3), torch.zeros(5)),
            ValueError,
            r"sparsetrain::prune_step: expected state to be .*\[15 \+ history\], got Float \[5\]",
        ),
        (
            lambda: ops.prune_step(torch.ones(3), state_of(1).to("meta")),
            ValueError,
            r"sparsetrain::prune_step: expected state to be on cpu like grad, got meta",
        ),
        (
            lambda: ops.prune_step(torch.ones(3), state_of(1, factor=math.nan)),
            ValueError,
            r"sparsetrain::prune_step: expected the factor in state to be finite .* got nan",
        ),
        (
            lambda: ops.count_nonzeros(torch.ones(3), torch.zeros(3), 1),
            ValueError,
            r"sparsetrain::count_nonzeros: expected state to be contiguous float64 \[3\]",
        ),
        (
            lambda: ops.count_nonzeros(torch.ones(3), torch.zeros(3).double(), 0),
            ValueError,
            r"sparsetrain::count_nonzeros: expected every to be at least 1, got 0",
        ),
        (
            lambda: ops.count_nonzeros(torch.ones(3), torch.zeros(3).double().to("meta"), 1),
            ValueError,
            r"sparsetrain::count_nonzeros: expected state to be on cpu like input, got meta",
        ),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_masks_do_not_depend_on_whether_subnormals_are_flushed():
    """Checks float16 in full vectors and in the remainder, in a thread that flushes subnormals."""
    g = torch.full((2049,), 2.0**-23, dtype=torch.float16)
    torch.set_flush_denormal(True)
    try:
        pruned = []
        for isa in ("avx512", "avx2", "scalar"):
            with instruction_set(isa):
                pruned.append(sparsetrain.prune(g, 2.0**-22, seed=1))
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(pruned[0], pruned[1]) and torch.equal(pruned[0], pruned[2])
    assert torch.equal(pruned[0], sparsetrain.prune(g, 2.0**-22, seed=1))
    assert set(pruned[0].tolist()) == {0.0, 2.0**-22}

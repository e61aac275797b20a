"""Laws of PruneGrad: what it does to a gradient, and that copies and casts keep its state."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from sparsetrain import PruneGrad, pruning

OUT_OF_RANGE = [
    (dict(rate=1.0), ValueError, "expected rate to be in [0, 1), got 1.0"),
    (dict(rate=-0.1), ValueError, "expected rate to be in [0, 1), got -0.1"),
    (dict(rate=math.nan), ValueError, "expected rate to be in [0, 1), got nan"),
    (dict(rate="high"), TypeError, "expected rate to be a number in [0, 1), got 'high'"),
    (dict(rate=True), TypeError, "expected rate to be a number in [0, 1), got True"),
    (dict(density=0.0), ValueError, "expected density to be in (0, 1], got 0.0"),
    (dict(density=1.5), ValueError, "expected density to be in (0, 1], got 1.5"),
    (dict(density=math.nan), ValueError, "expected density to be in (0, 1], got nan"),
    (dict(density=[0.1]), TypeError, "expected density to be a number in (0, 1], got [0.1]"),
    (
        dict(rate=0.5, density=0.5),
        ValueError,
        "expected one of rate and density, got rate 0.5 and density 0.5",
    ),
    (dict(history=-1), ValueError, "expected history to be an int of at least 0, got -1"),
    (dict(history=4.0), TypeError, "expected history to be an int of at least 0, got 4.0"),
    (dict(history=True), TypeError, "expected history to be an int of at least 0, got True"),
    (
        dict(seed=2**53),
        ValueError,
        "expected seed to be an int of at least 0 and below 9007199254740992, got 9007199254740992",
    ),
    (
        dict(seed=0.5),
        TypeError,
        "expected seed to be an int of at least 0 and below 9007199254740992, got 0.5",
    ),
]


@pytest.mark.parametrize("arguments, kind, sentence", OUT_OF_RANGE)
def test_arguments_out_of_range_are_refused(arguments, kind, sentence):
    with pytest.raises(kind) as error:
        PruneGrad(**arguments)
    assert str(error.value) == f"sparsetrain.PruneGrad: {sentence}"


def test_a_refused_rate_changes_nothing():
    pruner = PruneGrad(0.5)
    with pytest.raises(ValueError, match=r"^sparsetrain\.PruneGrad\.set_rate: expected rate to be"):
        pruner.set_rate(2.0)
    assert (pruner.rate, pruner.density) == (0.5, None)
    assert pruner.factor == PruneGrad(0.5).factor


@pytest.mark.parametrize(
    "arguments, factor",
    [
        (dict(), 1.2533141 * 1.6448536),  # sqrt(pi / 2) * Phi^-1(0.95), for the default rate of 0.9
        (dict(rate=0), 0.0),
        (dict(rate=0.5), 1.2533141 * 0.6744898),
        (dict(rate=0.99), 1.2533141 * 2.5758293),
        (dict(density=1), 1.0),
        (dict(density=0.1), 10.0),
    ],
)
def test_the_factor_is_threshold_divided_by_mean_gradient(arguments, factor):
    assert PruneGrad(**arguments).factor == pytest.approx(factor, abs=1e-6)


def test_the_factor_grows_with_the_rate_and_is_finite_for_all_rates_below_one():
    rates = [0.0, 0.1, 0.9, 1 - 1e-9, math.nextafter(1.0, 0.0)]
    factors = [PruneGrad(rate).factor for rate in rates]
    assert factors == sorted(set(factors)) and math.isfinite(factors[-1])
    assert math.copysign(1, factors[0]) == 1


def backward(pruner, grad):
    """The pruned gradient."""
    x = torch.zeros_like(grad, requires_grad=True)
    pruner(x).backward(grad)
    return x.grad


def gradients(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 3, 8, 8, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("history", [0, 1, 3])
def test_the_threshold_is_the_factor_times_the_mean_of_a_full_history(history):
    pruner = PruneGrad(0.9, history)
    grads = gradients(6)
    for i, grad in enumerate(grads):
        pruned = backward(pruner, grad)
        means = [g.abs().mean().item() for g in (grads[i - history : i] if history else [grad])]
        if i < history:
            assert torch.equal(pruned, grad)
            continue
        threshold = pruner.factor * sum(means) / len(means)
        assert pruner.state[pruning.THRESHOLD].item() == pytest.approx(threshold, rel=1e-6)
        large = grad.abs() >= threshold * (1 + 1e-6)
        assert torch.equal(pruned[large], grad[large])
        small = pruned[~large].double().abs()
        assert ((small == 0) | ((small - threshold).abs() < 1e-6 * threshold)).all()
        assert 0 < (pruned == 0).double().mean() < 0.9


def test_rate_zero_prunes_nothing():
    pruner = PruneGrad(0.0, history=1)
    for grad in gradients(3):
        assert torch.equal(backward(pruner, grad), grad)


def test_a_density_bounds_the_expected_density():
    pruner = PruneGrad(density=0.1, history=0, seed=1)
    pruned = backward(pruner, torch.randn(100_000, generator=torch.Generator().manual_seed(1)))
    density = (pruned != 0).double().mean().item()
    assert density <= 0.1 + 4 * math.sqrt(0.1 * 0.9 / 100_000)  # 4 standard errors


def test_a_changed_rate_applies_in_the_next_backward_pass():
    pruner = PruneGrad(0.5, history=2)
    for grad in gradients(3):
        backward(pruner, grad)
    mean = pruner.state[pruning.HEADER :].mean().item()
    pruner.set_rate(density=0.25)
    assert (pruner.rate, pruner.density) == (None, 0.25)
    backward(pruner, gradients(1)[0])
    assert pruner.state[pruning.THRESHOLD].item() == pytest.approx(4 * mean, rel=1e-6)


def test_every_backward_pass_draws_new_random_numbers():
    pruner = PruneGrad(0.9, history=0, seed=1)
    grad = gradients(1)[0]
    assert not torch.equal(backward(pruner, grad), backward(pruner, grad))


def test_the_input_itself_is_returned_if_no_gradient_will_be_pruned():
    pruner = PruneGrad()
    x = torch.randn(3, requires_grad=True)
    with torch.no_grad():
        assert pruner(x) is x
    detached = x.detach()
    assert pruner(detached) is detached
    assert pruner.eval()(x) is x
    assert pruner.state[pruning.PUSHES] == 0


def test_the_state_is_neither_parameter_nor_buffer():
    pruner = PruneGrad(history=2)
    assert pruner.state.shape == (pruning.HEADER + 2,)
    assert not list(pruner.parameters()) and not list(pruner.buffers()) and not pruner.state_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.half(),
        lambda m: m.double(),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.float(),
        lambda m: m.to("meta"),
        lambda m: m.to("meta").to_empty(device="cpu"),
        lambda m: m.share_memory(),
    ],
)
def test_casting_and_moving_the_module_keep_the_state(change):
    model = nn.Sequential(PruneGrad(seed=2**53 - 1))
    backward(model[0], gradients(1)[0])
    before = model[0].state.clone()
    change(model)
    assert model[0].state.dtype == torch.float64 and torch.equal(model[0].state, before)


def test_a_pruner_made_in_the_context_of_the_meta_device_has_real_values():
    with torch.device("meta"):
        assert PruneGrad(seed=3).state[pruning.SEED].item() == 3


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_prunes_like_the_original_with_a_state_of_its_own(copied):
    pruner = PruneGrad(0.7, history=1)
    first, second = gradients(2)
    backward(pruner, first)
    twin = copied(pruner)
    assert (twin.rate, twin.history, twin.factor) == (0.7, 1, pruner.factor)
    assert torch.equal(backward(pruner, second), backward(twin, second))
    backward(pruner, second)
    assert not torch.equal(pruner.state, twin.state)


def test_default_seeds_differ_and_consume_no_random_numbers():
    before = torch.get_rng_state()
    seeds = [PruneGrad().state[pruning.SEED].item() for _ in range(20)]
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(seeds)) == 20
    assert all(0 <= seed < 2**53 and seed == int(seed) for seed in seeds)


def test_derived_seeds_follow_the_global_seed_and_the_name():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        seeds = pruning.derive_seed("a"), pruning.derive_seed("b")
        torch.rand(5)
        assert seeds == (pruning.derive_seed("a"), pruning.derive_seed("b"))
        torch.manual_seed(2)
        assert len({*seeds, pruning.derive_seed("a")}) == 3


def seed_as(monkeypatch, rank, seed=5):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "64")
    return PruneGrad(seed=seed).state[pruning.SEED].item()


@pytest.mark.parametrize("seed", [0, 5, 2**53 - 1])
def test_every_rank_has_a_different_seed(monkeypatch, seed):
    seeds = [seed_as(monkeypatch, rank, seed) for rank in range(64)]
    assert seeds[0] == seed and len(set(seeds)) == 64
    assert all(0 <= s < 2**53 and s == int(s) for s in seeds)


def test_the_seed_follows_a_rank_that_becomes_known_after_construction(monkeypatch):
    known_early = seed_as(monkeypatch, 7)
    monkeypatch.delenv("RANK")
    pruner = PruneGrad(seed=5)
    assert pruner.state[pruning.SEED] == 5
    monkeypatch.setattr(pruning.dist, "is_initialized", lambda: True)
    for rank, seed in ((7, known_early), (0, 5), (7, known_early)):
        monkeypatch.setattr(pruning.dist, "get_rank", lambda rank=rank: rank)
        backward(pruner, gradients(1)[0])
        assert pruner.state[pruning.SEED] == seed


def test_repr_shows_rate_or_density_and_history():
    assert repr(PruneGrad()) == "PruneGrad(rate=0.9, history=4)"
    assert repr(PruneGrad(density=0.1, history=0)) == "PruneGrad(density=0.1, history=0)"

"""Laws of pruning_state and load_pruning_state: resumption is bit-exact or refused."""

import copy
import io
import math

import pytest
import torch
from helpers.nets import pruner_states, same
from torch import nn

from sparsetrain import PruneGrad, load_pruning_state, pruning, pruning_state
from sparsetrain.state import VERSION


def pruned_model(history=2):
    """Two pruners, named "0" and "2"."""
    return nn.Sequential(
        PruneGrad(0.9, history, seed=1), nn.Tanh(), PruneGrad(0.8, history, seed=2)
    )


def step(model, seed, batch=4):
    x = torch.randn(
        batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed), requires_grad=True
    )
    model(x).square().sum().backward()
    return x.grad


def test_resumption_is_bit_exact():
    model, resumed = pruned_model(), pruned_model()
    for i in range(3):
        step(model, i)
    file = io.BytesIO()
    torch.save(pruning_state(model), file)
    file.seek(0)
    load_pruning_state(resumed, torch.load(file, weights_only=True))
    for i in range(3, 7):
        assert torch.equal(step(model, i), step(resumed, i))
    assert torch.equal(model[0].state, resumed[0].state)


def test_a_pruning_state_is_a_copy_on_the_cpu():
    model = pruned_model()
    state = pruning_state(model)
    assert set(state) == {"version", "world_size", "rank", "costs", "pruners"}
    assert (state["version"], state["world_size"], state["rank"]) == (VERSION, 1, 0)
    assert list(state["pruners"]) == ["0", "2"]
    before = state["pruners"]["0"].clone()
    step(model, 0)
    assert torch.equal(state["pruners"]["0"], before)


def test_loading_is_in_place():
    model = pruned_model()
    tensor = model[0].state
    load_pruning_state(model, pruning_state(pruned_model()))
    assert model[0].state is tensor


def test_a_state_saved_before_the_first_step_resumes():
    model = pruned_model()
    load_pruning_state(model, pruning_state(pruned_model()))
    assert torch.equal(step(model, 0), step(pruned_model(), 0))


def used_state(**changes):
    """The state of a model after three steps, with some entries replaced."""
    model = pruned_model()
    for i in range(3):
        step(model, i)
    return {**pruning_state(model), **changes}


def refused(state, kind=ValueError, model=None, **options):
    """The message that refuses `state`, without its prefix; the model must not change."""
    model = model or pruned_model()
    before = copy.deepcopy(pruner_states(model))
    with pytest.raises(kind) as error:
        load_pruning_state(model, state, **options)
    assert same(before, pruner_states(model))
    assert str(error.value).startswith("sparsetrain.load_pruning_state: expected ")
    return str(error.value).removeprefix("sparsetrain.load_pruning_state: ")


def test_another_version_is_refused():
    assert refused(used_state(version=VERSION + 1)) == (
        f"expected the state's version to be {VERSION}, got {VERSION + 1}"
    )


def test_a_value_that_is_not_a_pruning_state_is_refused():
    keys = "version, world_size, rank, costs, pruners"
    sentence = f"expected state to be a dict with the keys {keys}, got "
    assert refused([1], TypeError) == sentence + "list"
    assert refused({"version": 1}, TypeError) == sentence + "version"
    assert refused({}, TypeError) == sentence + "an empty dict"


def test_other_pruners_are_refused():
    state = used_state()
    state["pruners"]["3"] = state["pruners"].pop("2")
    assert refused(state, strict=False) == (
        "expected the state's pruners to be the model's 2, got 2 missing and 3 unexpected. "
        "Convert the model with the arguments it was trained with"
    )


def test_many_other_pruners_are_counted():
    model = nn.Sequential(*(PruneGrad() for _ in range(5)))
    assert "got 0, 1, 2 and 2 more missing and none unexpected" in refused(
        used_state(pruners={}), model=model
    )


def test_an_additional_pruner_is_refused():
    state = used_state()
    state["pruners"]["3"] = state["pruners"]["2"]
    assert "got none missing and 3 unexpected" in refused(state)


def test_another_history_is_refused():
    sentence = refused(used_state(), model=pruned_model(history=3), strict=False)
    assert sentence == "expected the history of '0' to be 3, got 2"


def test_a_damaged_tensor_is_refused():
    state = used_state()
    state["pruners"]["0"] = state["pruners"]["0"].float()
    sentence = "expected the state of '0' to be a float64 vector, got "
    assert refused(state, TypeError) == sentence + "torch.float32 of rank 1"
    state["pruners"]["0"] = 3
    assert refused(state, TypeError) == sentence + "3"


IMPOSSIBLE = {
    "seed": (pruning.SEED, 2.0**53),
    "offset": (pruning.OFFSET, 0.5),
    "pushes": (pruning.PUSHES, -1.0),
    "threshold": (pruning.THRESHOLD, math.nan),
    "layout": (pruning.LAYOUT, 4.0),
    "factor": (pruning.FACTOR, math.inf),
    "rate": (pruning.RATE, 1.0),
    "density": (pruning.DENSITY, 1.5),
    "history": (pruning.HEADER + 1, math.nan),
}


@pytest.mark.parametrize("slot, value", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_values_are_refused(slot, value):
    state = used_state()
    state["pruners"]["2"][slot] = value
    expected = f"expected the state of '2' to be possible values, got {value} in slot {slot}"
    assert refused(state, strict=False) == expected


def test_a_state_saved_after_a_gradient_with_nan_resumes():
    model, resumed = pruned_model(), pruned_model()
    x = torch.ones(4, requires_grad=True)
    model(x).backward(torch.tensor([1, math.nan, 2, 3]))
    load_pruning_state(resumed, pruning_state(model))
    assert torch.equal(resumed[2].state.isnan(), model[2].state.isnan())
    assert resumed[2].state.isnan().any()


def test_resuming_restores_rates_and_densities():
    saved, model = pruned_model(), pruned_model()
    saved[0].set_rate(density=0.3)
    saved[2].set_rate(0)
    load_pruning_state(model, pruning_state(saved))
    assert [(p.rate, p.density, p.factor) for p in (model[0], model[2])] == [
        (None, 0.3, 1 / 0.3),
        (0.0, None, 0.0),
    ]


@pytest.mark.parametrize("key, expected", [("world_size", 1), ("rank", 0)])
def test_another_world_size_or_rank_is_refused_if_strict(key, expected):
    state = used_state(**{key: 3})
    assert refused(state) == (
        f"expected the state's {key.replace('_', ' ')} to be {expected}, got 3. "
        "Save and load one state per rank, or pass strict=False to resume with other masks"
    )
    load_pruning_state(pruned_model(), state, strict=False)


def test_a_state_of_another_rank_draws_the_numbers_of_this_rank(monkeypatch):
    monkeypatch.setattr(pruning.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(pruning.dist, "get_world_size", lambda: 4)

    def as_rank(rank, state=None):
        monkeypatch.setattr(pruning.dist, "get_rank", lambda: rank)
        model = pruned_model()
        if state:
            load_pruning_state(model, state, strict=False)
        step(model, 0)
        saved = pruning_state(model)
        assert (saved["rank"], saved["world_size"]) == (rank, 4)
        return saved, model[0].state[pruning.SEED].item()

    state, seed = as_rank(3)
    assert as_rank(1, state)[1] == as_rank(1)[1] != seed


def test_another_batch_size_is_refused_by_the_next_backward_pass_if_strict():
    model = pruned_model()
    load_pruning_state(model, used_state())
    with pytest.raises(Exception, match=r"sparsetrain::prune_step: expected"):
        step(model, 3, batch=5)
    load_pruning_state(model, used_state(), strict=False)
    step(model, 3, batch=5)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [("pruners", [], "dict"), ("rank", None, "int"), ("world_size", "2", "int")],
)
def test_entries_of_other_types_are_refused(key, value, kind):
    model = pruned_model()
    state = {**pruning_state(model), key: value}
    expected = f"the state's {key} to be of type {kind}, got {type(value).__name__}"
    with pytest.raises(TypeError, match=expected):
        load_pruning_state(model, state, strict=False)

"""Laws of convert, revert and set_rate: what they change in a model, and what stays."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from helpers.nets import NAMES, anatomy, message, same, small_net, step, trained
from torch import nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

import sparsetrain
from sparsetrain import (
    PruneGrad,
    SparseConv2d,
    convert,
    describe,
    load_pruning_state,
    pruning,
    pruning_state,
    revert,
    set_rate,
)


def test_conversion_keeps_objects_parameters_hooks_and_keys():
    model = small_net()
    modules, parameters = list(model.modules()), dict(model.named_parameters())
    keys, calls = list(model.state_dict()), []
    model[2].register_forward_hook(lambda *_: calls.append(1))
    assert convert(model) is model
    assert [type(model[int(n)]) for n in NAMES] == [SparseConv2d] * 4
    assert [m for m in model.modules() if not isinstance(m, PruneGrad)] == modules
    after = dict(model.named_parameters())
    assert list(after) == list(parameters) and all(after[n] is parameters[n] for n in after)
    assert list(model.state_dict()) == keys
    step(model, 0)
    assert calls == [1]


def test_state_dicts_load_strictly_both_ways():
    plain, sparse = small_net(), convert(small_net(), measure_every=1)
    sparse.load_state_dict(plain.state_dict(), strict=True)
    plain.load_state_dict(sparse.state_dict(), strict=True)


def test_an_optimizer_made_before_conversion_trains_the_model():
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    convert(model)
    before = model[2].weight.clone()
    step(model, 0)
    optimizer.step()
    assert not torch.equal(before, model[2].weight)


@pytest.mark.parametrize("measure_every", [0, 1])
def test_revert_restores_every_attribute(measure_every):
    model = small_net()
    before = anatomy(model)
    convert(model, measure_every=measure_every)
    step(model, 0)
    assert anatomy(model) != before
    assert revert(model) is model
    assert anatomy(model) == before
    assert revert(model) is model


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_revert_also_reverts_layers_that_were_parametrized_after_convert():
    plain, model = small_net(), convert(small_net(), history=1)
    for net in (plain, model):
        register_parametrization(net[2], "weight", Doubled())
    twin = copy.deepcopy(model)
    revert(model)
    assert type(twin[2]).__bases__ == (SparseConv2d,)  # the copy shares the class
    assert [str(type(m)) for m in model.modules()] == [str(type(m)) for m in plain.modules()]
    assert list(vars(model[2])) == list(vars(plain[2]))
    for i in range(3):
        assert same(step(model, i), step(plain, i))
    remove_parametrizations(model[2], "weight")
    assert type(model[2]) is nn.Conv2d


@pytest.mark.parametrize(
    "name, value, got",
    [
        ("backend", "mine", "str"),
        ("_last_call", 3, "int"),
        ("pruner", nn.Identity(), "Identity"),
        ("forward", len, "builtin_function_or_method"),  # would run instead of SparseConv2d.forward
    ],
)
def test_an_attribute_of_the_user_is_not_overwritten(name, value, got):
    model = small_net()
    setattr(model[6], name, value)
    before = anatomy(model)
    assert message(ValueError, lambda: convert(model)) == (
        f"sparsetrain.convert: expected '6' to have no attribute '{name}', got a {got}. "
        "Rename it, because SparseConv2d has an attribute of this name"
    )
    assert anatomy(model) == before


def test_converting_twice_equals_converting_once():
    model = convert(small_net(), 0.7, measure_every=2)
    for i in range(5):
        step(model, i)
    before, state, described = anatomy(model), model[2].pruner.state, describe(model)
    values = state.clone()
    convert(model, 0.7, measure_every=2)
    assert anatomy(model) == before and describe(model) == described
    assert model[2].pruner.state is state and torch.equal(state, values)


def test_a_second_conversion_applies_its_arguments_and_keeps_the_history():
    model = convert(small_net(), 0.7, history=2, measure_every=2)
    for i in range(5):
        step(model, i)
    state = model[2].pruner.state
    convert(model, density=0.3, history=2, backend="sparse")
    fresh = convert(small_net(), density=0.3, history=2, backend="sparse")
    assert describe(model) == describe(fresh)
    assert list(anatomy(model)) == list(anatomy(fresh))
    assert model[2].pruner.state is state and state[pruning.PUSHES] == 5
    convert(model, history=3)
    assert model[2].pruner.history == 3 and model[2].pruner.state[pruning.PUSHES] == 0


def test_a_pruner_with_another_placement_starts_with_an_empty_history():
    model = convert(small_net())
    for i in range(5):
        step(model, i)
    convert(model, overrides={"2": {"placement": "input"}})
    assert model[2].pruner.state[pruning.PUSHES] == 0
    assert model[6].pruner.state[pruning.PUSHES] == 5


def test_seeds_follow_layer_names_and_the_global_seed_without_consuming_it():
    with torch.random.fork_rng():
        models = [convert(small_net()), convert(small_net())]
        torch.manual_seed(1)
        stream = torch.get_rng_state()
        models.append(convert(copy.deepcopy(revert(copy.deepcopy(models[0])))))
        assert torch.equal(torch.get_rng_state(), stream)
    seeds = [[m[i].pruner.state[pruning.SEED].item() for i in (2, 6)] for m in models]
    assert seeds[0] == seeds[1]
    assert len({*seeds[0], *seeds[2]}) == 4  # all differ


def test_a_model_in_eval_mode_stays_in_eval_mode():
    model = convert(small_net().eval(), measure_every=1)
    assert not any(module.training for module in model.modules())


def test_a_convolution_shared_under_two_names_stays_shared():
    conv, relu = nn.Conv2d(3, 3, 1), nn.ReLU()
    model = convert(nn.Sequential(conv, relu, conv, relu))
    assert model[0] is model[2] is conv and type(conv) is SparseConv2d
    assert [row.name for row in describe(model)] == ["0"]
    assert describe(model)[0].reason == (
        "next is ReLU; called 2 times, elsewhere first convolution, next is ReLU"
    )


def test_a_single_convolution_is_a_model():
    conv = nn.Conv2d(3, 3, 1)
    assert convert(conv) is conv and type(conv) is SparseConv2d
    assert [tuple(row)[:4] for row in describe(conv)] == [
        ("", "SparseConv2d", "output", "the model is this convolution")
    ]
    assert type(revert(conv)) is nn.Conv2d


def test_hooks_of_the_deprecated_weight_norm_survive():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        conv = torch.nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    x = torch.randn(1, 3, 5, 5)
    before = conv(x)
    assert torch.equal(convert(conv, backend="dense")(x), before)


def test_overrides_match_names_or_patterns_and_a_full_name_wins():
    model = convert(
        small_net(),
        0.5,
        overrides={
            "6": {"placement": "output", "density": 0.2},
            "*": {"backend": "dense", "rate": 0.8},
            "[02]": {"rate": 0.7},
        },
    )
    rows = [(d.placement, d.reason, d.rate, d.density, d.backend) for d in describe(model)]
    unpruned = "; an override prunes here only with a placement"
    assert rows == [
        ("none", f"first convolution, next is ReLU{unpruned}", None, None, "dense"),
        ("output", "next is BatchNorm2d", 0.7, None, "dense"),
        ("output", "override", None, 0.2, "dense"),
        ("none", f"depthwise{unpruned}", None, None, "dense"),
    ]


def test_an_override_can_set_any_placement():
    model = convert(
        small_net(), overrides={"8": {"placement": "output"}, "2": {"placement": "none"}}
    )
    assert [row.placement for row in describe(model)] == ["none", "none", "input", "output"]


REFUSED = [
    (
        dict(overrides={"conv9": {}}),
        ValueError,
        "convert: expected override 'conv9' to match an nn.Conv2d, got none of '0', '2', '6', '8'",
    ),
    (
        dict(overrides={"1": {}}),  # a ReLU
        ValueError,
        "convert: expected override '1' to match an nn.Conv2d, got none of '0', '2', '6', '8'",
    ),
    (
        dict(overrides={"2": {"rates": 0.5}}),
        ValueError,
        "convert, override '2': expected every key to be one of rate, density, placement, backend, "
        "got 'rates'. Did you mean 'rate'?",
    ),
    (
        dict(overrides={"2": {"rate": 0.5, "density": 0.5}}),
        ValueError,
        "convert, override '2': expected one of rate and density, got rate 0.5 and density 0.5",
    ),
    (
        dict(overrides={"2": {"rate": 1.5}}),
        ValueError,
        "convert, override '2': expected rate to be in [0, 1), got 1.5",
    ),
    (
        dict(overrides={"2": {"placement": "here"}}),
        ValueError,
        "convert, override '2': expected placement to be one of output, input, none, got 'here'",
    ),
    (
        dict(overrides={"2": {"backend": "gpu"}}),
        ValueError,
        "convert, override '2': expected backend to be one of auto, sparse, dense, cusparse, "
        "got 'gpu'",
    ),
    (dict(overrides=[]), TypeError, "convert: expected overrides to be a dict, got []"),
    (
        dict(overrides={2: {}}),
        TypeError,
        "convert, override 2: expected a name or a pattern, got 2",
    ),
    (dict(overrides={"2": 0.5}), TypeError, "convert, override '2': expected a dict, got 0.5"),
    (dict(rate=1.0), ValueError, "convert: expected rate to be in [0, 1), got 1.0"),
    (dict(density=0.0), ValueError, "convert: expected density to be in (0, 1], got 0.0"),
    (
        dict(rate=0.5, density=0.5),
        ValueError,
        "convert: expected one of rate and density, got rate 0.5 and density 0.5",
    ),
    (
        dict(backend="best"),
        ValueError,
        "convert: expected backend to be one of auto, sparse, dense, cusparse, got 'best'",
    ),
    (dict(history=-1), ValueError, "convert: expected history to be an int of at least 0, got -1"),
    (
        dict(measure_every="no"),
        TypeError,
        "convert: expected measure_every to be an int of at least 0, got 'no'",
    ),
]


@pytest.mark.parametrize("arguments, kind, sentence", REFUSED)
@pytest.mark.parametrize("converted", [False, True])
def test_a_refused_conversion_does_not_change_the_model(arguments, kind, sentence, converted):
    model = convert(small_net(), 0.6) if converted else small_net()
    before, described = anatomy(model), describe(model)
    assert message(kind, lambda: convert(model, **arguments)) == f"sparsetrain.{sentence}"
    assert anatomy(model) == before and describe(model) == described


def test_long_lists_of_names_are_shortened():
    model = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(10)))
    assert message(ValueError, lambda: convert(model, overrides={"x": {}})).endswith(
        "got none of '0', '1', '2', '3', '4', '5', '6', '7' and 2 more"
    )


def test_a_model_without_convolutions_is_refused():
    assert message(ValueError, lambda: convert(nn.Sequential(nn.Linear(2, 2)))) == (
        "sparsetrain.convert: expected model to have an nn.Conv2d, got none in a Sequential. "
        "describe(model) lists the skipped convolutions"
    )


@pytest.mark.parametrize(
    "function", ["average_thresholds", "convert", "describe", "revert", "set_rate", "stats"]
)
def test_anything_but_a_module_is_refused(function):
    assert message(TypeError, lambda: getattr(sparsetrain, function)([])) == (
        f"sparsetrain.{function}: expected model to be an nn.Module, got list"
    )


def test_set_rate_reaches_every_pruner():
    model = nn.Sequential(convert(small_net(), overrides={"2": {"rate": 0.3}}), PruneGrad(0.1))
    set_rate(model, 0.4)
    pruners = [m for m in model.modules() if isinstance(m, PruneGrad)]
    assert [p.rate for p in pruners] == [0.4] * 3
    set_rate(model, density=0.2)
    assert [(p.rate, p.density, p.factor) for p in pruners] == [(None, 0.2, 5.0)] * 3


def test_set_rate_refuses_values_out_of_range_and_models_without_pruners():
    assert message(ValueError, lambda: set_rate(small_net())) == (
        "sparsetrain.set_rate: expected one of rate and density, got neither"
    )
    assert message(ValueError, lambda: set_rate(small_net(), 0.5)) == (
        "sparsetrain.set_rate: expected model to have a PruneGrad, got none. Convert it first"
    )
    model = convert(small_net(), 0.6)
    assert message(ValueError, lambda: set_rate(model, 1.5)) == (
        "sparsetrain.set_rate: expected rate to be in [0, 1), got 1.5"
    )
    assert message(ValueError, lambda: set_rate(model, 0.5, density=0.5)).startswith(
        "sparsetrain.set_rate: expected one of rate and density"
    )
    assert model[2].pruner.rate == 0.6


def test_resuming_training_from_a_file_is_bit_exact():
    model, optimizer = trained(4)
    checkpoint, file = {}, io.BytesIO()
    checkpoint["model"], checkpoint["optimizer"] = model.state_dict(), optimizer.state_dict()
    checkpoint["pruning"] = pruning_state(model)
    torch.save(checkpoint, file)
    trained(3, model, optimizer, first=4)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)
    resumed = convert(small_net(), 0.9, history=2)
    resumed.load_state_dict(checkpoint["model"])
    resumed_optimizer = torch.optim.SGD(resumed.parameters(), 0.01, momentum=0.9)
    resumed_optimizer.load_state_dict(checkpoint["optimizer"])
    load_pruning_state(resumed, checkpoint["pruning"])
    trained(3, resumed, resumed_optimizer, first=4)
    assert same(list(model.state_dict().values()), list(resumed.state_dict().values()))
    assert torch.equal(model[2].pruner.state, resumed[2].pruner.state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_model_trains_bit_for_bit_like_the_original(copied):
    model, _ = trained(3)
    twin = copied(model)
    assert describe(twin) == describe(model)
    assert same(step(model, 3), step(twin, 3))


def test_casting_and_moving_a_model_keep_the_states():
    model, _ = trained(3)
    before = model[2].pruner.state.clone()
    model.to(torch.bfloat16).to("meta").to_empty(device="cpu")
    assert model[2].weight.dtype == torch.bfloat16
    assert model[2].pruner.state.dtype == torch.float64
    assert torch.equal(model[2].pruner.state, before)


class StoresTensors(nn.Module):
    """A model whose forward pass changes its own attributes."""

    def __init__(self):
        super().__init__()
        self.conv, self.steps, self.outputs = nn.Conv2d(1, 2, 3), 0, ["before"]

    def forward(self, x):
        self.last = self.conv(x)
        self.steps += 1
        self.outputs.append(self.last)
        return self.last.relu()


def test_tracing_restores_all_attributes_of_the_model():
    model = convert(StoresTensors())
    assert model.steps == 0 and model.outputs == ["before"] and not hasattr(model, "last")

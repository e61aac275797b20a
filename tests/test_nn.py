"""Laws of SparseConv2d and of conversion: what changes, and what must not."""

import copy
import io
import pickle
import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations

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
    stats,
)


def small_net():
    """One convolution per placement: first before ReLU, before a norm, before ReLU, depthwise."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


NAMES = ["0", "2", "6", "8"]
PLACEMENTS = ["none", "output", "input", "none"]


def step(model, seed, batch=4):
    """The gradients of one training step."""
    x = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    model.zero_grad()
    model(x).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


def same(one, two):
    return len(one) == len(two) and all(map(torch.equal, one, two))


def message(kind, call):
    with pytest.raises(kind) as error:
        call()
    return str(error.value)


# The module.

CONFIGURATIONS = [
    dict(kernel_size=3),
    dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    dict(kernel_size=3, padding=1, groups=2),
    dict(kernel_size=3, padding=1, groups=4, bias=False),
    dict(kernel_size=3, padding="valid"),
    dict(kernel_size=(3, 2), padding="same", dilation=2),
    *(
        dict(kernel_size=3, padding=padding, padding_mode=mode)
        for mode in ("reflect", "replicate", "circular")
        for padding in (1, (2, 1), "same", "valid")
    ),
]


@pytest.mark.parametrize("arguments", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("backend", ["dense", "sparse"])
@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (4, 7, 6)], ids=["batched", "unbatched"])
def test_the_module_is_conv2d_when_nothing_is_pruned(arguments, backend, shape):
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
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)


def test_the_constructor_takes_its_own_arguments_by_keyword():
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
            "SparseConv2d: expected backend to be one of auto, sparse, dense, got 'fast'",
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
def test_the_constructor_refuses(arguments, kind, sentence):
    assert message(kind, lambda: SparseConv2d(3, 4, 3, **arguments)) == f"sparsetrain.{sentence}"


def test_repr_names_backend_placement_and_pruner():
    conv = SparseConv2d(3, 4, 1, backend="dense", rate=0.5, measure_every=3)
    assert repr(conv) == (
        "SparseConv2d(\n"
        "  3, 4, kernel_size=(1, 1), stride=(1, 1), backend=dense, placement=output\n"
        "  (pruner): PruneGrad(rate=0.5, history=4)\n"
        "  (input_observer): Observer(every=3)\n"
        ")"
    )


@pytest.mark.parametrize("placement", ["output", "input", "none"])
def test_each_placement_prunes_its_gradient_and_no_other(placement):
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


def test_eval_and_no_grad_touch_no_state():
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
def test_an_activation_may_work_in_place_behind_the_module(placement):
    conv = SparseConv2d(4, 4, 3, placement=placement, history=9, measure_every=1)
    x = torch.randn(2, 4, 6, 6)
    grads = []
    for inplace in (False, True):
        conv.zero_grad()
        nn.LeakyReLU(0.1, inplace)(conv(x.clone().requires_grad_())).square().sum().backward()
        grads.append([p.grad.clone() for p in conv.parameters()])
    assert same(*grads)


# Conversion.


def test_conversion_keeps_objects_parameters_hooks_and_keys():
    model = small_net()
    modules, parameters = list(model.modules()), dict(model.named_parameters())
    keys, called = list(model.state_dict()), []
    model[2].register_forward_hook(lambda *_: called.append(1))
    assert convert(model) is model
    assert [type(model[int(n)]) for n in NAMES] == [SparseConv2d] * 4
    assert [m for m in model.modules() if not isinstance(m, PruneGrad)] == modules
    after = dict(model.named_parameters())
    assert list(after) == list(parameters) and all(after[n] is parameters[n] for n in after)
    assert list(model.state_dict()) == keys
    step(model, 0)
    assert called == [1]


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


def anatomy(model):
    """Everything a module consists of, by identity where identity matters."""
    parts = {}
    for name, module in model.named_modules():
        attributes = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        inner = {k: dict(v) for k, v in vars(module).items() if k in ("_parameters", "_modules")}
        keys = list(vars(module))
        parts[name] = (type(module), id(module), keys, attributes, inner)
    return parts


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


def test_converting_again_changes_nothing():
    model = convert(small_net(), 0.7, measure_every=2)
    for i in range(5):
        step(model, i)
    before, state, described = anatomy(model), model[2].pruner.state, describe(model)
    values = state.clone()
    convert(model, 0.7, measure_every=2)
    assert anatomy(model) == before and describe(model) == described
    assert model[2].pruner.state is state and torch.equal(state, values)


def test_converting_again_with_other_arguments_ends_where_they_say_and_keeps_the_history():
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


def test_seeds_follow_layer_names_and_the_global_seed_without_consuming_it():
    with torch.random.fork_rng():
        one, two = convert(small_net()), convert(small_net())
        torch.manual_seed(1)
        stream = torch.get_rng_state()
        other = convert(copy.deepcopy(revert(copy.deepcopy(one))))
        assert torch.equal(torch.get_rng_state(), stream)
    seeds = [[m[i].pruner.state[0].item() for i in (2, 6)] for m in (one, two, other)]
    assert seeds[0] == seeds[1] and len({*seeds[0], *seeds[2]}) == 4


def test_a_convolution_shared_under_two_names_stays_shared():
    conv, relu = nn.Conv2d(3, 3, 1), nn.ReLU()
    model = convert(nn.Sequential(conv, relu, conv, relu))
    assert model[0] is model[2] is conv and type(conv) is SparseConv2d
    assert [row.name for row in describe(model)] == ["0"]
    assert describe(model)[0].rule == (
        "next is ReLU; called 2 times, elsewhere first convolution, next is ReLU"
    )


def test_a_model_that_is_a_convolution():
    conv = nn.Conv2d(3, 3, 1)
    assert convert(conv) is conv and type(conv) is SparseConv2d
    assert [tuple(row)[:4] for row in describe(conv)] == [
        ("", "SparseConv2d", "output", "the model is this convolution")
    ]
    assert type(revert(conv)) is nn.Conv2d


def test_hooks_of_the_older_weight_norm_survive():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        conv = torch.nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
    x = torch.randn(1, 3, 5, 5)
    before = conv(x)
    assert torch.equal(convert(conv, backend="dense")(x), before)


class OwnConv(nn.Conv2d):
    """A user's subclass."""


def test_what_is_no_plain_conv2d_is_left_alone_and_named():
    model = nn.ModuleDict(
        {
            "plain": nn.Conv2d(3, 3, 1),
            "own": OwnConv(3, 3, 1),
            "lazy": nn.LazyConv2d(3, 1),
            "parametrized": parametrizations.weight_norm(nn.Conv2d(3, 3, 1)),
            "one": nn.Conv1d(3, 3, 1),
            "three": nn.Conv3d(3, 3, 1),
            "transposed": nn.ConvTranspose2d(3, 3, 1),
            "linear": nn.Linear(3, 3),
        }
    )
    types = {name: type(m) for name, m in model.items()}
    before = describe(model)
    assert before[0] == ("plain", "Conv2d", "none", "not converted", None, None, None)
    convert(model)
    types["plain"] = SparseConv2d
    assert {name: type(m) for name, m in model.items()} == types
    assert {row.name: (row.kind, row.placement, row.rule) for row in describe(model)[1:]} == {
        "own": ("OwnConv", "none", "left alone: subclass of nn.Conv2d"),
        "lazy": ("LazyConv2d", "none", "left alone: lazy, convert after the first forward"),
        "parametrized": ("ParametrizedConv2d", "none", "left alone: parametrized"),
        "one": ("Conv1d", "none", "left alone: not an nn.Conv2d"),
        "three": ("Conv3d", "none", "left alone: not an nn.Conv2d"),
        "transposed": ("ConvTranspose2d", "none", "left alone: not an nn.Conv2d"),
    }


def test_describe_prints_a_table():
    lines = str(describe(convert(small_net(), 0.5, overrides={"6": {"density": 0.1}}))).splitlines()
    assert [line.split()[0] for line in lines] == ["name", *NAMES]
    assert lines[1].startswith("0     SparseConv2d  none       first convolution, next is ReLU")
    assert lines[2].split("  ")[-1].strip() == "auto" and " 0.5 " in lines[2]
    assert " 0.1 " in lines[3] and "-" in lines[3]


def test_describe_gives_placements_in_order():
    assert [row.placement for row in describe(convert(small_net()))] == PLACEMENTS


# Overrides.


def test_overrides_go_by_name_or_pattern_and_a_full_name_wins():
    model = convert(
        small_net(),
        0.5,
        overrides={
            "6": {"placement": "output", "density": 0.2},
            "*": {"backend": "dense", "rate": 0.8},
            "[02]": {"rate": 0.7},
        },
    )
    rows = [(d.placement, d.rule, d.rate, d.density, d.backend) for d in describe(model)]
    assert rows == [
        ("none", "first convolution, next is ReLU", None, None, "dense"),
        ("output", "next is BatchNorm2d", 0.7, None, "dense"),
        ("output", "override", None, 0.2, "dense"),
        ("none", "depthwise", None, None, "dense"),
    ]


def test_an_override_may_prune_a_depthwise_convolution_or_spare_any():
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
        "got 'rates'",
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
        "convert, override '2': expected backend to be one of auto, sparse, dense, got 'gpu'",
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
        "convert: expected backend to be one of auto, sparse, dense, got 'best'",
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
def test_a_refused_conversion_leaves_the_model_as_it_was(arguments, kind, sentence, converted):
    model = convert(small_net(), 0.6) if converted else small_net()
    before, described = anatomy(model), describe(model)
    assert message(kind, lambda: convert(model, **arguments)) == f"sparsetrain.{sentence}"
    assert anatomy(model) == before and describe(model) == described


def test_long_lists_of_names_are_cut():
    model = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(10)))
    assert message(ValueError, lambda: convert(model, overrides={"x": {}})).endswith(
        "got none of '0', '1', '2', '3', '4', '5', '6', '7' and 2 more"
    )


def test_a_model_without_convolutions_is_refused():
    assert message(ValueError, lambda: convert(nn.Sequential(nn.Linear(2, 2)))) == (
        "sparsetrain.convert: expected model to have an nn.Conv2d, got none in a Sequential. "
        "describe(model) lists what was left alone"
    )


@pytest.mark.parametrize("function", ["convert", "revert", "describe", "set_rate", "stats"])
def test_what_is_no_module_is_refused(function):
    assert message(TypeError, lambda: getattr(sparsetrain, function)([])) == (
        f"sparsetrain.{function}: expected model to be an nn.Module, got list"
    )


# Rates, statistics, resumption.


def test_set_rate_reaches_every_pruner():
    model = nn.Sequential(convert(small_net(), overrides={"2": {"rate": 0.3}}), PruneGrad(0.1))
    set_rate(model, 0.4)
    pruners = [m for m in model.modules() if isinstance(m, PruneGrad)]
    assert [p.rate for p in pruners] == [0.4] * 3
    set_rate(model, density=0.2)
    assert [(p.rate, p.density, p.factor) for p in pruners] == [(None, 0.2, 5.0)] * 3


def test_set_rate_refuses():
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


def density(tensor):
    return (tensor != 0).double().mean().item()


def test_stats_are_the_densities_of_the_tensors_of_the_last_step():
    model = convert(small_net(), 0.9, history=1, measure_every=1)
    seen = {}
    for name in NAMES:
        conv = model[int(name)]
        conv.register_forward_hook(lambda m, x, y, n=name: seen.__setitem__(n, density(x[0])))
    for i in range(3):
        step(model, i)
    measured = stats(model)
    assert list(measured) == NAMES
    assert {name: s.input_density for name, s in measured.items()} == seen
    output, pruned_input, none = measured["2"], measured["6"], measured["0"]
    assert output.grad_density_before > output.grad_density > 0
    assert output[7:] == (output.grad_density_before, output.grad_density)
    assert output.threshold == model[2].pruner.state[pruning.THRESHOLD].item() > 0
    # The layer behind 6 is no pruner of the output's gradient: before and after are one.
    assert pruned_input.grad_density_before == pruned_input.grad_density > 0
    assert pruned_input.pruned_density_before > pruned_input.pruned_density > 0
    assert none.threshold is none.pruned_density is None and none.grad_density > 0


def test_stats_count_the_gradient_that_the_convolution_is_given():
    torch.manual_seed(0)
    for placement in ("output", "input", "none"):
        conv = SparseConv2d(4, 4, 1, placement=placement, history=0, measure_every=1, bias=False)
        x = torch.randn(4, 4, 6, 6, requires_grad=True)
        dy = torch.randn(4, 4, 6, 6) * (torch.rand(4, 4, 6, 6) < 0.5)
        conv(x).backward(dy)
        measured = stats(conv)[""]
        assert measured.grad_density_before == density(dy)
        assert (measured.grad_density < density(dy)) == (placement == "output")


def test_every_nth_training_step_is_measured():
    conv = SparseConv2d(2, 2, 1, measure_every=3, placement="none")
    expected = []
    for i in range(5):
        x = torch.zeros(1, 2, 2, 2)
        x.view(-1)[: i + 1] = 1
        conv(x).sum().backward()
        conv.eval()(torch.ones(1, 2, 2, 2))
        conv.train()
        expected.append(stats(conv)[""].input_density)
    assert expected == [1 / 8, 1 / 8, 1 / 8, 4 / 8, 4 / 8]


def test_stats_are_none_where_nothing_was_measured():
    model = convert(small_net())
    assert set(stats(model)["2"]) == {None}
    step(model, 0)
    measured = stats(model)
    assert measured["2"].input_density is None and measured["2"].grad_density is not None
    assert measured["6"].grad_density is None and measured["6"].pruned_density is not None


@pytest.mark.parametrize("backend", ["auto", "dense", "sparse"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_stats_name_what_explain_chooses(backend, memory_format):
    conv = SparseConv2d(4, 4, 3, padding=1, backend=backend, measure_every=1, history=0)
    conv(torch.randn(2, 4, 8, 8).to(memory_format=memory_format)).square().sum().backward()
    measured = stats(conv)[""]
    expected = sparsetrain.explain(
        (2, 4, 8, 8),
        (4, 4, 3, 3),
        padding=1,
        memory_format=memory_format,
        input_density=measured.input_density,
        grad_density=measured.grad_density,
        backend=backend,
    )
    assert conv.seen.memory_format == memory_format
    assert measured.forward == expected.forward.backend
    assert measured.grad_input == expected.grad_input.backend
    assert measured.grad_weight == expected.grad_weight.backend


def test_stats_of_an_unconverted_model_are_refused():
    assert message(ValueError, lambda: stats(small_net())) == (
        "sparsetrain.stats: expected model to have a SparseConv2d, got none. Convert it first"
    )


def trained(steps, model=None, optimizer=None, first=0):
    model = model or convert(small_net(), 0.9, history=2)
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    for i in range(first, first + steps):
        step(model, i)
        optimizer.step()
    return model, optimizer


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
    again = torch.optim.SGD(resumed.parameters(), 0.01, momentum=0.9)
    again.load_state_dict(checkpoint["optimizer"])
    load_pruning_state(resumed, checkpoint["pruning"])
    trained(3, resumed, again, first=4)
    assert same(list(model.state_dict().values()), list(resumed.state_dict().values()))
    assert torch.equal(model[2].pruner.state, resumed[2].pruner.state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_model_trains_alike(copied):
    model, _ = trained(3)
    twin = copied(model)
    assert describe(twin) == describe(model)
    assert same(step(model, 3), step(twin, 3))


def test_casting_and_moving_keep_the_state():
    model, _ = trained(3)
    before = model[2].pruner.state.clone()
    model.to(torch.bfloat16).to("meta").to_empty(device="cpu")
    assert model[2].weight.dtype == torch.bfloat16
    assert model[2].pruner.state.dtype == torch.float64
    assert torch.equal(model[2].pruner.state, before)


# Other people's models and compilers.

FAMILIES = {
    "resnet18": 32,
    "alexnet": 64,
    "squeezenet1_1": 32,
    "mobilenet_v2": 32,
    "densenet121": 32,
    "shufflenet_v2_x0_5": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
}


def training_gradients(model, size):
    torch.manual_seed(1)  # dropout draws the same in both
    y = model(torch.randn(2, 3, size, size))
    y = y[0] if isinstance(y, tuple) else y
    y.square().mean().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_torchvision_model_that_prunes_nothing_has_its_own_gradients(name):
    options = {"init_weights": False} if name == "googlenet" else {}
    torch.manual_seed(0)
    plain = torchvision.models.get_model(name, num_classes=10, **options)
    sparse = convert(copy.deepcopy(plain), 0, backend="dense")
    assert not any("registration order" in row.rule for row in describe(sparse))
    size = FAMILIES[name]
    assert same(training_gradients(plain, size), training_gradients(sparse, size))
    assert same(list(plain.state_dict().values()), list(revert(sparse).state_dict().values()))
    assert [type(m) for m in sparse.modules()] == [type(m) for m in plain.modules()]


def test_compiled_training_is_eager_training():
    eager, _ = trained(0)
    twin = copy.deepcopy(eager)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for i in range(5):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(i))
        for model in (eager, compiled):
            model(x).square().sum().backward()
    assert same([p.grad for p in eager.parameters()], [p.grad for p in twin.parameters()])
    assert torch.equal(eager[2].pruner.state, twin[2].pruner.state)

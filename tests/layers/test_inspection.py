"""Laws of describe and stats: they report what was converted and what was computed."""

import pytest
import torch
from helpers.nets import CONFIGURATIONS, NAMES, PLACEMENTS, density, message, small_net, step
from torch import nn
from torch.nn.utils import parametrizations

import sparsetrain
from sparsetrain import SparseConv2d, convert, describe, inspection, pruning, revert, stats


class Subclass(nn.Conv2d):
    """A user's subclass."""


def test_describe_gives_the_reason_for_every_skipped_convolution():
    model = nn.ModuleDict(
        {
            "plain": nn.Conv2d(3, 3, 1),
            "subclass": Subclass(3, 3, 1),
            "lazy": nn.LazyConv2d(3, 1),
            "parametrized": parametrizations.weight_norm(nn.Conv2d(3, 3, 1)),
            "conv1d": nn.Conv1d(3, 3, 1),
            "conv3d": nn.Conv3d(3, 3, 1),
            "transposed": nn.ConvTranspose2d(3, 3, 1),
            "linear": nn.Linear(3, 3),
        }
    )
    types = {name: type(m) for name, m in model.items()}
    before = describe(model)
    assert before[0] == ("plain", "Conv2d", "none", "not converted", None, None, None)
    convert(model)
    converted = {name: type(m) for name, m in model.items()}
    assert converted == {**types, "plain": SparseConv2d}
    assert {row.name: (row.kind, row.placement, row.reason) for row in describe(model)[1:]} == {
        "subclass": ("Subclass", "none", "skipped: subclass of nn.Conv2d"),
        "lazy": ("LazyConv2d", "none", "skipped: lazy, convert after the first forward"),
        "parametrized": ("ParametrizedConv2d", "none", "skipped: parametrized"),
        "conv1d": ("Conv1d", "none", "skipped: not an nn.Conv2d"),
        "conv3d": ("Conv3d", "none", "skipped: not an nn.Conv2d"),
        "transposed": ("ConvTranspose2d", "none", "skipped: not an nn.Conv2d"),
    }
    revert(model)
    assert {name: type(m) for name, m in model.items()} == types


def test_describe_prints_a_table():
    lines = str(describe(convert(small_net(), 0.5, overrides={"6": {"density": 0.1}}))).splitlines()
    assert [line.split()[0] for line in lines] == ["name", *NAMES]
    assert lines[1].startswith("0     SparseConv2d  none       first convolution, next is ReLU")
    assert lines[2].split("  ")[-1].strip() == "auto" and " 0.5 " in lines[2]
    assert " 0.1 " in lines[3] and "-" in lines[3]


def test_describe_gives_placements_in_order():
    assert [row.placement for row in describe(convert(small_net()))] == PLACEMENTS


def test_stats_report_the_densities_of_the_tensors_of_the_last_step():
    model = convert(small_net(), 0.9, history=1, measure_every=1)
    expected = {}
    for name in NAMES:
        conv = model[int(name)]
        conv.register_forward_hook(lambda m, x, y, n=name: expected.update({n: density(x[0])}))
    for i in range(3):
        step(model, i)
    measured = stats(model)
    assert list(measured) == NAMES
    assert {name: s.input_density for name, s in measured.items()} == expected
    output, pruned_input, none = measured["2"], measured["6"], measured["0"]
    assert output.grad_density_before > output.grad_density > 0
    assert output.pruned_density_before == output.grad_density_before
    assert output.pruned_density == output.grad_density
    assert output.threshold == model[2].pruner.state[pruning.THRESHOLD].item() > 0
    # Layer 6 prunes the gradient of its input, so that of its output stays as it arrives.
    assert pruned_input.grad_density_before == pruned_input.grad_density > 0
    assert pruned_input.pruned_density_before > pruned_input.pruned_density > 0
    assert none.threshold is none.pruned_density is None and none.grad_density > 0


def test_grad_density_is_that_of_the_gradient_that_the_convolution_gets():
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


def test_unmeasured_values_are_none():
    model = convert(small_net())
    assert set(stats(model)["2"]) == {None}
    step(model, 0)
    measured = stats(model)
    assert measured["2"].input_density is None and measured["2"].grad_density is not None
    assert measured["6"].grad_density is None and measured["6"].pruned_density is not None


@pytest.mark.parametrize("backend", ["auto", "dense", "sparse"])
def test_stats_report_the_backends_that_explain_chooses(backend):
    conv = SparseConv2d(4, 4, 3, padding=1, backend=backend, measure_every=1, history=0)
    conv(torch.randn(2, 4, 8, 8)).square().sum().backward()
    measured = stats(conv)[""]
    expected = sparsetrain.explain(
        (2, 4, 8, 8),
        (4, 4, 3, 3),
        padding=1,
        input_density=measured.input_density,
        grad_density=measured.grad_density,
        backend=backend,
    )
    assert measured.forward == expected.forward.backend
    assert measured.grad_input == expected.grad_input.backend
    assert measured.grad_weight == expected.grad_weight.backend


@pytest.mark.parametrize(
    "padding_mode, shape, padding",
    [
        ("zeros", (2, 4, 6, 5), (1, 2)),
        # The module pads one row and two columns on each side before it calls conv2d.
        ("circular", (2, 4, 8, 9), (0, 0)),
    ],
)
def test_stats_pass_the_arguments_of_the_last_call_to_explain(
    monkeypatch, padding_mode, shape, padding
):
    calls = []

    def explain(*args, **options):
        calls.append((args, options))
        return sparsetrain.explain(*args, **options)

    monkeypatch.setattr(inspection, "explain", explain)
    conv = SparseConv2d(
        4,
        8,
        (3, 2),
        (2, 1),
        (1, 2),
        groups=2,
        padding_mode=padding_mode,
        backend="dense",
        placement="none",
        measure_every=1,
        dtype=torch.float64,
    )
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64).relu()
    y = conv(x)
    dy = torch.randn_like(y).relu()
    y.backward(dy)
    stats(conv)
    assert calls == [
        (
            (shape, (8, 2, 3, 2), (2, 1), padding, (1, 1), 2),
            dict(
                dtype=torch.float64,
                input_density=density(x),
                grad_density=density(dy),
                backend="dense",
                device="cpu",
                architecture=None,
            ),
        )
    ]


def test_stats_of_an_unconverted_model_are_refused():
    assert message(ValueError, lambda: stats(small_net())) == (
        "sparsetrain.stats: expected model to have a SparseConv2d, got none. Convert it first"
    )


@pytest.mark.parametrize("arguments", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (4, 7, 6)], ids=["batched", "unbatched"])
def test_stats_report_a_forced_backend_for_every_configuration(arguments, shape):
    conv = SparseConv2d(4, 8, **arguments, backend="sparse")
    conv(torch.randn(shape)).sum().backward()
    measured = stats(conv)[""]
    assert (measured.forward, measured.grad_input, measured.grad_weight) == ("sparse",) * 3


def test_the_last_call_has_the_dtype_that_autocast_chose():
    conv = SparseConv2d(4, 4, 1)
    x = torch.randn(1, 4, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        conv(x).sum().backward()
    assert conv._last_call.dtype == torch.bfloat16
    conv(x).sum().backward()
    assert conv._last_call.dtype == torch.float32

"""Laws of `auto`: which zeros are skipped, and what the cost table does."""

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from helpers.instruction_sets import instruction_set

import sparsetrain
from sparsetrain._native import _C, PASSES
from sparsetrain.tuning import cpu as tuning

SHAPES = [
    # N, C, H, W, K, R, S, padding: with partly filled vectors, and kernels of 1 to 81 taps.
    (4, 19, 9, 11, 35, 3, 3, (1, 1)),
    (2, 64, 8, 8, 32, 5, 3, (2, 0)),
    (3, 16, 7, 7, 64, 1, 1, (0, 0)),
    (1, 70, 13, 20, 90, 2, 4, (1, 3)),
    (2, 20, 9, 9, 30, 9, 9, (4, 4)),
]


@pytest.fixture
def own_costs():
    """Restores the table that ships after the test."""
    yield
    sparsetrain.set_costs(None)


def grad_weight(dy, x, w, padding, backend):
    """The gradient of the weight alone, stride 1."""
    rest = ([1, 1], list(padding), [1, 1], 1, [False, True, False], backend)
    return torch.ops.sparsetrain.conv2d_backward(dy, x, w, *rest)[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_grad_weight_that_skips_zeros_of_x_equals_torch_in_float64(shape, dtype, layout):
    n, c, h, w, k, r, s, padding = shape
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, c, h, w, generator=g) * (torch.rand(n, c, h, w, generator=g) < 0.2)
    weight = torch.randn(k, c, r, s, generator=g)
    dy = torch.randn(torch.nn.functional.conv2d(x, weight, padding=padding).shape, generator=g)
    x, weight, dy = (t.to(dtype).to(memory_format=layout) for t in (x, weight, dy))
    # The zeros of x are skipped: with x = 0 an infinite dy leaves no trace.
    assert not grad_weight(torch.full_like(dy, math.inf), 0 * x, weight, padding, "sparse").any()
    got = grad_weight(dy, x, weight, padding, "sparse")
    a, b = x.double().contiguous(), dy.double().contiguous()
    wanted = grad_weight(b, a, weight.double(), padding, "dense")
    size = grad_weight(b.abs(), a.abs(), weight.double(), padding, "dense")
    terms, unit = n * b.shape[2] * b.shape[3], torch.finfo(torch.float64).eps
    if dtype != torch.float64:
        unit = torch.finfo(torch.float32).eps
    bound = terms * unit * size + torch.finfo(dtype).eps * wanted.abs() + torch.finfo(dtype).tiny
    assert ((got.double() - wanted).abs() <= bound).all()
    assert got.is_contiguous(memory_format=layout)


def test_grad_weight_skips_the_zeros_of_the_sparser_operand():
    nan = float("nan")
    x, w, dy = torch.ones(2, 32, 8, 8), torch.ones(32, 32, 3, 3), torch.ones(2, 32, 8, 8)
    assert not grad_weight(nan * dy, 0 * x, w, (1, 1), "sparse").any()
    assert not grad_weight(0 * dy, nan * x, w, (1, 1), "sparse").any()


def priced(dense: float, sparse: float) -> dict:
    """The table that ships, with every dense and sparse cost replaced."""
    table = sparsetrain.costs()
    for storage, name in itertools.product(tuning.DTYPES, PASSES):
        units = table[storage][name]
        table[storage][name] = {u: dense if u.startswith("dense") else sparse for u in units}
    return table


def test_auto_follows_set_costs_and_none_restores_the_costs_that_ship(own_costs):
    shapes = ((8, 64, 32, 32), (64, 64, 3, 3), 1, 1)
    shipped = sparsetrain.costs()
    for dense, sparse, wanted in ((1.0, 0.0, "sparse"), (0.0, 1.0, "dense")):
        sparsetrain.set_costs(priced(dense, sparse))
        assert sparsetrain.costs() == priced(dense, sparse)
        for dtype in tuning.DTYPES:
            explained = sparsetrain.explain(*shapes, dtype=getattr(torch, dtype))
            assert {getattr(explained, name).backend for name in PASSES} == {wanted}
    sparsetrain.set_costs(None)
    assert sparsetrain.costs() == shipped


def test_shipped_costs_know_whether_tiles_multiply_bfloat16():
    """Pairwise dot products halve the cost of float32 (1.9 was fitted); tiles reduce it further."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.is_file() else []
    tiles = _C.isa() == "avx512" and {"amx_tile", "amx_bf16"} <= {*flags}
    table = _C.shipped_costs()
    gains = [
        table["float32"][name]["dense_mac_ns"] / table["bfloat16"][name]["dense_mac_ns"]
        for name in PASSES
    ]
    assert all((gain > 2.2) == tiles for gain in gains)


def test_predicted_times_are_counts_times_costs(own_costs):
    # 8 images of 32 x 32 pixels, 64 * 64 * 9 weights: 8 * 32 * 32 * 64 * 64 * 9 multiply-adds.
    table = priced(0.0, 0.0)
    for name in PASSES:
        table["float32"][name]["dense_mac_ns"] = 1e-3
    sparsetrain.set_costs(table)
    explained = sparsetrain.explain((8, 64, 32, 32), (64, 64, 3, 3), 1, 1)
    for name in PASSES:
        assert getattr(explained, name).dense_ms == pytest.approx(
            8 * 32 * 32 * 64 * 64 * 9 * 1e-3 * 1e-6
        )


def test_choices_use_the_vectors_of_the_instruction_set_in_force(own_costs):
    """Eight channels fill a vector of the scalar kernels, but not one of AVX-512."""
    sparsetrain.set_costs(priced(1.0, 0.0))
    with instruction_set("scalar"):
        eight, two = (
            sparsetrain.explain((8, c, 32, 32), (c, c, 3, 3), 1, 1, grad_density=0.05).grad_input
            for c in (8, 2)
        )
    assert eight.backend == "sparse"
    assert (two.backend, two.reason) == ("dense", "fewer channels than a vector holds")


@pytest.mark.parametrize(
    ("batch", "kernel", "stride", "calls"),
    [(8, 3, 1, 1), (1, 3, 1, 0), (8, 1, 1, 0), (16, 1, 1, 1), (8, 1, 2, 1)],
)
def test_a_dense_call_costs_extra_where_torch_calls_onednn(batch, kernel, stride, calls, own_costs):
    table = priced(0.0, 0.0)
    for name in PASSES:
        table["float32"][name]["dense_call_ns"] = 3e6
    sparsetrain.set_costs(table)
    explained = sparsetrain.explain(
        (batch, 64, 8, 8), (64, 64, kernel, kernel), stride, kernel // 2
    )
    assert {getattr(explained, name).dense_ms for name in PASSES} == {3.0 * calls}


def damaged(path: list[str], value: object) -> dict:
    """The table that ships with one entry replaced, or removed where value is None."""
    table = copy.deepcopy(sparsetrain.costs())
    inner = table
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return table


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["isa"], "vax", "expected the table's isa to be .*, which runs here, got vax"),
        (["float32"], None, "expected table to be a dict with .*float32.*, got"),
        (["float32", "forward"], 3, "expected float32.forward to be a dict with .*, got 3"),
        (["float32", "forward", "list_ns"], None, "expected float32.forward to be a dict with"),
        (
            ["float16", "grad_input", "list_ns"],
            -1,
            "expected float16.grad_input.list_ns .*, got -1",
        ),
        (["float16", "grad_input", "list_ns"], math.nan, "a finite number of at least 0, got nan"),
        (["float16", "grad_input", "list_ns"], "x", "a finite number of at least 0, got 'x'"),
    ],
)
def test_refusals_of_tables(path, value, message):
    before = sparsetrain.costs()
    with pytest.raises(ValueError, match=f"sparsetrain.set_costs: .*{message}"):
        sparsetrain.set_costs(damaged(path, value))
    assert sparsetrain.costs() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "a file of JSON"), ("{}", "a file that `tune` wrote"), ("[1]", "that `tune` wrote")],
)
def test_refusals_of_files(tmp_path, text, message):
    file = tmp_path / "costs.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        sparsetrain.set_costs(file)
    with pytest.raises(FileNotFoundError, match="no file"):
        sparsetrain.set_costs(tmp_path / "none.json")


def test_a_pruning_state_brings_its_costs_along(own_costs):
    model = sparsetrain.convert(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)))
    tuned = priced(0.5, 0.25)
    sparsetrain.set_costs(tuned)
    state = sparsetrain.pruning_state(model)
    sparsetrain.set_costs(None)
    sparsetrain.load_pruning_state(model, state)
    assert sparsetrain.costs() == tuned
    # Costs of another instruction set say nothing here.
    sparsetrain.set_costs(None)
    sparsetrain.load_pruning_state(model, {**state, "costs": {**tuned, "isa": "vax"}})
    assert sparsetrain.costs() != tuned


@pytest.mark.parametrize(
    ("x", "w", "arguments"),
    [
        ((4, 32, 9, 9), (32, 1, 3, 3), {"groups": 32, "padding": 1}),
        ((4, 64, 12, 12), (64, 64, 3, 3), {"dilation": 2, "padding": (2, 1)}),
        ((4, 3, 17, 16), (64, 3, 7, 7), {"stride": (2, 3), "padding": 3}),
        ((2, 16, 6, 6), (16, 16, 1, 1), {}),  # tiny; torch does not call oneDNN for it
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_calls_that_auto_never_runs_sparse_are_torchs_own_convolution(x, w, arguments, layout):
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(s, generator=g).to(memory_format=layout).requires_grad_() for s in (x, w))
    b = torch.randn(w.shape[0], generator=g).requires_grad_()
    wanted = torch.nn.functional.conv2d(x, w, b, **arguments)
    got = sparsetrain.conv2d(x, w, b, **arguments)
    assert got.equal(wanted) and got.stride() == wanted.stride()
    assert got.grad_fn.name() == wanted.grad_fn.name()
    dy = torch.randn(wanted.shape, generator=g)
    grads, theirs = (torch.autograd.grad(y, (x, w, b), dy) for y in (got, wanted))
    assert all(map(torch.equal, grads, theirs))
    # Here the choice depends on densities, so that the call is sparsetrain's.
    ours = sparsetrain.conv2d(
        torch.randn(8, 64, 16, 16), torch.randn(64, 64, 3, 3).requires_grad_()
    )
    assert ours.grad_fn.name() != wanted.grad_fn.name()

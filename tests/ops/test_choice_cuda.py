"""Laws of `auto` on CUDA that need no GPU: the pure function and its cost table."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import sparsetrain
from sparsetrain._native import _C, PASSES

GPU = "9.0"
SHAPE = ((8, 64, 32, 32), (64, 64, 3, 3), 1, 1)


@pytest.fixture(autouse=True)
def own_costs():
    """Starts and ends with the table that ships."""
    sparsetrain.set_costs(None)
    yield
    sparsetrain.set_costs(None)


def priced(precision="fp32", gpu=GPU, **units):
    """The table that ships with these costs of one GPU in one precision, all others 0."""
    costs = dict.fromkeys(_C.CUDA_UNITS, 0.0) | units
    passes = {name: dict(costs) for name in PASSES}
    return {**sparsetrain.costs(), "cuda": {gpu: {precision: passes}}}


def explained(density=1.0, shape=SHAPE, gpu=GPU, tf32=False, **options):
    """What explain() answers for the three passes."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
        said = sparsetrain.explain(
            *shape, input_density=density, grad_density=density, device="cuda", architecture=gpu,
            **options,
        )  # fmt: skip
    return list(vars(said).values())


def test_no_costs_ship_and_a_gpu_without_costs_runs_dense():
    assert sparsetrain.costs()["cuda"] == {}
    sparsetrain.set_costs(priced(dense_mac_ns=1.0))
    for options in ({"gpu": "8.6"}, {"tf32": True}, {"dtype": torch.bfloat16}):
        for choice in explained(0.01, **options):
            assert choice.backend == "dense" and math.isnan(choice.dense_ms + choice.sparse_ms)
            assert choice.reason == "this kind of GPU was not timed in this precision"
    assert {choice.backend for choice in explained(0.01)} == {"sparse"}


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("fp32", {}),
        ("tf32", {"tf32": True}),
        ("bf16", {"dtype": torch.bfloat16}),
        ("fp16", {"dtype": torch.float16}),
        ("fp64", {"dtype": torch.float64}),
    ],
)
def test_costs_depend_on_the_precision_of_the_dense_convolution(precision, options):
    sparsetrain.set_costs(priced(precision, dense_call_ns=2e6))
    assert {choice.dense_ms for choice in explained(**options)} == {2.0}


def test_predicted_times_are_counts_times_costs():
    # 8 x 32 x 32 output pixels are 128 tiles of 64 rows and 1,024 groups of 8, for 64 columns of
    # 256, at 9 x 64 depths in 9 x 2 tiles of 32; grad_weight has 64 rows, 9 x 64 columns of 256 in
    # 3 tiles, and 8,192 depths in 256. At density 1 every group loads and every row multiplies.
    wanted = {
        "dense_mac_ns": (8192 * 64 * 64 * 9,) * 3,
        "dense_element_ns": (2 * 8192 * 64 + 64 * 64 * 9,) * 3,
        "dense_call_ns": (1,) * 3,
        "tile_ns": (128 * 18, 128 * 18, 3 * 256),
        "load_ns": (1024 * 576, 1024 * 576, 8 * 3 * 8192),
        "nonzero_ns": (8192 * 576, 8192 * 576, 64 * 3 * 8192),
        "element_ns": (2 * 8192 * 64 + 64 * 64 * 9,) * 3,
        "call_ns": (1,) * 3,
    }
    assert tuple(wanted) == _C.CUDA_UNITS
    for unit, counts in wanted.items():
        sparsetrain.set_costs(priced(**{unit: 1e6}))
        for choice, count in zip(explained(1.0), counts, strict=True):
            dense = unit.startswith("dense")
            assert (choice.dense_ms, choice.sparse_ms) == ((count, 0) if dense else (0, count))


def bytes_of(matrix, column_tiles):
    """Loads and products of a mask [rows, depth]: nonzero bytes of eight rows, nonzero bits."""
    rows = F.pad(matrix, (0, 0, 0, -len(matrix) % 8))
    loads = rows.reshape(-1, 8, rows.shape[1]).any(1).sum()
    return column_tiles * loads.item(), column_tiles * matrix.sum().item()


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 1.0])
def test_counts_are_those_of_a_random_mask(stride, density):
    """Counts the matrices that the kernels multiply, made by torch, within 8 %.

    Without padding only the border of grad_input, 2 of 64 pixels at either end, is never counted.
    """
    n, c, size, k = 2, 24, 64, 300
    g = torch.Generator().manual_seed(0)
    shape = _C.ConvShape(n, c, size, size, k, 3, 3, *stride)
    p, q = shape.P, shape.Q
    mask = torch.rand(n, c, size, size, generator=g) < density
    rows = F.unfold(mask.float(), 3, stride=stride).transpose(1, 2).reshape(n * p * q, -1) != 0
    expected = {"forward": bytes_of(rows, 2)}  # 300 columns of 256
    dy = torch.rand(n, 40, p, q, generator=g) < density  # of 40 channels, or it takes a while
    stretched = torch.zeros(n, 40, size + 2, size + 2)
    stretched[:, :, 2 : 2 + p * stride[0] : stride[0], 2 : 2 + q * stride[1] : stride[1]] = dy
    rows = F.unfold(stretched, 3).transpose(1, 2).reshape(n * size * size, -1) != 0
    narrow = _C.ConvShape(n, c, size, size, 40, 3, 3, *stride)
    expected["grad_input"] = bytes_of(rows, 1)
    expected["grad_weight"] = bytes_of(dy.transpose(0, 1).reshape(40, -1), 1)
    for name, (loads, nonzeros) in expected.items():
        work = _C.cuda_work(
            shape if name == "forward" else narrow,
            getattr(_C.Pass, name),
            _C.Precision.__members__["fp32"],
            density,
        )
        assert work.loads == pytest.approx(loads, rel=0.08)
        assert work.nonzeros == pytest.approx(nonzeros, rel=0.08)


shapes = st.tuples(*(st.integers(1, 70) for _ in range(3)), st.integers(5, 20), st.integers(1, 5))
prices = st.lists(st.floats(1e-3, 1e3), min_size=8, max_size=8)


@given(shapes, prices, st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(1, 3))
def test_more_nonzeros_never_make_a_call_sparse(shape, costs, densities, stride):
    n, c, k, size, kernel = shape
    sparsetrain.set_costs(priced(**dict(zip(_C.CUDA_UNITS, costs, strict=True))))
    sizes = ((n, c, size, size), (k, c, kernel, kernel), stride)
    rows = [explained(d, sizes) for d in sorted(densities)]
    for before, after in itertools.pairwise(rows):
        for one, two in zip(before, after, strict=True):
            assert one.sparse_ms <= two.sparse_ms * (1 + 1e-12) and one.dense_ms == two.dense_ms
            assert (one.backend, two.backend) != ("dense", "sparse")
    for choice in rows[-1]:
        assert choice.backend == "dense" or choice.sparse_ms < 0.85 * choice.dense_ms


def test_calls_that_are_slow_at_density_001_are_dense_at_any_density():
    """No pruned gradient is sparser, so that even a density of 0 changes nothing."""
    sparsetrain.set_costs(priced(dense_call_ns=1.0, call_ns=0.9))
    for density in (0.0, 0.5):
        for choice in explained(density):
            assert choice.backend == "dense"
            assert choice.reason == "the predicted gain of sparse is below 15 % at any density"
    sparsetrain.set_costs(priced(dense_call_ns=1.0, call_ns=0.8))
    assert {choice.backend for choice in explained(1.0)} == {"sparse"}


def choose(density, deterministic=False, precision="fp32"):
    """choose_on_cuda() for the forward of SHAPE without padding."""
    return _C.choose_on_cuda(
        _C.ConvShape(8, 64, 32, 32, 64, 3, 3), _C.Pass.forward, density, density,
        _C.Backend.__members__["auto"], 90, _C.Precision.__members__[precision], deterministic,
    )  # fmt: skip


@pytest.mark.parametrize("unknown", [math.nan, -1.0, 2.0, math.inf])
def test_an_unknown_density_counts_as_1(unknown):
    sparsetrain.set_costs(priced(dense_mac_ns=1.0, nonzero_ns=1000.0))
    known = choose(0.01)
    assert known.backend.name == "sparse" and known.reason == "few nonzeros"
    choice = choose(unknown)
    assert choice.backend.name == "dense" and choice.reason == "no density is known yet"
    assert choice.sparse_ms == choose(1.0).sparse_ms
    sparsetrain.set_costs(priced(dense_mac_ns=1.0, nonzero_ns=1.0))
    assert choose(unknown).backend.name == "sparse"  # without a single zero


def test_deterministic_choices_depend_on_shape_and_precision_alone():
    sparsetrain.set_costs(priced(dense_mac_ns=1.0, nonzero_ns=1000.0))
    choices = [choose(density, deterministic=True) for density in (0.0, 0.01, 1.0, math.nan)]
    assert {(c.backend.name, c.reason, c.sparse_ms) for c in choices} == {
        ("dense", "deterministic: no density is looked at", choose(1.0).sparse_ms)
    }
    assert choose(0.01).backend.name == "sparse"
    torch.use_deterministic_algorithms(True)
    try:
        assert {choice.backend for choice in explained(0.01)} == {"dense"}
    finally:
        torch.use_deterministic_algorithms(False)
    assert {choice.backend for choice in explained(0.01)} == {"sparse"}


def test_shapes_that_the_kernels_do_not_take_are_dense_whatever_they_cost():
    sparsetrain.set_costs(priced(dense_mac_ns=1.0))
    for batch, groups, reason in (
        (8, 2, "groups run dense on CUDA"),
        (2**22, 1, "too large for the CUDA kernels' indices"),
        (0, 1, "empty"),
    ):
        shape = ((batch, 64, 32, 32), (64, 64 // groups, 3, 3), 1, 1)
        for choice in explained(0.01, shape, groups=groups):
            assert (choice.backend, choice.reason) == ("dense", reason)
            assert math.isnan(choice.sparse_ms)
    for backend in ("sparse", "dense"):
        assert {(c.backend, c.reason) for c in explained(backend=backend)} == {
            (backend, "asked for")
        }


def test_a_table_may_lack_gpus():
    old = sparsetrain.costs()
    sparsetrain.set_costs(priced())
    del old["cuda"]
    sparsetrain.set_costs(old)
    assert sparsetrain.costs() == {**old, "cuda": {}}
    table = priced(dense_mac_ns=0.5) | {}
    table["cuda"]["12.0"] = copy.deepcopy(table["cuda"][GPU])
    sparsetrain.set_costs(table)
    assert sparsetrain.costs() == table


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ([], 3, "expected cuda to be a dict by compute capability such as 9.0, got 3"),
        (["sm_90"], {}, "expected cuda to be a dict by compute capability .*, got .*'sm_90'"),
        ([GPU], 3, "expected cuda.9.0 to be a dict with some of fp64, fp32, .*, got 3"),
        ([GPU, "fp8"], {}, "expected cuda.9.0 to be a dict with some of .*, got .*'fp8'"),
        ([GPU, "fp32"], {}, "expected cuda.9.0.fp32 to be a dict with forward, .*, got"),
        ([GPU, "fp32", "forward"], {}, "expected cuda.9.0.fp32.forward to be a dict with call_ns"),
        ([GPU, "fp32", "forward", "tile_ns"], -1, "fp32.forward.tile_ns to be a finite .*, got -1"),
    ],
)
def test_refusals_of_tables(path, value, message):
    table = priced()
    inner, key = table, "cuda"
    for name in path:
        inner, key = inner[key], name
    inner[key] = value
    with pytest.raises(ValueError, match=f"sparsetrain.set_costs: .*{message}"):
        sparsetrain.set_costs(table)
    assert sparsetrain.costs()["cuda"] == {}


@pytest.mark.parametrize("name", ["", "9", "sm_90", "9.0.1", "90"])
def test_explain_refuses_other_strings_as_architectures(name):
    with pytest.raises(ValueError, match="explain: expected architecture to be a compute capab"):
        explained(gpu=name)


def test_a_pruning_state_brings_the_costs_of_its_gpu_along():
    """Costs of GPUs are also taken from a table of another instruction set."""
    model = sparsetrain.convert(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)))
    shipped = sparsetrain.costs()
    tuned = priced(dense_mac_ns=0.25)
    sparsetrain.set_costs(tuned)
    state = sparsetrain.pruning_state(model)
    for isa in (tuned["isa"], "vax"):
        sparsetrain.set_costs(None)
        sparsetrain.load_pruning_state(model, {**state, "costs": {**tuned, "isa": isa}})
        assert sparsetrain.costs() == tuned
    del tuned["cuda"]  # of an older version
    sparsetrain.load_pruning_state(model, {**state, "costs": tuned})
    assert sparsetrain.costs() == shipped

"""Laws of `conv2d`: it equals PyTorch's for every argument, backend, data type and layout."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import sparsetrain
from sparsetrain import ops, testing

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


@st.composite
def drawn_cases(draw):
    """Small convolutions with every argument, odd sizes and sometimes an empty batch."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    zeros = st.tuples(st.integers(0, 4), st.integers(0, 4))
    padding = draw(st.one_of(zeros, st.sampled_from(["same", "valid"])))
    stride = (1, 1) if padding == "same" else draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    per_group = draw(st.integers(1, 5))
    window = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    image = [w + draw(st.integers(0, 9)) for w in window]
    batch = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    return testing.ConvCase(
        name="drawn",
        input_shape=(*batch, groups * per_group, *image),
        weight_shape=(groups * draw(st.integers(1, 5)), per_group, *kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
    )


def convolution(case, backend):
    def convolve(x, w, b):
        return sparsetrain.conv2d(x, w, b, **case.geometry, backend=backend)

    return convolve


@pytest.mark.parametrize("memory_format", testing.MEMORY_FORMATS)
@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("case", testing.CASES, ids=lambda case: case.name)
def test_sparse_passes_equal_float64(case, dtype, memory_format):
    convolve = convolution(case, "sparse")
    assert testing.mismatches(convolve, case, dtype, memory_format=memory_format) == []


@pytest.mark.parametrize("dtype", testing.DTYPES)
@given(
    case=drawn_cases(),
    memory_format=st.sampled_from(testing.MEMORY_FORMATS),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_sparse_passes_of_drawn_cases_equal_float64(dtype, case, memory_format, density, seed):
    options = {"memory_format": memory_format, "seed": seed}
    options |= {"input_density": density, "grad_density": density}
    assert testing.mismatches(convolution(case, "sparse"), case, dtype, **options) == []


@pytest.mark.parametrize("backend", ["auto", "dense"])
@given(case=drawn_cases(), memory_format=st.sampled_from(testing.MEMORY_FORMATS))
@settings(max_examples=40)
def test_every_backend_has_the_values_and_the_memory_format_of_pytorch(
    backend, case, memory_format
):
    """Values within 1e-4: oneDNN may use algorithms whose error the bound does not cover."""
    x, w, b, _ = case.operands(torch.float32, memory_format=memory_format)
    y = sparsetrain.conv2d(x, w, b, **case.geometry, backend=backend)
    theirs = F.conv2d(x, w, b, **case.geometry)
    torch.testing.assert_close(y, theirs, rtol=1e-4, atol=1e-4)
    if x.dim() == 4 and y.numel() > 0:
        for layout in testing.MEMORY_FORMATS:
            ours_has = y.is_contiguous(memory_format=layout)
            assert ours_has == theirs.is_contiguous(memory_format=layout)


def test_the_backward_computes_only_the_requested_gradients():
    x, w, dy = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3), torch.randn(2, 4, 6, 6)
    for backend in ops.CPU_BACKENDS:
        run = torch.ops.sparsetrain.conv2d_backward
        arguments = (dy, x, w, (1, 1), (1, 1), (1, 1), 1)
        everything = run(*arguments, [True, True, True], backend)
        for i in range(3):
            mask = [i == 0, i == 1, i == 2]
            requested = run(*arguments, mask, backend)
            for j in range(3):
                expected = everything[j] if mask[j] else torch.empty(0)
                torch.testing.assert_close(requested[j], expected)


@pytest.mark.parametrize("shape", [(1, 2, 5, 5), (2, 5, 5)])
def test_first_and_second_derivatives(shape):
    g = torch.Generator().manual_seed(0)

    def leaf(*size):
        return torch.randn(size, generator=g, dtype=torch.float64).requires_grad_()

    operands = (leaf(*shape), leaf(3, 2, 3, 3), leaf(3))
    for backend in ("sparse", "dense"):

        def convolve(x, w, b, backend=backend):
            return sparsetrain.conv2d(x, w, b, 2, 1, backend=backend)

        assert torch.autograd.gradcheck(convolve, operands)
        assert torch.autograd.gradgradcheck(convolve, operands)


def test_a_skipped_zero_contributes_0_even_against_infinity_and_nan():
    x, w = torch.zeros(1, 1, 3, 3), torch.full((1, 1, 3, 3), float("inf"))
    w[0, 0, 1, 1] = float("nan")
    y = sparsetrain.conv2d(x, w, padding=1, backend="sparse")
    assert torch.equal(y, torch.zeros_like(y))


def test_results_do_not_depend_on_the_number_of_threads():
    x, w = torch.randn(4, 8, 20, 20).relu(), torch.randn(16, 8, 3, 3)
    dy = torch.randn(4, 16, 20, 20) * (torch.rand(4, 16, 20, 20) < 0.2)
    arguments = (x, w, (1, 1), (1, 1), (1, 1), 1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            y = sparsetrain.conv2d(x, w, padding=1, backend="sparse")
            run = torch.ops.sparsetrain.conv2d_backward
            results.append((y, *run(dy, *arguments, [True, True, True], "sparse")))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_autocast_computes_in_the_lower_precision():
    x, w = torch.randn(1, 3, 6, 6), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = sparsetrain.conv2d(x, w, backend="sparse")
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert w.grad.dtype == torch.float32


def test_explain_agrees_with_a_forced_backend_and_orders_auto_by_density():
    shapes = ((8, 64, 32, 32), (64, 64, 3, 3))
    for backend in ("sparse", "dense"):
        chosen = sparsetrain.explain(*shapes, padding=1, backend=backend)
        assert {chosen.forward.backend, chosen.grad_input.backend} == {backend}
    empty = sparsetrain.explain(*shapes, padding=1, grad_density=0.0)
    full = sparsetrain.explain(*shapes, padding="same", grad_density=1.0)
    assert empty.grad_weight.backend == "sparse"
    assert full.grad_weight.backend == "dense"
    for choice in (empty.grad_input, full.grad_input):
        assert (choice.sparse_ms < choice.dense_ms) == (choice.backend == "sparse")
    assert "grad_weight sparse" in str(empty)


def operator(x, w, bias=None, **geometry):
    """Calls the C++ operator, which takes pairs instead of single integers."""
    pairs = {name: [v, v] if name != "groups" else v for name, v in geometry.items()}
    return torch.ops.sparsetrain.conv2d(x, w, bias, **pairs)


X, W = torch.zeros(1, 4, 5, 5), torch.zeros(6, 4, 3, 3)
NOT_ON_THE_CPU = r"expected backend to be one of .* on the CPU, got 'cusparse'. It is for CUDA ten"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f(X[0, 0], W), ValueError, r"input to be \[N, C, H, W\] or .* got \[5, 5\]"),
        (lambda f: f(X, W[0]), ValueError, r"weight to be \[K, C/groups, R, S\], got \[4, 3, 3\]"),
        (lambda f: f(X.int(), W.int()), TypeError, r"input to be float32, .* got Int"),
        (lambda f: f(X, W.double()), TypeError, r"weight to be Float like input, got Double"),
        (lambda f: f(X, W.to("meta")), ValueError, r"weight to be on cpu like input, got meta"),
        (
            lambda f: f(X, W, stride=-1),
            ValueError,
            r"stride to be two .* least 1 .* got \[-1, -1\]",
        ),
        (lambda f: f(X, W, stride=0), ValueError, r"stride to be two integers .* got \[0, 0\]"),
        (lambda f: f(X, W, padding=-1), ValueError, r"padding to be two .* 0 .* got \[-1, -1\]"),
        (lambda f: f(X, W, dilation=0), ValueError, r"dilation to be two .* got \[0, 0\]"),
        (lambda f: f(X, W, groups=0), ValueError, r"groups to be at least 1, got 0"),
        (
            lambda f: f(X, W, groups=3),
            ValueError,
            r"groups to be a divisor of the 4 input .* got 3",
        ),
        (
            lambda f: f(X, W[:5, :2], groups=2),
            ValueError,
            r"groups to be a divisor of the 5 output .* 2",
        ),
        (
            lambda f: f(X, W[:, :3]),
            ValueError,
            r"weight to be \[K, 4, R, S\] .* got \[6, 3, 3, 3\]",
        ),
        (lambda f: f(X, W[:0]), ValueError, r"weight to be without an empty dimension, got \[0,"),
        (lambda f: f(X[..., :2], W), ValueError, r"the width of input to be at least .* 3 after"),
        (lambda f: f(X[:, :, :0], W), ValueError, r"the height of input to be at least .* got 0"),
        (lambda f: f(X, W, W[0]), ValueError, r"bias to be \[6\], got \[4, 3, 3\]"),
        (lambda f: f(X, W, W[:, 0, 0, 0].double()), TypeError, r"bias to be Float like input"),
        (lambda f: f(X, W, W[:, 0, 0, 0].to("meta")), ValueError, r"bias to be on cpu like input"),
    ],
)
def test_the_operator_refuses_bad_arguments(call, error, message):
    with pytest.raises(error, match=r"sparsetrain::conv2d: expected " + message):
        call(operator)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparsetrain.conv2d(X, W, backend="fast"), r"\.conv2d: expected backend .*'fast'"),
        (lambda: sparsetrain.conv2d(X, W, padding="full"), r"padding to be 'same'.* got 'full'"),
        (
            lambda: sparsetrain.conv2d(X, W, stride=(1, 1, 1)),
            r"one integer or two, got \(1, 1, 1\)",
        ),
        (lambda: sparsetrain.conv2d(X, W, stride=2, padding="same"), r"stride to be 1 for padding"),
        (lambda: sparsetrain.explain(X.shape, W.shape, input_density=2.0), r"in \[0, 1\], got 2.0"),
        (lambda: sparsetrain.conv2d(X, W, stride=(1.5, 1)), r"one integer or two, got \(1.5, 1\)"),
        (lambda: sparsetrain.conv2d(X[0, 0], W), r"input to have 3 or 4 dimensions, got \[5, 5\]"),
        (
            lambda: sparsetrain.conv2d(X, W[0], padding="same"),
            r"weight to have 4 dim.* \[4, 3, 3\]",
        ),
        (lambda: sparsetrain.explain((1, -2, 3, 3), W.shape), r"input_shape to be integers of at"),
        (
            lambda: sparsetrain.explain(X.shape, (4, 4)),
            r"weight_shape to have 4 dim.* got \[4, 4\]",
        ),
        (lambda: sparsetrain.explain(X.shape, W.shape, backend="x"), r"explain: expected backend"),
        (
            lambda: torch.ops.sparsetrain.conv2d(X, W, backend="x"),
            r"sparsetrain::conv2d: expected backend to be one of 'auto', 'sparse', .* got 'x'",
        ),
        (
            lambda: sparsetrain.conv2d(X, W, groups=2**63),
            r"groups to be an integer below 2\^63, got",
        ),
        (lambda: sparsetrain.conv2d(X, W, backend="cusparse"), "::conv2d: " + NOT_ON_THE_CPU),
        (
            # A call that would otherwise run PyTorch's own convolution.
            lambda: sparsetrain.conv2d(torch.cat((X, X)), W, backend="cusparse"),
            "::conv2d: " + NOT_ON_THE_CPU,
        ),
        (
            lambda: torch.ops.sparsetrain.conv2d_backward(
                torch.ones(1, 6, 3, 3), X, W, (1, 1), (0, 0), (1, 1), 1, [True] * 3, "cusparse"
            ),
            "::conv2d_backward: " + NOT_ON_THE_CPU,
        ),
        (
            lambda: sparsetrain.explain(X.shape, W.shape, backend="cusparse"),
            r"\.explain: expected device to be 'cuda' for backend 'cusparse', got 'cpu'",
        ),
    ],
)
def test_bad_values_raise_value_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparsetrain.conv2d([1.0], W), r"conv2d: expected input to be a tensor, got list"),
        (lambda: sparsetrain.conv2d(X.to_sparse(), W), r"input to be a dense .* torch.sparse_coo"),
        (lambda: sparsetrain.conv2d(X, W, 3.0), r"bias to be a tensor, got float"),
        (lambda: sparsetrain.conv2d(X, W, groups=1.5), r"groups to be an integer, got 1.5"),
        (lambda: sparsetrain.conv2d(X, W, check_finite="no"), r"finite to be a bool, got 'no'$"),
        (lambda: sparsetrain.conv2d(X, W, grad_density=0.5), r"y to be a tensor, got float$"),
        (
            lambda: sparsetrain.conv2d(X, W, input_density=torch.tensor(0.5).double().to_sparse()),
            r"input_density to be a dense .* got torch.sparse_coo$",
        ),
        (lambda: sparsetrain.prune([1.0], 1.0, seed=0), r"prune: expected grad to be a tensor"),
        (lambda: sparsetrain.prune(X, "a", seed=0), r"threshold to be a number, got 'a'"),
        (lambda: sparsetrain.prune(X, 1.0, seed=1.5), r"seed to be an integer, got 1.5"),
    ],
)
def test_bad_types_raise_type_errors(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_unknown_instruction_sets_are_refused_at_import():
    command = [sys.executable, "-c", "import sparsetrain"]
    environment = {**os.environ, "SPARSETRAIN_ISA": "sse"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    expected = "expected SPARSETRAIN_ISA to be scalar, avx2 or avx512, got 'sse'"
    assert done.returncode == 1 and expected in done.stderr


@pytest.mark.parametrize(
    "correction", ["os.environ['SPARSETRAIN_ISA'] = 'scalar'", "del os.environ['SPARSETRAIN_ISA']"]
)
def test_an_unknown_instruction_set_can_be_corrected_in_the_process(correction):
    """The setting is read once per process, except after a refused import."""
    program = f"""
import os
try:
    import sparsetrain
except ValueError:
    {correction}
    import sparsetrain
    import torch
    sparsetrain.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), backend="sparse")
    print(sparsetrain._native._C.isa())
"""
    environment = {**os.environ, "SPARSETRAIN_ISA": "sse"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in ("scalar", "avx2", "avx512")


def test_explain_describes_the_padded_input_of_same():
    """padding="same" with an even kernel pads one more zero after each dimension."""
    same = sparsetrain.explain((1, 4, 8, 8), (4, 4, 2, 2), padding="same")
    assert same == sparsetrain.explain((1, 4, 9, 9), (4, 4, 2, 2))


@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        (
            torch.zeros(1, 6, 3, 4),
            ValueError,
            r"grad_output to be \[1, 6, 3, 3\], got \[1, 6, 3, 4\]",
        ),
        (torch.zeros(1, 6, 3, 3).double(), TypeError, r"grad_output to be Float like input"),
        (
            torch.zeros(1, 6, 3, 3, device="meta"),
            ValueError,
            r"grad_output to be on cpu like input",
        ),
    ],
)
def test_the_backward_refuses_a_bad_grad_output(dy, error, message):
    with pytest.raises(error, match=r"sparsetrain::conv2d_backward: expected " + message):
        torch.ops.sparsetrain.conv2d_backward(
            dy, X, W, (1, 1), (0, 0), (1, 1), 1, [True, True, True], "sparse"
        )

"""Laws of Inf and NaN in a convolution, with and without check_finite."""

import math

import pytest
import torch
from torch import nn

import sparsetrain
from sparsetrain import testing

CASE = testing.ConvCase("3x3", (2, 16, 6, 6), (16, 16, 3, 3), padding=1)


def operands(dtype, memory_format=torch.contiguous_format):
    return CASE.operands(dtype, grad_density=0.5, memory_format=memory_format)


def three_passes(tensors, **options):
    def convolve(x, w, b):
        return sparsetrain.conv2d(x, w, b, **CASE.geometry, **options)

    return testing.three_passes(convolve, tensors)[:3]


def equal(a, b):
    return all(torch.equal(s.isnan(), t.isnan()) for s, t in zip(a, b, strict=True)) and all(
        torch.equal(s.nan_to_num(), t.nan_to_num()) for s, t in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("memory_format", testing.MEMORY_FORMATS)
@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("which", ["input", "weight", "grad_output"])
def test_checked_calls_with_a_non_finite_operand_run_dense(which, poison, dtype, memory_format):
    """Passes that read the Inf or NaN equal the dense ones; a forward reads x and w only."""
    tensors = operands(dtype, memory_format)
    getattr(tensors, which)[1, 3, 2, 1] = poison
    checked = three_passes(tensors, backend="sparse", check_finite=True)
    dense = three_passes(tensors, backend="dense")
    sparse = three_passes(tensors, backend="sparse")
    assert equal(checked[1:], dense[1:])
    assert equal(checked[:1], sparse[:1] if which == "grad_output" else dense[:1])
    if which != "grad_output":  # without the check, skipped zeros keep some results finite
        counts = [sum(int((~t.isfinite()).sum()) for t in results) for results in (sparse, dense)]
        assert counts[0] < counts[1]


def test_taps_that_only_meet_padding_equal_pytorch_for_a_non_finite_gradient():
    """The outer rows of taps only meet padding, where PyTorch computes Inf * 0 = NaN."""
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(s, generator=g) for s in ((3, 16, 2, 17), (16, 16, 3, 3)))
    dy = torch.randn(3, 16, 2, 17, generator=g)
    dy[1, 2, 1, 3] = math.inf
    results = []
    for convolve, options in (
        (sparsetrain.conv2d, {"backend": "sparse", "check_finite": True}),
        (sparsetrain.conv2d, {"backend": "dense"}),
        (nn.functional.conv2d, {}),
    ):
        weight = w.clone().requires_grad_()
        convolve(x, weight, padding=(3, 1), dilation=(3, 1), **options).backward(dy)
        results.append([weight.grad])
    assert equal(results[0], results[1]) and equal(results[1], results[2])
    assert results[0][0][2, :, 0].isnan().any()


@pytest.mark.parametrize("dtype", testing.DTYPES)
def test_checked_calls_with_finite_operands_run_the_requested_backend(dtype):
    tensors = operands(dtype)
    tensors.input[0, 0, 0, 0] = torch.finfo(dtype).max  # huge but finite
    checked = three_passes(tensors, backend="sparse", check_finite=True)
    assert equal(checked, three_passes(tensors, backend="sparse"))


def test_an_empty_batch_is_finite():
    y = sparsetrain.conv2d(torch.empty(0, 4, 5, 5), torch.ones(2, 4, 3, 3), check_finite=True)
    assert y.shape == (0, 2, 3, 3)


@pytest.mark.parametrize("checked", [False, True])
def test_layers_pass_check_finite_to_the_operator(checked):
    x = torch.zeros(1, 4, 5, 5)
    layer = sparsetrain.SparseConv2d(4, 4, 3, bias=False, backend="sparse", check_finite=checked)
    model = sparsetrain.convert(
        nn.Sequential(nn.Conv2d(4, 4, 3, bias=False)), backend="sparse", check_finite=checked
    )
    for module in (layer, model):
        with torch.no_grad():
            next(module.parameters()).fill_(math.inf)
        assert module(x).isnan().all() == checked


def test_revert_removes_check_finite():
    model = nn.Sequential(nn.Conv2d(4, 4, 3))
    before = set(model[0].__dict__)
    sparsetrain.revert(sparsetrain.convert(model, check_finite=True))
    assert set(model[0].__dict__) == before

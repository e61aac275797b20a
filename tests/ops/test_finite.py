"""Laws of Inf and NaN in a convolution, with and without check_finite."""

import math

import pytest
import torch
from torch import nn

import sparsetrain

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def operands(dtype, memory_format=torch.contiguous_format):
    """x [2,16,6,6] and dy [2,16,6,6], half of each zero, and w [16,16,3,3]."""
    g = torch.Generator().manual_seed(0)
    x, w, dy = (torch.randn(s, generator=g) for s in ((2, 16, 6, 6), (16, 16, 3, 3), (2, 16, 6, 6)))
    return [
        t.to(dtype).contiguous(memory_format=memory_format)
        for t in (x.relu(), w, dy * (dy > 0).float())
    ]


def three_passes(x, w, dy, **arguments):
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = sparsetrain.conv2d(x, w, padding=1, **arguments)
    y.backward(dy)
    return y.detach(), x.grad, w.grad


def equal(a, b):
    return all(torch.equal(s.isnan(), t.isnan()) for s, t in zip(a, b, strict=True)) and all(
        torch.equal(s.nan_to_num(), t.nan_to_num()) for s, t in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_checked_calls_with_a_non_finite_operand_run_dense(which, poison, dtype, memory_format):
    """Passes that read the Inf or NaN equal the dense ones; a forward reads x and w only."""
    tensors = operands(dtype, memory_format)
    tensors[which][1, 3, 2, 1] = poison
    checked = three_passes(*tensors, backend="sparse", check_finite=True)
    dense = three_passes(*tensors, backend="dense")
    sparse = three_passes(*tensors, backend="sparse")
    assert equal(checked[1:], dense[1:])
    assert equal(checked[:1], sparse[:1] if which == 2 else dense[:1])
    if which != 2:  # without the check, skipped zeros keep some results finite
        reached = [sum(int((~t.isfinite()).sum()) for t in results) for results in (sparse, dense)]
        assert reached[0] < reached[1]


def test_taps_that_only_meet_padding_equal_pytorch_for_a_non_finite_gradient():
    """The outer rows of taps only meet padding, where PyTorch computes Inf * 0 = NaN."""
    g = torch.Generator().manual_seed(0)
    x, w = (torch.randn(s, generator=g) for s in ((3, 16, 2, 17), (16, 16, 3, 3)))
    dy = torch.randn(3, 16, 2, 17, generator=g)
    dy[1, 2, 1, 3] = math.inf
    results = []
    for convolve, how in (
        (sparsetrain.conv2d, {"backend": "sparse", "check_finite": True}),
        (sparsetrain.conv2d, {"backend": "dense"}),
        (nn.functional.conv2d, {}),
    ):
        weight = w.clone().requires_grad_()
        convolve(x, weight, padding=(3, 1), dilation=(3, 1), **how).backward(dy)
        results.append([weight.grad])
    assert equal(results[0], results[1]) and equal(results[1], results[2])
    assert results[0][0][2, :, 0].isnan().any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_checked_calls_with_finite_operands_run_the_requested_backend(dtype):
    tensors = operands(dtype)
    tensors[0][0, 0, 0, 0] = torch.finfo(dtype).max  # huge but finite
    checked = three_passes(*tensors, backend="sparse", check_finite=True)
    assert equal(checked, three_passes(*tensors, backend="sparse"))


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

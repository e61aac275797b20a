"""The oracle of sparsetrain.testing accepts PyTorch's convolution and finds planted faults."""

import pytest
import torch
from torch.nn import functional as F

from sparsetrain import testing

CASE = testing.CASES[0]


def exact(dtype):
    """A convolution in float64 whose result is rounded once: it must pass."""

    def convolve(x, w, b):
        return F.conv2d(x.double(), w.double(), None, **CASE.geometry).to(dtype)

    return convolve


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", testing.CASES, ids=lambda case: case.name)
def test_pytorch_in_float64_passes(case):
    def convolve(x, w, b):
        return F.conv2d(x, w, b, **case.geometry)

    assert testing.mismatches(convolve, case, torch.float64) == []


@pytest.mark.parametrize("dtype", testing.DTYPES)
def test_an_exact_result_that_is_rounded_once_passes(dtype):
    assert testing.mismatches(exact(dtype), CASE, dtype) == []


@pytest.mark.parametrize("dtype", testing.DTYPES)
def test_one_missing_product_in_each_result_is_found(dtype):
    """Zeroes the middle tap for the first output channel, as a kernel that skips one tap would."""

    def convolve(x, w, b):
        mask = torch.ones_like(w)
        mask[0, 0, 1, 1] = 0
        return exact(dtype)(x, w * mask, b)

    found = testing.mismatches(convolve, CASE, dtype)
    assert [sentence.split(" of ")[0] for sentence in found] == ["y", "grad_input", "grad_weight"]


def test_sums_in_bfloat16_are_found():
    """Rounding each of eight partial sums to bfloat16 exceeds the bound of float32 sums."""

    def convolve(x, w, b):
        parts = [
            exact(x.dtype)(p, q, None) for p, q in zip(x.chunk(8, 1), w.chunk(8, 1), strict=True)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = (total + part).to(torch.bfloat16)
        return total

    assert testing.mismatches(convolve, CASE, torch.bfloat16)


def test_a_wrong_shape_is_named():
    value = torch.zeros(2, 3, dtype=torch.float64)
    result = testing.Exact(value, value, 1)
    assert result.mismatch(torch.zeros(3, 2)) == "shape (3, 2), expected (2, 3)"


def test_an_infinite_result_is_wrong():
    value = torch.ones(2, dtype=torch.float64)
    result = testing.Exact(value, value, 1)
    assert "1 of 2 elements wrong, at (1,)" in result.mismatch(torch.tensor([1.0, float("inf")]))

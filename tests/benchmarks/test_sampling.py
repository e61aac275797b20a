"""benchmarks/sampling.py: samples of a fixed size, unbiased gradients, and the table."""

import importlib

import pytest
import torch
from helpers.paths import BENCHMARKS
from torch import nn

DRAWS = 4000


@pytest.fixture
def sampling(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("sampling")


def test_probabilities_follow_the_norms_and_are_at_most_1(sampling):
    """3 of the norms 10, 1, 1, 0, 2: 10 is certain, the others share 2 in the ratio 1 : 1 : 2."""
    norms = torch.tensor([10.0, 1, 1, 0, 2], dtype=torch.float64)
    assert sampling.inclusion(norms, 3).tolist() == [1, 0.5, 0.5, 0, 1]
    assert sampling.inclusion(norms, 5).tolist() == [1, 1, 1, 0, 1]
    assert sampling.inclusion(torch.zeros(4, dtype=torch.float64), 2).tolist() == [0] * 4


def test_samples_have_a_fixed_size_and_the_given_probabilities(sampling):
    """A correct frequency is off by more than 5 standard errors once in 1.7 million tests."""
    generator = torch.Generator().manual_seed(1)
    norms = torch.randn(200, generator=generator, dtype=torch.float64).exp()
    chances = sampling.inclusion(norms, 32)
    assert 0 < (chances == 1).sum() < 32 and chances.sum().item() == pytest.approx(32)
    drawn = torch.stack([sampling.sample(norms, 32, generator) for _ in range(DRAWS)])
    assert set(drawn.count_nonzero(1).tolist()) == {32}
    weights = (1 / chances).expand_as(drawn)
    assert torch.equal(drawn, torch.where(drawn > 0, weights, 0))
    error = (chances * (1 - chances) / DRAWS).sqrt()
    assert (((drawn > 0).double().mean(0) - chances).abs() <= 5 * error + 1e-12).all()


@pytest.mark.parametrize(("variant", "input_is_exact"), [("pixels", False), ("weight", True)])
def test_gradients_are_unbiased(sampling, variant, input_is_exact):
    """The mean over draws of every element is within 6 standard errors, for a strided layer."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 3, 9, 9, generator=generator)
    dy = torch.randn(2, 4, 5, 5, generator=generator)
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 3, 2, 1, bias=False))
    conv = model[1]

    def gradients():
        inputs = x.clone().requires_grad_()
        conv.weight.grad = None
        conv(inputs).backward(dy)
        return inputs.grad.clone(), conv.weight.grad.clone()

    exact_gradients = gradients()
    sampling.sampled(model, 0, {variant: 0.3})
    drawn = [gradients() for _ in range(DRAWS // 4)]
    for i, exact in enumerate(exact_gradients):
        draws = torch.stack([pair[i] for pair in drawn]).double()
        standard_error = draws.std(0) / len(drawn) ** 0.5
        error = (draws.mean(0) - exact.double()).abs()
        assert (error <= 6 * standard_error + 1e-5).all()
        is_weight = i == 1
        assert (standard_error.max() > 0) == (is_weight or not input_is_exact)


def test_the_table_has_means_standard_errors_and_paired_differences(sampling):
    """Dense 80 and 82, the variant 79 and 83: means 81 +- 1 and 81 +- 2, differences -1 and 1.

    The mean difference is 0 and its standard error 1. Student's 97.5% quantile of one degree of
    freedom is 12.71. Noise of other data (b) is ignored.
    """
    run = {"data": "a", "images": 1000, "epochs": 2}
    lines = [
        {"data": "a", "variant": "pixels .32", "noise": [0.5, 0.2, 1.25]},
        {"data": "b", "variant": "pixels .32", "noise": [7.0]},
    ]
    for seed, dense, other in ((0, 0.8, 0.79), (1, 0.82, 0.83)):
        lines.append({"variant": "pixels .32", **run, "seed": seed, "accuracy": other})
        lines.append({"variant": "dense", **run, "seed": seed, "accuracy": dense})
    assert sampling.table(lines).splitlines()[2:] == [
        "| 1,000 x 2 | dense | - | 2 | 81.00 ± 1.00 | - |",
        "| 1,000 x 2 | pixels .32 | 0.50, 1.25 | 2 | 81.00 ± 2.00 | +0.00 (-12.71 to +12.71) |",
    ]

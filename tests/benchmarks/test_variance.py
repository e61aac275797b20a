"""benchmarks/variance.py: densities of distributions, errors of predicted thresholds."""

import importlib

import pytest
import torch
from helpers.paths import BENCHMARKS


@pytest.fixture
def variance(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("variance")


@pytest.mark.parametrize("t", [0.2, 1.0, 5.0])
def test_forms_predict_the_density_of_draws_of_their_distributions(variance, t):
    """min(1, |g| / t) lies in [0, 1], so 5 standard errors of a million draws are at most .0025."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1_000_000, generator=generator, dtype=torch.float64)
    measured = (normal.abs() * 3 / t).clamp(max=1).mean().item()
    mean = (normal.abs() * 3).mean().item()
    assert variance.normal_density(t, mean) == pytest.approx(measured, abs=0.0025)
    kept = torch.rand(1_000_000, generator=generator) < 0.4
    measured = ((normal * 1.5 - 0.7).exp() * kept / t).clamp(max=1).mean().item()
    predicted = variance.lognormal_density(t, -0.7, 1.5, 0.4)
    assert predicted == pytest.approx(measured, abs=0.0025)


def test_errors_of_thresholds_that_stay_constant_and_that_double_in_every_step(variance):
    """Constant ones have no error. Doubling ones are 2 and 4 times the last two thresholds."""

    class FakeJob:
        name = "fake"

        def __init__(self, growth):
            self.model = torch.nn.Sequential(variance.PruneGrad(0.9))
            self.growth = growth

        def train(self, steps):
            for step in range(steps):
                self.model[0].state[variance.ABS_SUM] = self.growth**step
                self.model[0].state[variance.ELEMENTS] = 1
                yield step

    for growth, errors in ((1.0, [0, 0]), (2.0, [1 / 2, 1 - (1 / 2 + 1 / 4) / 2])):
        rows = variance.thresholds(FakeJob(growth), 40, lambda: None)
        assert [row["median_error"] for row in rows[:2]] == pytest.approx(errors)
        assert [row["history"] for row in rows] == list(variance.HISTORIES)

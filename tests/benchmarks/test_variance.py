"""The forms of benchmarks/variance.py against draws of the distributions that they are of."""

import importlib

import pytest
import torch
from helpers.paths import BENCHMARKS


@pytest.fixture
def variance(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("variance")


@pytest.mark.parametrize("t", [0.2, 1.0, 5.0])
def test_forms_are_the_densities_of_their_distributions(variance, t):
    """A million draws: min(1, |g| / t) lies in [0, 1], so 5 standard errors are at most .0025."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1_000_000, generator=generator, dtype=torch.float64)
    met = (normal.abs() * 3 / t).clamp(max=1).mean().item()
    mean = (normal.abs() * 3).mean().item()
    assert variance.normal_density(t, mean) == pytest.approx(met, abs=0.0025)
    kept = torch.rand(1_000_000, generator=generator) < 0.4
    met = ((normal * 1.5 - 0.7).exp() * kept / t).clamp(max=1).mean().item()
    found = variance.lognormal_density(t, -0.7, 1.5, 0.4)
    assert found == pytest.approx(met, abs=0.0025)


def test_thresholds_that_never_change_are_predicted_exactly(variance, monkeypatch):
    """And those that double every step are predicted by half, or by less from further back."""

    class Fake:
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
        rows = variance.thresholds(Fake(growth), 40, lambda: None)
        assert [row["median_error"] for row in rows[:2]] == pytest.approx(errors)
        assert [row["history"] for row in rows] == list(variance.HISTORIES)

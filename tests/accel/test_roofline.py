"""The roofline's limits, and the fact that no pass of a chip is above them."""

import pytest
from helpers.command_line import tiny

from sparsetrain import accel
from sparsetrain.accel.plots import chip_roofline
from sparsetrain.accel.roofline import Roofline, RooflinePoint

POINTS = (RooflinePoint("a", "forward", 60, 20, 10), RooflinePoint("b", "forward", 8, 80, 4))


def test_the_limit_is_the_bandwidth_up_to_the_ridge_and_then_the_peak():
    """6 operations and 3 bytes per unit of time are equal at 2 operations per byte."""
    roofline = Roofline(POINTS, bandwidth=3, peak=6)
    assert roofline.ridge == 2
    assert [roofline.limit(x) for x in (0.5, 2, 4)] == [1.5, 6, 6]
    assert [(p.intensity, p.rate) for p in POINTS] == [(3, 6), (0.1, 2)]
    assert roofline.by_series() == {"forward": list(POINTS)}


def test_the_line_of_limits_reaches_beyond_all_points():
    """Intensities from 0.1 to 4 times the ridge, 8, with 20 % of room at both ends."""
    x, y = Roofline(POINTS, bandwidth=3, peak=6).limit_line()
    assert x == pytest.approx([0.1 / 1.2, 2, 8 * 1.2])
    assert y == pytest.approx([0.25, 6, 6])


def test_no_pass_of_a_chip_is_above_its_limits():
    step = accel.workload(tiny(), (3, 8, 8), 2).with_densities(0.5, 0.2)
    roofline = chip_roofline(accel.compare(step))
    assert len(roofline.points) == 5  # the gradient of the images is not computed
    assert all(p.rate <= roofline.limit(p.intensity) * 1.0001 for p in roofline.points)

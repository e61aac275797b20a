"""sparsetrain.accel.exploration: the grid of chips and its Pareto front."""

import itertools

import pytest

from sparsetrain import accel
from sparsetrain.accel import exploration

GRID = {"pe_groups": [1, 2, 4], "buffer_bytes": [2000, 8000]}
WORK = accel.Workload(
    (accel.Layer("a", 2, 6, 8, 8, 4, 3, 3, padding=(1, 1), x_density=0.5, dy_density=0.2),)
)


def test_points_are_all_combinations_and_the_last_number_varies_fastest():
    points = accel.explore(WORK, vary=GRID)
    combinations = [(point.chip.pe_groups, point.chip.buffer_bytes) for point in points]
    assert combinations == list(itertools.product(*GRID.values()))
    for point in points:
        assert point.cycles == accel.estimate(WORK, point.chip).cycles
        assert point.speedup == accel.compare(WORK, point.chip).speedup


def test_a_point_is_on_the_front_exactly_if_no_other_dominates_it():
    points = accel.explore(WORK, vary=GRID)
    for point in points:
        dominated = any(
            other.cycles <= point.cycles
            and other.energy_pj <= point.energy_pj
            and (other.cycles, other.energy_pj) != (point.cycles, point.energy_pj)
            for other in points
        )
        assert point.pareto != dominated


def test_equal_points_are_on_the_front_together():
    """Of these (cycles, energy), (2, 3) dominates (2, 4) and (3, 3)."""
    assert exploration._front([(2, 3.0), (3, 3.0), (1, 5.0), (2, 3.0), (2, 4.0)]) == {0, 2, 3}


@pytest.mark.parametrize("number", ["name", "skips_zeros", "pe_group"])
def test_only_whole_numbers_of_a_chip_can_be_varied(number):
    with pytest.raises(ValueError, match=f"whole numbers of a chip, got '{number}'; did you mean"):
        accel.explore(WORK, vary={number: [1]})

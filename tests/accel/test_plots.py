"""Pictures of a step and of a grid of chips: their bars and dots are the numbers of the results."""

from pathlib import Path

import pytest
from helpers.command_line import tiny

from sparsetrain import accel

figures = pytest.importorskip("matplotlib.figure")
from sparsetrain.accel import plots  # noqa: E402

STEP = accel.workload(tiny(), (3, 8, 8), 2).with_densities(0.5, 0.2)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Calls a function of plots.py and returns the axes of the picture that it draws."""

    def draw(function, *arguments):
        made = []

        class Figure(figures.Figure):
            def __init__(self, **options):
                super().__init__(**options)
                made.append(self)

        monkeypatch.setattr(plots, "_figure_class", lambda: Figure)
        function(*arguments, tmp_path / "picture.svg")
        return made[0].axes

    return draw


@pytest.mark.parametrize("table", accel.PRICES)
def test_bars_of_a_step_have_the_heights_of_its_costs(drawn, table):
    compared = accel.compare(STEP)
    cycles, energy, _ = drawn(plots.plot_step, compared, table)
    for axes, chip, dense in (
        (cycles, compared.report.cycles / 1e6, compared.dense.cycles / 1e6),
        (energy, compared.report.energy_pj(table) / 1e9, compared.dense.energy_pj(table) / 1e9),
    ):
        tops = [bar.get_y() + bar.get_height() for bars in axes.containers for bar in bars]
        half = len(tops) // 2
        assert (max(tops[:half]), max(tops[half:])) == pytest.approx((chip, dense))
    unit = "multiplications" if table == "eyeriss_ratios" else "mJ"
    assert energy.get_ylabel().endswith(unit)


def test_no_pass_is_above_the_roofline(drawn):
    """The last line is the limit: y = min(peak, slope * x) through its three ends."""
    *_, axes = drawn(plots.plot_step, accel.compare(STEP), accel.prices())
    *passes, limit = axes.lines
    (x, _, _), (y, peak, _) = limit.get_data()
    points = [point for line in passes for point in zip(*line.get_data(), strict=True)]
    assert len(points) == 5  # the gradient of the images is not computed
    assert all(height <= min(peak, y / x * place) * 1.0001 for place, height in points)


def test_dots_of_a_grid_are_its_chips(drawn):
    points = accel.explore(STEP, vary={"pe_groups": [1, 2, 4], "buffer_bytes": [2000, 8000]})
    (axes,) = drawn(plots.plot_front, points, accel.prices())
    dots = [tuple(dot) for group in axes.collections for dot in group.get_offsets().tolist()]
    wanted = [(point.cycles / 1e6, point.energy_pj / 1e9) for point in points]
    assert sum(sorted(dots), ()) == pytest.approx(sum(sorted(wanted), ()))
    assert len(axes.texts) == sum(point.pareto for point in points)


@pytest.mark.parametrize("name", ["a.gif", "a"])
def test_other_endings_are_refused(name):
    with pytest.raises(ValueError, match=r"to end in \.png or \.svg, got"):
        plots.check_plot(Path(name))

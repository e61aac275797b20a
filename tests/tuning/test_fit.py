"""Laws of the fit: least squares without negative costs, which finds the costs that made times."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsetrain._native import _C, PASSES
from sparsetrain.tuning import cpu, cuda, fit


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0.1, 1), min_size=3, max_size=3), min_size=4, max_size=8),
       st.lists(st.floats(-1, 1), min_size=8, max_size=8))  # fmt: skip
def test_the_solution_is_not_negative_and_no_neighbor_is_better(rows, target):
    matrix, b = torch.tensor(rows).double(), torch.tensor(target[: len(rows)]).double()
    x = fit.non_negative_least_squares(matrix, b)
    assert (x >= 0).all()
    least = (matrix @ x - b).norm()
    for column, step in itertools.product(range(3), (-1e-3, 1e-3)):
        neighbor = x.clone()
        neighbor[column] = max(0.0, neighbor[column] + step)
        assert (matrix @ neighbor - b).norm() >= least - 1e-9  # rounding of lstsq


TARGETS = {
    "cpu": (_C.work, cpu.DENSE_UNITS, cpu.SPARSE_UNITS, cpu.CALL_NS, cpu.SHAPES),
    **{
        name: (
            lambda shape, pass_, density, precision=precision: _C.cuda_work(
                shape, pass_, precision, density
            ),
            cuda.DENSE_UNITS, cuda.SPARSE_UNITS, 0.0, cuda.SHAPES,
        )
        for name, precision in _C.Precision.__members__.items() if name in ("fp32", "fp64")
    },
}  # fmt: skip
COSTS_NS = {
    "dense_mac_ns": 2e-5, "dense_element_ns": 3e-3, "dense_call_ns": 9e3,
    "vector_ns": 0.6, "visit_ns": 3.0, "list_ns": 1.5, "copy_ns": 0.4,
    "tile_ns": 700, "load_ns": 0.3, "nonzero_ns": 0.05, "element_ns": 4e-3, "call_ns": 2e4,
}  # fmt: skip


@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("target", TARGETS)
def test_the_fit_finds_the_costs_that_made_the_times(target, pass_name):
    """Times are counts times costs; the fit keeps four digits of a cost."""
    work_of, dense_units, sparse_units, call_ns, shapes = TARGETS[target]
    for units, constant in ((dense_units, 0.0), (sparse_units, call_ns)):
        samples = []
        for shape, density in itertools.product(shapes, fit.DENSITIES):
            work = work_of(shape.conv_shape(), _C.Pass.__members__[pass_name], density)
            counts = {unit: getattr(work, name) if name else 1 for unit, name in units.items()}
            ns = constant + sum(COSTS_NS[unit] * count for unit, count in counts.items())
            samples.append(fit.Sample(work, ns))
        expected = {unit: COSTS_NS[unit] for unit in units}
        assert fit.fit(units, samples, constant) == pytest.approx(expected, rel=1e-3)

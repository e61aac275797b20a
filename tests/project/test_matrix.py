"""The matrix: which combinations it runs, and that the committed log is of all of them."""

from itertools import combinations, product

import matrix

LOG = matrix.ROOT / "docs" / "matrix.txt"


def test_cells_have_every_pair_of_values():
    """But for clang with CUDA, whose host compiler is g++ then, and g++ without."""
    seen = {pair for cell in matrix.CELLS for pair in combinations(vars(cell).items(), 2)}
    values = [[(name, value) for value in {vars(cell)[name] for cell in matrix.CELLS}]
              for name in vars(matrix.CELLS[0])]  # fmt: skip
    every = {pair for one, two in combinations(values, 2) for pair in product(one, two)}
    left_out = {
        (("compiler", "clang++"), ("cuda", True)),
        (("compiler", "g++"), ("cuda", False)),
    }
    assert every - seen == left_out


def test_the_log_has_a_line_for_every_cell():
    lines = LOG.read_text().splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(cell) for cell in matrix.CELLS]
    for cell, line in zip(matrix.CELLS, lines, strict=True):
        assert f"torch {cell.torch}." in line and " passed" in line and "failed" not in line
        assert ("for the CPU only" in line) != cell.cuda

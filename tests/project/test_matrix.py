"""`make matrix` covers what pyproject.toml and docs/versions.md say is supported."""

import re
import tomllib
from itertools import combinations, product

import matrix
from helpers.paths import ROOT


def test_combinations_have_all_pairs_of_values_with_two_exceptions():
    names = list(vars(matrix.COMBINATIONS[0]))
    values = {name: {vars(each)[name] for each in matrix.COMBINATIONS} for name in names}
    pairs = {pair for each in matrix.COMBINATIONS for pair in combinations(vars(each).items(), 2)}
    all_pairs = {
        ((first, a), (second, b))
        for first, second in combinations(names, 2)
        for a, b in product(values[first], values[second])
    }
    assert all_pairs - pairs == {
        (("compiler", "clang++"), ("cuda", True)),
        (("compiler", "g++"), ("cuda", False)),
    }


def test_first_and_last_supported_torch_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (torch,) = [each for each in project["dependencies"] if each.startswith("torch>")]
    low, below = re.fullmatch(r"torch>=2\.(\d+),<2\.(\d+)", torch).groups()
    tested = {each.torch for each in matrix.COMBINATIONS}
    assert {f"2.{low}", f"2.{int(below) - 1}"} <= tested


def test_tests_of_the_matrix_exist():
    assert [name for name in matrix.TESTS if not (ROOT / name).is_file()] == []


def test_the_documented_table_has_all_combinations():
    page = (ROOT / "docs" / "versions.md").read_text()
    table = page.split("<!-- matrix -->")[1].split("<!-- end of matrix -->")[0]
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert rows == [each.table_row() for each in matrix.COMBINATIONS]

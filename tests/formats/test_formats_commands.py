"""`estimate` and `explore` write JSON and CSV files that the models of their formats accept."""

import csv

import pytest
from helpers.command_line import TINY, run
from helpers.formats import field_names, read_valid_csv, read_valid_json, validated

from sparsetrain import accel
from sparsetrain.experiments.formats import (
    Estimate,
    Exploration,
    GridPoint,
    LayerCost,
    LayerDensities,
)

GRID = ["--vary", "pe_groups=1,2", "--vary", "port_bytes_per_cycle=4,8"]


def written(tmp_path, command, json_model, csv_model, *options):
    """What the subcommand writes: the content of the JSON file, and the lines of the CSV file."""
    out, table = tmp_path / "a.json", tmp_path / "a.csv"
    result = run(command, *TINY, *options, "--json", out, "--csv", table)
    assert result.exit_code == 0, result.output
    return read_valid_json(json_model, out), read_valid_csv(csv_model, table)


def densities(tmp_path):
    path = tmp_path / "densities.json"
    path.write_text('{"0": 1.0, "2": 0.5}')
    read_valid_json(LayerDensities, path)
    return ["--input-density", path, "--grad-density", path]


def as_text(rows):
    return [{name: str(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("simulate", [[], ["--simulate"]], ids=["closed form", "simulated"])
@pytest.mark.parametrize("files", [False, True], ids=["numbers", "files"])
def test_files_of_estimate_are_valid(tmp_path, simulate, files):
    options = [*simulate, *(densities(tmp_path) * files)]
    content, lines = written(tmp_path, "estimate", Estimate, LayerCost, *options)
    assert content["layers"] and list(content["layers"][0]) == field_names(LayerCost)
    assert [gain["prices"] for gain in content["gains"]] == list(accel.PRICES)
    assert lines == as_text(content["layers"])


@pytest.mark.parametrize("files", [False, True], ids=["numbers", "files"])
def test_files_of_explore_are_valid(tmp_path, files):
    options = [*GRID, *(densities(tmp_path) * files)]
    content, lines = written(tmp_path, "explore", Exploration, GridPoint, *options)
    vary = content["config"]["vary"]
    assert vary == {"pe_groups": [1, 2], "port_bytes_per_cycle": [4, 8]}
    points = content["points"]
    assert [[p[name] for name in vary] for p in points] == [[1, 4], [1, 8], [2, 4], [2, 8]]
    assert lines == as_text(points)
    with (tmp_path / "a.csv").open(newline="") as file:
        assert next(csv.reader(file)) == [*vary, *field_names(GridPoint)]


def test_a_point_may_only_have_numbers_of_a_chip():
    point = {"cycles": 1, "energy_pj": 1.0, "speedup": 1.0, "area_proxy_kb": 1.0, "pareto": True}
    validated(GridPoint, {"pe_groups": 2, **point})
    for wrong in ({"pe_group": 2}, {"pe_groups": "two"}):
        with pytest.raises(ValueError):
            GridPoint.model_validate({**wrong, **point})

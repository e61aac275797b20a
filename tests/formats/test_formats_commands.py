"""docs/formats.md against what the subcommands write as JSON and CSV, and that it names them."""

import csv
import json
import re

import pytest
from helpers.command_line import TINY, run
from helpers.paths import ROOT
from test_formats import DOCUMENT, assert_documented, documented

from sparsetrain import accel
from sparsetrain.__main__ import main

ESTIMATE = "## Cost of a step: `python -m sparsetrain estimate MODEL --json FILE --csv FILE`"
EXPLORE = (
    "## A grid of chips: `python -m sparsetrain explore MODEL --vary ... --json FILE --csv FILE`"
)
GRID = ["--vary", "pe_groups=1,2", "--vary", "port_bytes_per_cycle=4,8"]


def written(tmp_path, command, *options):
    """What the subcommand writes: the JSON, and the CSV as a list of lines."""
    out, table = tmp_path / "a.json", tmp_path / "a.csv"
    result = run(command, *TINY, *options, "--json", out, "--csv", table)
    assert result.exit_code == 0, result.output
    with table.open(newline="") as file:
        return json.loads(out.read_text()), list(csv.reader(file))


def densities(tmp_path):
    path = tmp_path / "densities.json"
    path.write_text('{"0": 1.0, "2": 0.5}')
    return ["--input-density", path, "--grad-density", path]


@pytest.mark.parametrize("simulate", [[], ["--simulate"]], ids=["closed form", "simulated"])
@pytest.mark.parametrize("files", [False, True], ids=["numbers", "files"])
def test_estimate_is_as_documented(tmp_path, simulate, files):
    content, lines = written(tmp_path, "estimate", *simulate, *(densities(tmp_path) * files))
    assert list(content) == ["config", "layers", "total", "gains"]
    assert_documented(content["config"], ESTIMATE, "### `config`", ordered=False)
    assert_documented(content["config"]["chip"], ESTIMATE, "### `chip`")
    assert_documented(content["total"], ESTIMATE, "### `total`")
    for records in ("layers", "gains"):
        assert content[records]
        for record in content[records]:
            assert_documented(record, ESTIMATE, f"### `{records}`")
    assert [gain["prices"] for gain in content["gains"]] == list(accel.PRICES)
    assert lines[0] == list(documented(ESTIMATE, "### `layers`"))
    assert lines[1:] == [[str(v) for v in row.values()] for row in content["layers"]]


@pytest.mark.parametrize("files", [False, True], ids=["numbers", "files"])
def test_explore_is_as_documented(tmp_path, files):
    content, lines = written(tmp_path, "explore", *GRID, *(densities(tmp_path) * files))
    assert list(content) == ["config", "points"]
    assert_documented(content["config"], EXPLORE, "### `config`", ordered=False)
    assert_documented(content["config"]["chip"], ESTIMATE, "### `chip`")
    vary = content["config"]["vary"]
    assert vary == {"pe_groups": [1, 2], "port_bytes_per_cycle": [4, 8]}
    points = content["points"]
    assert [[p[name] for name in vary] for p in points] == [[1, 4], [1, 8], [2, 4], [2, 8]]
    for point in points:
        assert_documented(point, EXPLORE, "### `points`")
    assert lines == [list(points[0]), *([str(v) for v in point.values()] for point in points)]


def test_every_file_option_is_documented():
    headings = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("## ")]
    options = {
        f"sparsetrain {name} ": {flag for parameter in command.params for flag in parameter.opts}
        for name, command in main.commands.items()
    }
    for folder in ("benchmarks", "examples"):
        for file in (ROOT / folder).glob("*.py"):
            options[file.name] = set(re.findall(r'"(--\w+)"', file.read_text()))
    for program, flags in options.items():
        for flag in flags & {"--json", "--csv", "--checkpoint"}:
            assert any(program in heading and flag in heading for heading in headings), (
                f"docs/formats.md does not describe what {program.strip()} writes with {flag}"
            )

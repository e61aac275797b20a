"""`sparsetrain explore`: the grid that is written and drawn, and refused arguments."""

import json

import pytest
from helpers.command_line import TINY, run


def test_the_file_has_every_combination_and_the_front(tmp_path):
    out = tmp_path / "f.json"
    grid = ["--vary", "pe_groups=1,2,4", "--vary", "buffer_bytes=2000,8000"]
    result = run("explore", *TINY, *grid, "--json", out)
    assert result.exit_code == 0, result.output
    points = json.loads(out.read_text())["points"]
    combinations = [(point["pe_groups"], point["buffer_bytes"]) for point in points]
    assert combinations == [(groups, size) for groups in (1, 2, 4) for size in (2000, 8000)]
    front = [point["cycles"] for point in points if point["pareto"]]
    assert min(point["cycles"] for point in points) in front


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "front.svg"
    assert run("explore", *TINY, "--vary", "pe_groups=1,2", "--plot", picture).exit_code == 0
    assert "<svg" in picture.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "pe_groups"], "whole values"),
        (["--vary", "pe_group=1"], "did you mean 'pe_groups'"),
        (["--vary", "pe_groups=0"], "pe_groups to be in"),
        (["--vary", f"pe_groups={2**64}"], "pe_groups to be a whole number below 2^63"),
        (["--vary", "pe_groups=1", "--vary", "pe_groups=2"], "given once for each"),
        (["--vary", "name=3"], "whole numbers of a chip, got 'name'"),
        (["--vary", "skips_zeros=0"], "of a chip, got 'skips_zeros'"),
        (["--vary", "buffer_bytes=64"], "quarter of the buffer"),
        (["--vary", "pe_groups=1", "--plot", "a.gif"], "in .png or .svg, got .gif"),
    ],
)
def test_bad_arguments_end_with_one_sentence_and_status_2(arguments, message):
    result = run("explore", *TINY, *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output

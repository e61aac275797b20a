"""`sparsetrain estimate`: files agree with the screen, options of MODEL, and refused arguments."""

import csv
import json

import pytest
from helpers.command_line import MODULE, TINY, run

PICTURE_BYTES = {".png": b"\x89PNG", ".svg": b"<?xml"}


def rows_of(path):
    return json.loads(path.read_text())["layers"]


def test_files_have_what_the_screen_shows(tmp_path):
    out, table = tmp_path / "a.json", tmp_path / "a.csv"
    result = run("estimate", *TINY, "--grad-density", ".3", "--json", out, "--csv", table)
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    assert list(content) == ["config", "layers", "total", "gains"]
    assert content["config"]["grad_density"] == 0.3
    total = content["total"]
    assert total["speedup"] == total["dense_cycles"] / total["cycles"]
    assert f"{total['speedup']:.2f}" in result.output
    assert f"{total['cycles']:,} cycles" in result.output
    with table.open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["cycles"]) for line in lines] == [row["cycles"] for row in content["layers"]]


def test_linear_layers_are_convolutions_of_one_pixel(tmp_path):
    out = tmp_path / "a.json"
    assert run("estimate", *TINY, "--linear", "--json", out).exit_code == 0
    rows = [row for row in rows_of(out) if row["name"] == "4"]
    assert [row["pass"] for row in rows] == ["forward", "grad_input", "grad_weight"]
    assert all(row["dense_macs"] == 2 * 256 * 5 for row in rows)


def test_the_simulator_agrees_with_the_closed_form_within_a_tenth(tmp_path):
    cycles = []
    for flag in ([], ["--simulate"]):
        out = tmp_path / "a.json"
        assert run("estimate", *TINY, *flag, "--json", out).exit_code == 0
        cycles.append(json.loads(out.read_text())["total"]["cycles"])
    assert cycles[0] == pytest.approx(cycles[1], rel=0.1)


def test_densities_by_layer_come_from_a_file(tmp_path):
    path, out = tmp_path / "d.json", tmp_path / "o.json"
    path.write_text('{"0": 1.0, "2": 0.5}')
    arguments = ["--input-density", path, "--grad-density", "1", "--json", out]
    assert run("estimate", *TINY, *arguments).exit_code == 0
    (row,) = (row for row in rows_of(out) if (row["name"], row["pass"]) == ("2", "forward"))
    assert row["macs"] / row["dense_macs"] == pytest.approx(0.5, rel=1e-3)
    path.write_text('{"0": 1.0}')
    result = run("estimate", *TINY, *arguments)
    assert result.exit_code == 2
    assert "none for '2'" in result.output
    path.write_text("[1]")
    assert "object of densities" in run("estimate", *TINY, *arguments).output


def test_a_file_of_the_user_adds_a_chip_and_a_price_table(tmp_path):
    path, out = tmp_path / "mine.toml", tmp_path / "a.json"
    names = ("mac_pj", "register_pj", "buffer_read_pj", "buffer_write_pj", "dram_pj")
    prices = "".join(f"{name} = 1\n" for name in names)
    path.write_text(f"[chips.half]\npe_groups = 28\n[prices.unit]\n{prices}")
    result = run("estimate", *TINY, "--chip", path, "--prices", path, "--json", out)
    assert result.exit_code == 0, result.output
    config = json.loads(out.read_text())["config"]
    assert (config["chip"]["name"], config["prices"]) == ("half", "unit")


@pytest.mark.parametrize("suffix", PICTURE_BYTES)
def test_a_picture_is_drawn(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"step{suffix}"
    assert run("estimate", *TINY, "--plot", picture).exit_code == 0
    assert picture.read_bytes().startswith(PICTURE_BYTES[suffix])


MODEL = TINY[0]
SHAPE = ["--input-shape", "3,8,8"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnt18", "--dataset", "imagenet"], "did you mean 'resnet18'"),
        (["nowhere:f"], "ModuleNotFoundError: No module named 'nowhere'"),
        ([":f"], "got ':f': ValueError: Empty module name"),
        ([f"{MODULE}:exits"], f"{MODULE}:exits': SystemExit: 0"),
        ([f"{MODULE}:RaisesKeyError"], "3 x 32 x 32, got KeyError: 'mask'"),
        (
            [f"{MODULE}:with_norm", "--input-shape", "3,1,1", "--batch-size", 1],
            "images of 3 x 1 x 1, got ValueError: Expected more than 1 value",
        ),
        ([f"{MODULE}:run", *SHAPE], "torch.nn.Module"),
        ([f"{MODULE}:without_convolution", "--input-shape", "1,3,3"], "one convolution"),
        ([f"{MODULE}:frozen", *SHAPE], "need a gradient"),
        ([MODEL, *SHAPE, "--batch-size", 2**64], "1<=x<=16777216"),
        ([MODEL, "--input-shape", f"3,8,{2**64}"], "at most 2^24, got '3,8,1844674"),
        ([MODEL, "--input-shape", "3"], "channels,height,width"),
        ([MODEL, "--input-shape", "3,0,8"], "of at least 1 and at most 2^24, got '3,0"),
        ([MODEL, "--input-shape", "5,8,8"], "to take images of 5 x 8 x 8, got "),
        ([*TINY, "--grad-density", __file__], "test_estimate.py to be JSON, got"),
        ([*TINY, "--grad-density", "2"], "--grad-density to be in [0, 1], got 2"),
        ([*TINY, "--grad-density", "much"], "a number or a JSON file"),
        ([*TINY, "--chip", "eyeriss"], "did you mean"),
        ([*TINY, "--chip", "no.toml"], "no.toml to be a TOML file, got none"),
        ([*TINY, "--prices", "free"], "did you mean"),
        ([*TINY, "--plot", "a.xyz"], "a.xyz to end in .png or .svg, got .xyz"),
        ([*TINY, "--plot", "a"], "a to end in .png or .svg, got no ending"),
        ([*TINY, "--json", "a", "--csv", "a"], "each output to be a file of its own"),
        ([*TINY, "--json", "/nowhere/a.json"], "no folder"),
    ],
)
def test_bad_arguments_end_with_one_sentence_and_status_2(arguments, message):
    result = run("estimate", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output

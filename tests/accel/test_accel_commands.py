"""The command line, a user's own chips and prices, exploration: results and refusals."""

import csv
import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from sparsetrain import accel
from sparsetrain.__main__ import main
from sparsetrain.accel import exploring


def tiny():
    """A network for `module:function`."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1), nn.Flatten(),
        nn.Linear(4 * 64, 5),
    )  # fmt: skip


def empty():
    return nn.Linear(3, 3)


def frozen():
    return tiny().requires_grad_(False)


def normed():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def leaves():
    raise SystemExit(0)


class Stubborn(nn.Conv2d):
    """A model that fails as no torch operator would."""

    def __init__(self):
        super().__init__(3, 4, 3)

    def forward(self, x):
        raise KeyError("mask")


TINY = ["test_accel_commands:tiny", "--input-shape", "3,8,8", "--batch-size", "2"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_estimate_writes_what_it_shows(tmp_path):
    out, table = tmp_path / "a.json", tmp_path / "a.csv"
    result = run("estimate", *TINY, "--grad-density", ".3", "--json", out, "--csv", table)
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    assert list(content) == ["config", "layers", "total", "gains"]
    assert content["config"]["grad_density"] == 0.3
    rows = content["layers"]
    assert [(row["name"], row["pass"]) for row in rows] == [
        ("0", "forward"), ("0", "grad_weight"),
        ("2", "forward"), ("2", "grad_input"), ("2", "grad_weight"),
    ]  # fmt: skip
    total = content["total"]
    for key in ("macs", "dense_macs", "cycles", "dense_cycles"):
        assert total[key] == sum(row[key] for row in rows)
    for key in ("energy_pj", "dense_energy_pj"):
        assert total[key] == pytest.approx(sum(row[key] for row in rows))
    for row in rows:
        parts = [row[key] for key in ("mac_pj", "register_pj", "buffer_pj", "dram_pj")]
        assert row["energy_pj"] == pytest.approx(sum(parts))
        assert 0 < row["utilisation"] <= 1
        assert row["bound"] in {"multiplier", "port", "DRAM", "drain"}
    assert total["speedup"] == total["dense_cycles"] / total["cycles"]
    assert f"{total['speedup']:.2f}" in result.output
    with table.open() as file:
        read = list(csv.DictReader(file))
    assert [int(row["cycles"]) for row in read] == [row["cycles"] for row in rows]


def test_linear_layers_are_convolutions_of_one_pixel(tmp_path):
    out = tmp_path / "a.json"
    assert run("estimate", *TINY, "--linear", "--json", out).exit_code == 0
    rows = [row for row in json.loads(out.read_text())["layers"] if row["name"] == "4"]
    assert [row["pass"] for row in rows] == ["forward", "grad_input", "grad_weight"]
    assert all(row["dense_macs"] == 2 * 256 * 5 for row in rows)


def test_linear_layers_are_recorded_with_their_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    x = torch.relu(torch.randn(5, 3, 8))
    with accel.record(model, linear=True) as rec:
        torch.relu(model(x)).sum().backward()
    first, second = rec.workload().layers
    assert (first.C, first.H, first.W, first.K) == (8, 1, 3, 6)
    assert first.x_density == pytest.approx(float((x != 0).double().mean()))
    assert second.dy_density == pytest.approx(float((model(x) > 0).double().mean()))
    assert (first.needs_grad_input, second.needs_grad_input) == (False, True)


def test_simulation_and_closed_form_are_near(tmp_path):
    cycles = []
    for flag in ([], ["--simulate"]):
        out = tmp_path / "a.json"
        assert run("estimate", *TINY, *flag, "--json", out).exit_code == 0
        cycles.append(json.loads(out.read_text())["total"]["cycles"])
    assert cycles[0] == pytest.approx(cycles[1], rel=0.1)


def test_disasm_shows_three_levels():
    blocks = run("disasm", *TINY).output
    assert "pass forward 0 x[2,3,8,8] w[6,3,3,3] y[2,6,8,8] stride 1,1 pad 1,1" in blocks
    assert "SRC" not in blocks
    tasks = run("disasm", *TINY, "--level", "task", "--layer", "2").output
    assert "SRC  y[0,0,0,:] <- x[0,0:6,0:2,:] * w[0,0:6,:,:]  row_ops 12" in tasks
    assert "MSRC dx[0,0,0,:] <- dy[0,0:4,0:2,:] * rot(w[0:4,0,:,:]) where mask[0,0,0,:]" in tasks
    assert "OSRC dw[0,0,0,:] dw[0,0,1,:] dw[0,0,2,:] += x[:,0,:,:] . dy rows" in tasks
    assert "pass forward 0 " not in tasks
    ops = run("disasm", *TINY, "--level", "op", "--most", "2").output
    assert "    pe 0  x[0,0,0,:] * w[0,0,1,:]" in ops
    assert "more row operations" in ops


def test_equal_points_are_on_the_front_together():
    """Of (cycles, energy): (1, 5), twice (2, 3), and (2, 4) and (3, 3), which (2, 3) dominates."""
    assert exploring._front([(2, 3.0), (3, 3.0), (1, 5.0), (2, 3.0), (2, 4.0)]) == {0, 2, 3}


def test_explore_finds_the_front(tmp_path):
    out = tmp_path / "f.json"
    grid = ["--vary", "pe_groups=1,2,4", "--vary", "buffer_bytes=2000,8000"]
    result = run("explore", *TINY, *grid, "--json", out)
    assert result.exit_code == 0, result.output
    points = json.loads(out.read_text())["points"]
    assert len(points) == 6
    for point in points:
        better = [
            p for p in points
            if p["cycles"] <= point["cycles"] and p["energy_pj"] <= point["energy_pj"]
            and (p["cycles"], p["energy_pj"]) != (point["cycles"], point["energy_pj"])
        ]  # fmt: skip
        assert not (point["pareto"] and better)
        assert point["pareto"] or better or len(points) > 1


def test_plots_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    step, front = tmp_path / "step.png", tmp_path / "front.svg"
    assert run("estimate", *TINY, "--plot", step).exit_code == 0
    assert run("explore", *TINY, "--vary", "pe_groups=1,2", "--plot", front).exit_code == 0
    assert step.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in front.read_text()


FILE = """
[chips.half]
base = "sparsetrain168"
pe_groups = 28
[prices.free_dram]
mac_pj = 1
register_pj = 1.0
buffer_read_pj = 6.0
buffer_write_pj = 6.0
dram_pj = 0
"""


def test_a_file_adds_chips_and_prices(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    half = accel.find_chip(str(path))
    assert (half.name, half.pe_groups, half.pes_per_group) == ("half", 28, 3)
    assert accel.find_chip(f"{path}:half") == half
    free = accel.find_prices(str(path))
    assert (free.name, free.dram_pj) == ("free_dram", 0)
    assert accel.find_prices(f"{path}:eyeriss_ratios") == accel.PRICES["eyeriss_ratios"]
    assert run("estimate", *TINY, "--chip", path, "--prices", path).exit_code == 0
    path.write_text(FILE + "[chips.third]\npe_groups = 19")
    with pytest.raises(ValueError, match=r"one of its chips \(half, third\), like .*:name, got"):
        accel.find_chip(str(path))


REFUSED = {
    "[chip.half]": "did you mean 'chips'",
    "[chips.half]\nport_bytes = 4": "did you mean 'port_bytes_per_cycle'",
    "[chips.half]\npe_groups = 0": "pe_groups to be in",
    "[chips.half]\npe_groups = 1.5": "pe_groups to be a whole number",
    "[chips.half]\nbase = 'x'": "to be a known name",
    "chips.half = 3": "to be a table",
    "[prices.p]\nmac = 1": "did you mean 'mac_pj'",
    "[prices.p]\nmac_pj = 1": "expected register_pj to be a number",
    "[chips.half]\npe_groups = 9999999999999999999": "pe_groups to be a whole number below 2",
    "[chips.half]\nname = 'other'": "got 'name'",
    "[chips.half]\nskips_zeros = 1": "skips_zeros to be true or false",
    "[chips.half": "to be TOML",
    "[prices.p]\n": "expected mac_pj",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_file_that_cannot_be_is_refused(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=REFUSED[text]) as error:
        accel.read_toml(path)
    assert "\n" not in str(error.value) or "TOML" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["estimate", "resnt18", "--dataset", "imagenet"], "did you mean 'resnet18'"),
        (["estimate", "nowhere:f"], "ModuleNotFoundError: No module named 'nowhere'"),
        (["estimate", ":f"], "got ':f': ValueError: Empty module name"),
        (["estimate", "test_accel_commands:leaves"], "test_accel_commands:leaves': SystemExit: 0"),
        (["estimate", "test_accel_commands:Stubborn"], "3 x 32 x 32, got KeyError: 'mask'"),
        (
            ["estimate", "test_accel_commands:normed", "--input-shape", "3,1,1", "--batch-size", 1],
            "images of 3 x 1 x 1, got ValueError: Expected more than 1 value",
        ),
        (["estimate", *TINY[:3], "--batch-size", 2**64], "1<=x<=16777216"),
        (["estimate", TINY[0], "--input-shape", f"3,8,{2**64}"], "at most 2^24, got '3,8,1844674"),
        (["estimate", *TINY[:3], "--plot", "a.xyz"], "a.xyz to end in .png or .svg, got .xyz"),
        (["estimate", *TINY[:3], "--plot", "a"], "a to end in .png or .svg, got no ending"),
        (["estimate", *TINY, "--json", "a", "--csv", "a"], "each output to be a file of its own"),
        (["estimate", *TINY, "--chip", "no.toml"], "no.toml to be a TOML file, got none"),
        (["disasm", *TINY, "--most", 2**64], "2147483648"),
        (["explore", *TINY, "--vary", "name=3"], "whole numbers of a chip, got 'name'"),
        (["explore", *TINY, "--vary", "skips_zeros=0"], "of a chip, got 'skips_zeros'"),
        (
            ["explore", *TINY, "--vary", f"pe_groups={2**64}"],
            "pe_groups to be a whole number below 2^63",
        ),
        (
            ["explore", *TINY, "--vary", "pe_groups=1", "--vary", "pe_groups=2"],
            "given once for each",
        ),
        (
            ["explore", *TINY, "--vary", "pe_groups=1", "--plot", "a.gif"],
            "in .png or .svg, got .gif",
        ),
        (["estimate", "test_accel_commands:run", "--input-shape", "3,8,8"], "torch.nn.Module"),
        (["estimate", "test_accel_commands:empty", "--input-shape", "1,3,3"], "one convolution"),
        (["estimate", "test_accel_commands:frozen", "--input-shape", "3,8,8"], "need a gradient"),
        (["estimate", TINY[0], "--input-shape", "3"], "channels,height,width"),
        (
            ["estimate", TINY[0], "--input-shape", "3,0,8"],
            "of at least 1 and at most 2^24, got '3,0",
        ),
        (["estimate", TINY[0], "--input-shape", "5,8,8"], "to take images of 5 x 8 x 8, got "),
        (["estimate", *TINY, "--grad-density", __file__], "test_accel_commands.py to be JSON, got"),
        (["estimate", *TINY, "--grad-density", "2"], "dy_density to be in"),
        (["estimate", *TINY, "--grad-density", "much"], "a number or a JSON file"),
        (["estimate", *TINY, "--chip", "eyeriss"], "did you mean"),
        (["estimate", *TINY, "--prices", "free"], "did you mean"),
        (["estimate", *TINY, "--json", "/nowhere/a.json"], "no folder"),
        (["disasm", *TINY, "--layer", "3"], "to be a layer's name"),
        (["explore", *TINY, "--vary", "groups"], "whole values"),
        (["explore", *TINY, "--vary", "pe_group=1"], "did you mean 'pe_groups'"),
        (["explore", *TINY, "--vary", "pe_groups=0"], "pe_groups to be in"),
        (["explore", *TINY, "--vary", "buffer_bytes=64"], "quarter of the buffer"),
    ],
)
def test_bad_input_is_one_sentence_and_code_two(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_densities_by_layer_come_from_a_file(tmp_path):
    path, out = tmp_path / "d.json", tmp_path / "o.json"
    path.write_text('{"0": 1.0, "2": 0.5}')
    arguments = ["--input-density", path, "--grad-density", "1", "--json", out]
    assert run("estimate", *TINY, *arguments).exit_code == 0
    rows = {(r["name"], r["pass"]): r for r in json.loads(out.read_text())["layers"]}
    ratio = rows["2", "forward"]["macs"] / rows["2", "forward"]["dense_macs"]
    assert ratio == pytest.approx(0.5, rel=1e-3)
    path.write_text('{"0": 1.0}')
    result = run("estimate", *TINY, *arguments)
    assert result.exit_code == 2
    assert "none for '2'" in result.output
    path.write_text("[1]")
    assert "object of densities" in run("estimate", *TINY, *arguments).output


def test_a_level_that_is_not_is_refused():
    work = accel.Workload((accel.Layer("a", 1, 1, 3, 3, 1, 1, 1),))
    with pytest.raises(ValueError, match="one of block, task, op"):
        accel.disassemble(work, level="word")

"""`sparsetrain tune`: the file that it writes and what it keeps; the GPU is played by the CPU."""

import json

import pytest
import torch
from click.testing import CliRunner
from helpers.formats import read_valid_json

import sparsetrain
from sparsetrain.__main__ import main
from sparsetrain._native import _C, PASSES
from sparsetrain.experiments.formats import CostFile
from sparsetrain.tuning import cpu, cuda
from sparsetrain.tuning.fit import Shape


@pytest.fixture(autouse=True)
def shipped_costs():
    """Restores the costs that ship, because tune reads the file into the table in force."""
    yield
    sparsetrain.set_costs(None)


@pytest.fixture
def small_shapes(monkeypatch):
    monkeypatch.setattr(cpu, "SHAPES", (Shape(2, 32, 8, 32, 3, 1),) * 3)


@pytest.fixture
def gpu(monkeypatch):
    """`tune --device cuda` runs on the CPU: call i of a round is reported to take i + 1 ms."""

    def nanoseconds(calls):
        for call in calls:
            call()
        return [1e6 * (1 + i) for i in range(len(calls))]

    shapes = (Shape(2, 16, 8, 16, 3, 1), Shape(1, 8, 6, 12, 1, 1))
    for name, value in {"DEVICE": "cpu", "SHAPES": shapes, "nanoseconds": nanoseconds}.items():
        monkeypatch.setattr(cuda, name, value)
    monkeypatch.setattr(cuda, "architecture", lambda: "9.0")


def tune(*arguments):
    return CliRunner().invoke(main, ["tune", *map(str, arguments)])


def test_the_file_has_the_measured_costs_and_can_be_used(tmp_path, small_shapes):
    file = tmp_path / "costs.json"
    run = tune(file, "--dtype", "float32")
    assert run.exit_code == 0, run.output
    table = read_valid_json(CostFile, file)["costs"]
    assert list(table) == ["isa", *sorted(cpu.DTYPES), "cuda"]
    assert all(set(table[dtype]) == set(PASSES) for dtype in cpu.DTYPES)
    shipped = sparsetrain.costs()
    assert table["bfloat16"] == shipped["bfloat16"]
    assert table["float32"] != shipped["float32"]
    sparsetrain.set_costs(file)
    assert sparsetrain.costs() == table


def test_the_costs_of_gpus_are_kept_in_a_file_of_another_instruction_set(tmp_path, small_shapes):
    file = tmp_path / "costs.json"
    gpus = {"9.0": {"bf16": {name: dict.fromkeys(_C.CUDA_UNITS, 1.0) for name in PASSES}}}
    other = {**sparsetrain.costs(), "isa": "vax", "cuda": gpus}
    file.write_text(json.dumps({"torch": "2.15", "costs": other}))
    assert tune(file, "--dtype", "float32").exit_code == 0
    table = json.loads(file.read_text())["costs"]
    assert table["cuda"] == gpus and table["isa"] == sparsetrain.costs()["isa"]


def test_a_file_that_tune_did_not_write_is_left_as_it_is(tmp_path, small_shapes):
    file = tmp_path / "costs.json"
    file.write_text("[1, 2]")
    assert tune(file).exit_code == 2 and file.read_text() == "[1, 2]"


def test_on_a_gpu_the_file_has_every_precision_and_keeps_other_costs(tmp_path, gpu):
    file = tmp_path / "costs.json"
    run = tune(file, "--device", "cuda", "--dtype", "float32", "--dtype", "float64")
    assert run.exit_code == 0, run.output
    content = read_valid_json(CostFile, file)
    gpus = content["costs"].pop("cuda")
    assert list(gpus["9.0"]) == ["fp32", "tf32", "fp64"]
    for passes in gpus["9.0"].values():
        assert list(passes) == sorted(PASSES)
        for units in passes.values():
            assert units["dense_call_ns"] + units["dense_mac_ns"] + units["dense_element_ns"] > 0
    shipped = sparsetrain.costs()
    assert content["costs"] == {key: value for key, value in shipped.items() if key != "cuda"}
    sparsetrain.set_costs(file)
    assert sparsetrain.costs()["cuda"] == gpus
    explained = sparsetrain.explain(
        (2, 16, 8, 8), (16, 16, 3, 3), device="cuda", architecture="9.0"
    )
    assert explained.forward.dense_ms > 0

    sparsetrain.set_costs(None)
    run = tune(file, "--device", "cuda", "--dtype", "bfloat16")
    assert run.exit_code == 0, run.output
    assert json.loads(file.read_text())["costs"]["cuda"]["9.0"].keys() == {*gpus["9.0"], "bf16"}


def test_on_a_gpu_torchs_flags_are_set_for_each_precision_and_restored(gpu, monkeypatch):
    flags = []

    def nanoseconds(calls):
        flags.append((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark))
        return [1e6] * len(calls)

    monkeypatch.setattr(cuda, "nanoseconds", nanoseconds)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    table = cuda.tune(("float32",), lambda: None)
    per_precision = len(cuda.SHAPES) * len(PASSES)
    assert flags == [(False, True)] * per_precision + [(True, True)] * per_precision
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before
    assert list(table["cuda"]["9.0"]) == ["fp32", "tf32"]


@pytest.mark.parametrize("device", [cpu, cuda], ids=["cpu", "cuda"])
def test_progress_is_reported_once_for_each_shape(device, small_shapes, gpu):
    count = []
    device.tune(("float32", "bfloat16"), lambda: count.append(1))
    assert len(count) == device.steps(("float32", "bfloat16"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--device", "cuda"], "sparsetrain.tune: expected a GPU that torch can use, got none"),
        (["--dtype", "float64"], "sparsetrain.tune: expected --dtype to be one of float32, "),
    ],
)
def test_bad_arguments_are_refused_before_a_file_is_written(
    tmp_path, monkeypatch, arguments, sentence
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = tune(tmp_path / "costs.json", *arguments)
    assert run.exit_code == 2 and run.stderr.startswith(f"error: {sentence}")
    assert not list(tmp_path.iterdir())

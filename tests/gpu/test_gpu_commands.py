"""`make test-gpu` and `make bench-gpu`, exercised without a GPU."""

import importlib
import subprocess
import sys

import on_gpu
import pytest
import torch
from click.testing import CliRunner
from helpers.formats import read_valid_json
from helpers.paths import ROOT
from torchvision.models import resnet18

from sparsetrain.experiments.formats import GpuBenchmark, GpuSteps
from sparsetrain.tuning import cuda as tuning_cuda


@pytest.mark.parametrize(
    "command",
    [["tests/gpu/on_gpu.py", "test"], ["tests/gpu/on_gpu.py", "bench"], ["benchmarks/gpu.py"]],
    ids=" ".join,
)
def test_commands_that_need_a_gpu_refuse_in_one_sentence(command):
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    sentence = f"{command[0]}: expected a GPU that torch can use, got none"
    assert [line.startswith(sentence) for line in done.stderr.splitlines()] == [True]


def test_the_list_of_calls_for_the_sanitizers_runs():
    on_gpu.short_list("cpu")


@pytest.mark.parametrize(("code", "result"), [(0, "passed"), (3, "failed with exit code 3")])
def test_results_of_every_step_are_stored(monkeypatch, tmp_path, code, result):
    program = [sys.executable, "-c", f"print('hello'); raise SystemExit({code})"]
    plan = [
        ("build", [*program[:2], "print(1)"], {}),
        ("tests", program, {}),
        ("memcheck", None, {}),
    ]
    monkeypatch.setattr(on_gpu, "steps", lambda what: plan)
    monkeypatch.setattr(on_gpu, "OUT", tmp_path)
    assert on_gpu.run("test") == (code != 0)
    written = read_valid_json(GpuSteps, tmp_path / "test.json")
    assert {name: step["result"] for name, step in written.items()} == {
        "build": "passed",
        "tests": result,
        "memcheck": "skipped: no compute-sanitizer",
    }
    assert f"== tests: {result}\nhello" in (tmp_path / "test.txt").read_text()


def test_the_steps_of_both_commands():
    assert [name for name, *_ in on_gpu.steps("test")] == ["build", "tests", *on_gpu.TOOLS]
    bench = {name: command for name, command, _ in on_gpu.steps("bench")}
    assert list(bench) == ["build", "tune", "benchmark"]
    for name in ("build", "benchmark"):
        assert (ROOT / bench[name][1]).is_file()
    # The benchmark uses the costs that tune wrote.
    assert bench["tune"][4] == bench["benchmark"][-1]
    tests = next(command for name, command, _ in on_gpu.steps("test") if name == "tests")
    assert all((ROOT / path).exists() for path in tests if path.startswith("tests/"))


def test_benchmarks_do_not_time_the_shapes_that_tune_fits(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    timed = {(64, channels, size) for channels, size in importlib.import_module("gpu").LAYERS}
    fitted = {(s.batch, s.inputs, s.size) for s in tuning_cuda.SHAPES}
    assert not fitted & timed
    channels = {c for shape in tuning_cuda.SHAPES for c in (shape.inputs, shape.outputs)}
    assert not channels & {
        64,
        128,
        256,
        512,
        1024,
        2048,
    }  # the channel counts of ResNet-50, except for 3


def test_the_benchmark_writes_a_valid_file(monkeypatch, tmp_path):
    """Runs on the CPU, with the GPU's clock and description replaced."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    gpu = importlib.import_module("gpu")

    def once(calls):
        for call in calls:
            call()
        return [2.0] * len(calls)

    described = {"gpu": "none", "multiprocessors": 0, "torch": "", "cuda": "", "cudnn": 0}
    replacements = {
        "DEVICE": "cpu",
        "IMAGE": 32,
        "PRUNED": (1000,),
        "LAYERS": ((8, 5),),
        # cuSPARSE is refused on the CPU
        "BACKENDS": {"dense_ms": "dense", "sparse_ms": "sparse", "cusparse_ms": "sparse"},
        "resnet50": resnet18,
        "machine": lambda: described,
        "milliseconds": once,
    }
    for name, value in replacements.items():
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    json_path, text_path = tmp_path / "figures.json", tmp_path / "figures.txt"
    options = ["--json", str(json_path), "--text", str(text_path), "--batch", "2"]
    result = CliRunner().invoke(gpu.main, options)
    assert result.exit_code == 0, result.output
    content = read_valid_json(GpuBenchmark, json_path)
    assert all(content[part] for part in ("prune", "backward", "step"))
    assert content["summary"].keys() == {f"{m} {d}" for m in gpu.MODES for d in gpu.DENSITIES}
    assert "speedup" in text_path.read_text()

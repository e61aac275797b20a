"""A C++ program without Python: installs both libraries, finds them with CMake, and trains."""

import re
import subprocess

import pytest
import torch
from helpers.cmake_build import build
from helpers.paths import ROOT
from helpers.processes import run

TORCH = torch.__path__[0]
DATA = ROOT / "sparsetrain" / "experiments" / "data"


@pytest.fixture(scope="module")
def program():
    """The program of examples/cpp, built against an installed SparseTrain."""
    folder = build("core", "-DSPARSETRAIN_OPS=ON", f"-DCMAKE_PREFIX_PATH={TORCH}")
    prefix = ROOT / "build" / "installed"
    run("cmake", "--install", folder, "--prefix", prefix)
    paths = f"-DCMAKE_PREFIX_PATH={prefix};{TORCH}"
    return build("example", paths, source="examples/cpp") / "train"


def test_the_example_trains_and_reports_the_cost(program):
    printed = run(program, DATA, 100)
    losses = [float(number) for number in re.findall(r"step \d+: loss ([\d.]+)", printed)]
    assert len(losses) == 3 and losses[-1] < losses[0] / 2  # guessing has loss ln 10
    accuracy = float(re.search(r"test accuracy ([\d.]+)", printed)[1])
    assert accuracy > 0.6  # chance is 0.1; measured: 0.81
    densities = re.findall(r"conv\d: density of x ([\d.]+), of dy ([\d.]+)", printed)
    assert len(densities) == 3 and all(0 < float(dy) < 0.4 for _, dy in densities)  # pruned
    sparse, dense, speedup = re.search(r"cycles (\d+), dense twin (\d+): speedup ([\d.]+)",
                                       printed).groups()  # fmt: skip
    assert int(sparse) < int(dense)
    assert float(speedup) == pytest.approx(int(dense) / int(sparse), abs=0.006)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected FOLDER [STEPS], STEPS at least 1"),
        ([DATA, "none"], "expected FOLDER [STEPS], STEPS at least 1"),
        ([ROOT / "no such folder"], "train-images-idx3-ubyte.gz to be a whole gzip file"),
    ],
)
def test_the_example_reports_errors_in_one_sentence(program, arguments, message):
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_cmake_reports_a_missing_torch(tmp_path):
    """Without a path to torch, CMake fails with our message."""
    command = ["cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", "-DSPARSETRAIN_OPS=ON"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    text = " ".join(done.stderr.split())
    assert "SparseTrain: expected CMAKE_PREFIX_PATH to name torch's folder, got ''" in text

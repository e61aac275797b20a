"""Builds the C++ tests of the torch-free core with CMake; runs them plain and with sanitizers."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from helpers.cmake_build import build
from helpers.paths import ROOT
from helpers.processes import run

import sparsetrain

TESTS = ("test_accel", "test_cpu_conv", "test_cpu_conv_work", "test_threads")
# ThreadSanitizer does not support the fibers of the CUDA emulator.
CUDA = ("test_cuda_conv", "test_cuda_cusparse", "test_cuda_prune")
OPTIONS = {
    # With the operators, because test_libtorch.py uses the same build folder.
    "core": ("-DSPARSETRAIN_OPS=ON", f"-DCMAKE_PREFIX_PATH={torch.__path__[0]}"),
    "core-address": ("-DSPARSETRAIN_SANITIZE=address,undefined",),
    "core-thread": ("-DSPARSETRAIN_SANITIZE=thread",),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_core(name):
    """Every C++ test passes, with plain code and under each sanitizer."""
    tests = TESTS if name == "core-thread" else TESTS + CUDA
    if name == "core":
        tests += ("test_torch_cusparse",)
    folder = build(name, *OPTIONS[name], targets=tests)
    output = run("ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error")
    assert "100% tests passed" in output and f"{len(tests)}/{len(tests)} Test" in output


def test_cpu_convolutions_under_valgrind():
    """No scalar or AVX2 kernel reads uninitialized memory. (Valgrind has no AVX-512.)"""
    if not shutil.which("valgrind"):
        pytest.skip("no valgrind: apt install valgrind")
    folder = build("core", *OPTIONS["core"], targets=TESTS + CUDA)
    command = ["valgrind", "--error-exitcode=1", "--leak-check=full", folder / "test_cpu_conv", 0]
    assert "0 failures" in run(*command)


def test_pytest_counts_tests_that_need_a_missing_tool_in_one_line():
    command = [sys.executable, "-m", "pytest", "tests/cpp/test_core.py", "-k", "valgrind"]
    done = subprocess.run(
        command, env={**os.environ, "PATH": "", "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    line = "1 tests need missing tools and were skipped: valgrind (1)"
    assert done.stdout.splitlines().count(line) == 1


def test_cmake_and_python_have_the_same_version(tmp_path):
    run("cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja")
    cache = (tmp_path / "CMakeCache.txt").read_text().splitlines()
    assert f"CMAKE_PROJECT_VERSION:STATIC={sparsetrain.__version__}" in cache

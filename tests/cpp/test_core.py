"""The C++ tests of the torch-free core, built with CMake, plain and sanitized."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from helpers.cmake_build import ROOT, build, run

TESTS = ("test_accel", "test_kernels", "test_threads", "test_work")
CUDA = (
    "test_cuda_conv",
    "test_cuda_cusparse",
    "test_cuda_prune",
)  # not under ThreadSanitizer, which does not follow fibers
OPTIONS = {
    # With the operators, as tests/test_libtorch.py builds the same folder.
    "core": ("-DSPARSETRAIN_OPS=ON", f"-DCMAKE_PREFIX_PATH={torch.__path__[0]}"),
    "core-address": ("-DSPARSETRAIN_SANITIZE=address,undefined",),
    "core-thread": ("-DSPARSETRAIN_SANITIZE=thread",),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_core(name):
    """accel: stepped chips; kernels: odd and random shapes; work: counts; threads: side by side;
    cuda_*: CUDA kernels, emulated; torch_cusparse: tensors around them.
    """
    tests = TESTS if name == "core-thread" else TESTS + CUDA
    if name == "core":
        tests += ("test_torch_cusparse",)
    folder = build(name, *OPTIONS[name], targets=tests)
    output = run("ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error")
    assert "100% tests passed" in output and f"{len(tests)}/{len(tests)} Test" in output


def test_odd_shapes_under_valgrind():
    """Scalar and AVX2: valgrind shows a processor without AVX-512. It sees what is not set, too."""
    if not shutil.which("valgrind"):
        pytest.skip("no valgrind: apt install valgrind")
    folder = build("core", *OPTIONS["core"], targets=TESTS + CUDA)
    command = ["valgrind", "--error-exitcode=1", "--leak-check=full", folder / "test_kernels", 0]
    assert "0 failures" in run(*command)


def test_tools_that_are_missing_are_counted_in_one_line():
    command = [sys.executable, "-m", "pytest", "tests/test_core.py", "-k", "valgrind"]
    done = subprocess.run(
        command, env={**os.environ, "PATH": "", "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.count("1 tests skipped for want of valgrind (1): README.md") == 1

"""The C++ tests of the torch-free core, built with CMake, plain and sanitized."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("sanitize", ["OFF", "ON"])
def test_core(sanitize):
    assert shutil.which("cmake") and shutil.which("ninja"), "make test installs both from PyPI"
    build = ROOT / "build" / f"core-{sanitize.lower()}"
    run("cmake", "-S", ".", "-B", build, "-G", "Ninja", f"-DSPARSETRAIN_SANITIZE={sanitize}")
    run("cmake", "--build", build, "-j", "2")
    output = run("ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error")
    assert "100% tests passed" in output

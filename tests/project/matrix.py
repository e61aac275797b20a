"""Builds and tests the supported combinations, for `make matrix`.

The combinations have all pairs of values of PyTorch, compiler, build and CUDA, with two exceptions:
clang with CUDA, whose host compiler is then g++, and g++ without CUDA. Each combination has a copy
of the tree and each PyTorch a virtual environment, all in build/matrix. The log of a combination
lies beside its copy, and the results of all are in build/matrix/results.txt.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "matrix"
REQUIREMENTS = ("setuptools>=77", "ninja", "numpy", "click>=8.1", "rich>=13", "torchvision",
                "pytest", "hypothesis")  # fmt: skip
TESTS = (
    "tests/ops/test_operators.py",
    "tests/ops/test_conv.py",
    "tests/ops/test_prune.py",
    "tests/ops/test_choice.py",
    "tests/layers/test_pruning.py",
    "tests/layers/test_nn.py",
    "tests/layers/test_state.py",
    "tests/commands/test_doctor.py",
)


@dataclass(frozen=True)
class Combination:
    """One combination of PyTorch, compiler, build and CUDA.

    Attributes:
        torch: Version of PyTorch without its last number.
        compiler: Name of the C++ compiler.
        debug: Build with the project's assertions and those of the standard library.
        cuda: Build the CUDA kernels too. If false, the CUDA toolkit is hidden.
    """

    torch: str
    compiler: str
    debug: bool
    cuda: bool

    def __str__(self) -> str:
        build = "debug" if self.debug else "release"
        return f"torch-{self.torch}-{self.compiler}-{build}-{'cuda' if self.cuda else 'cpu'}"

    def table_row(self) -> str:
        """The row of this combination in docs/versions.md."""
        build = "debug with assertions" if self.debug else "release"
        devices = "CPU and CUDA" if self.cuda else "CPU"
        return f"| {self.torch} | {self.compiler} | {build} | {devices} |"


COMBINATIONS = (
    Combination("2.15", "g++", debug=False, cuda=True),
    Combination("2.15", "clang++", debug=True, cuda=False),
    Combination("2.11", "g++", debug=True, cuda=True),
    Combination("2.11", "clang++", debug=False, cuda=False),
)


class CommandError(Exception):
    """A command ended with another exit code than 0."""


def run(command: list[str | Path], log: Path, folder: Path = ROOT, **variables: str) -> str:
    """Runs a command, appends its output to `log`, and returns the output."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env={**os.environ, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    with log.open("a") as file:
        file.write(f"$ {' '.join(map(str, command))}\n{done.stdout}\n")
    if done.returncode:
        raise CommandError
    return done.stdout


def python_with(torch: str, log: Path) -> Path:
    """The interpreter of a virtual environment with this version of PyTorch from PyPI."""
    folder = PLACE / f"torch-{torch}"
    python = folder / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", folder], log)
    run([python, "-m", "pip", "install", "--quiet", f"torch=={torch}.*", *REQUIREMENTS], log)
    return python


def copied_tree(combination: Combination) -> Path:
    """Copies the tracked files with their times, so that builds are incremental."""
    folder = PLACE / str(combination)
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        source, copy = ROOT / name, folder / name
        if source.is_file() and not (
            copy.exists() and copy.stat().st_mtime == source.stat().st_mtime
        ):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    return folder


def missing_tool(combination: Combination) -> str | None:
    """The first tool that a combination needs and that is not installed."""
    for tool in (combination.compiler, *(["nvcc"] if combination.cuda else [])):
        if not shutil.which(tool) and not Path("/usr/local/cuda/bin", tool).exists():
            return tool
    return None


def result(combination: Combination, log: Path) -> str:
    """Builds and tests a combination. Returns versions, devices, passed tests and times."""
    python = python_with(combination.torch, log)
    folder = copied_tree(combination)
    compiler = run([combination.compiler, "--version"], log)
    versions = run([python, "-c", "import sys, torch; print(*sys.version_info[:2], sep='.'); "
                    "print(torch.__version__)"], log).split()  # fmt: skip
    variables = {
        "CC": {"g++": "gcc", "clang++": "clang"}[combination.compiler],
        "CXX": combination.compiler,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    if not combination.cuda:
        empty = PLACE / "no-toolkit"
        empty.mkdir(exist_ok=True)
        variables["CUDA_HOME"] = str(empty)
    debug = ["--debug"] if combination.debug else []
    start = time.monotonic()
    output = run([python, "setup.py", "build_ext", "--inplace", *debug], log, folder, **variables)
    built = time.monotonic()
    (devices,) = re.findall(r"^sparsetrain: building (.*)$", output, re.MULTILINE)
    passed = run([python, "-m", "pytest", "-p", "no:cacheprovider", *TESTS], log, folder,
                 **variables).strip().splitlines()[-1]  # fmt: skip
    number = re.search(r"\d+\.\d+\.\d+", compiler)
    return (
        f"python {versions[0]}, torch {versions[1]}, {combination.compiler} "
        f"{number and number[0]}, {'debug' if combination.debug else 'release'}, "
        f"{devices.replace(str(PLACE), '')}: {re.sub(' in .*', '', passed)}, "
        f"build {built - start:.0f} s, tests {time.monotonic() - built:.0f} s"
    )


@click.command(help=__doc__)
def main() -> None:
    """Runs all combinations. Exit code 1 if one fails."""
    PLACE.mkdir(parents=True, exist_ok=True)
    lines, failed = [], False
    for combination in COMBINATIONS:
        log = PLACE / f"{combination}.log"
        log.unlink(missing_ok=True)
        try:
            tool = missing_tool(combination)
            line = f"skipped, there is no {tool}" if tool else result(combination, log)
        except CommandError:
            line, failed = f"FAILED, see {log.relative_to(ROOT)}", True
        lines.append(f"{combination}: {line}")
        click.echo(lines[-1])
        (PLACE / "results.txt").write_text("\n".join(lines) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()

"""Builds and tests the combinations that are supported: `python tests/project/matrix.py --log FILE`.

Every value of torch, compiler, build and CUDA with every other one, but for clang with CUDA and g++
without, in four cells. Each cell has a copy of the tree and each torch a virtual environment, all
in build/matrix, and is one line of the log; what a cell printed lies beside its copy.
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
NEEDS = ("setuptools>=77", "ninja", "numpy", "click>=8.1", "rich>=13", "torchvision", "pytest",
         "hypothesis")  # fmt: skip
TESTS = ("operators", "conv", "prune", "pruning", "nn", "choice", "resumption", "doctor")


@dataclass(frozen=True)
class Cell:
    """One combination."""

    torch: str
    compiler: str
    debug: bool  # with assertions, our own and those of the standard library
    cuda: bool  # else the toolkit is hidden

    def __str__(self) -> str:
        build = "debug" if self.debug else "release"
        return f"torch-{self.torch}-{self.compiler}-{build}-{'cuda' if self.cuda else 'cpu'}"


CELLS = (
    Cell("2.15", "g++", debug=False, cuda=True),
    Cell("2.15", "clang++", debug=True, cuda=False),
    Cell("2.11", "g++", debug=True, cuda=True),
    Cell("2.11", "clang++", debug=False, cuda=False),
)


class Failed(Exception):
    """A command ended with another exit code than 0."""


def run(command: list[str | Path], log: Path, folder: Path = ROOT, **variables: str) -> str:
    """What a command printed, which is added to `log` too."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env={**os.environ, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    with log.open("a") as file:
        file.write(f"$ {' '.join(map(str, command))}\n{done.stdout}\n")
    if done.returncode:
        raise Failed
    return done.stdout


def python_with(torch: str, log: Path) -> Path:
    """The interpreter of a virtual environment with this torch from PyPI."""
    folder = PLACE / f"torch-{torch}"
    python = folder / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", folder], log)
    run([python, "-m", "pip", "install", "--quiet", f"torch=={torch}.*", *NEEDS], log)
    return python


def copied_tree(cell: Cell) -> Path:
    """The files that git knows, as they are now, with their times: builds are incremental."""
    folder = PLACE / str(cell)
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        source, copy = ROOT / name, folder / name
        if source.is_file() and not (
            copy.exists() and copy.stat().st_mtime == source.stat().st_mtime
        ):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    return folder


def missing(cell: Cell) -> str | None:
    """The tool that a cell needs and that is not here."""
    for tool in (cell.compiler, *(["nvcc"] if cell.cuda else [])):
        if not shutil.which(tool) and not Path("/usr/local/cuda/bin", tool).exists():
            return tool
    return None


def outcome(cell: Cell, log: Path) -> str:
    """Builds and tests a cell: versions, what was built, what passed, how long it took."""
    python = python_with(cell.torch, log)
    folder = copied_tree(cell)
    compiler = run([cell.compiler, "--version"], log)
    versions = run([python, "-c", "import sys, torch; print(*sys.version_info[:2], sep='.'); "
                    "print(torch.__version__)"], log).split()  # fmt: skip
    variables = {
        "CC": cell.compiler.replace("++", "cc" if cell.compiler == "g++" else ""),
        "CXX": cell.compiler,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    if not cell.cuda:
        empty = PLACE / "no-toolkit"
        empty.mkdir(exist_ok=True)
        variables["CUDA_HOME"] = str(empty)
    build = [python, "setup.py", "build_ext", "--inplace", *(["--debug"] if cell.debug else [])]
    began = time.monotonic()
    said = run(build, log, folder, **variables)
    built = time.monotonic()
    (kind,) = re.findall(r"^sparsetrain: building (.*)$", said, re.MULTILINE)
    tests = [f"tests/test_{name}.py" for name in TESTS]
    passed = run([python, "-m", "pytest", "-p", "no:cacheprovider", *tests], log, folder,
                 **variables).strip().splitlines()[-1]  # fmt: skip
    number = re.search(r"\d+\.\d+\.\d+", compiler)
    return (
        f"python {versions[0]}, torch {versions[1]}, {cell.compiler} {number and number[0]}, "
        f"{'debug with assertions' if cell.debug else 'release'}, {kind.replace(str(PLACE), '')}: "
        f"{re.sub(' in .*', '', passed)}, build {built - began:.0f} s, "
        f"tests {time.monotonic() - built:.0f} s"
    )


@click.command(help=__doc__)
@click.option("--log", "path", type=click.Path(path_type=Path), help="write the lines here too")
def main(path: Path | None) -> None:
    """See the module."""
    PLACE.mkdir(parents=True, exist_ok=True)
    lines, failed = [], False
    for cell in CELLS:
        log = PLACE / f"{cell}.log"
        log.unlink(missing_ok=True)
        try:
            tool = missing(cell)
            said = f"skipped, there is no {tool}" if tool else outcome(cell, log)
        except Failed:
            said, failed = f"FAILED, see {log.relative_to(ROOT)}", True
        lines.append(f"{cell}: {said}")
        click.echo(lines[-1])
        if path:
            path.write_text("\n".join(lines) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()

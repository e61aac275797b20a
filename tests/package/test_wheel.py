"""Builds the wheel and the source distribution, installs the wheel elsewhere and uses it there."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import small_data
from helpers.paths import ROOT
from helpers.processes import locked, run

import sparsetrain

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
NOT_INSTALLED = {"sparsetrain/experiments/data/subset.py"}  # made the data files, once
EXTRAS = ("matplotlib", "plotly", "scipy", "tensorboard", "torchvision")


def tracked(*folders):
    """The files below these folders that git knows and that are there."""
    names = subprocess.check_output(["git", "ls-files", *folders], cwd=ROOT, text=True).split("\n")
    return {name for name in names if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that all processes of this run of pytest share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "package"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def wheel(shared):
    """The wheel. Its build compiles only what changed since the last build of this checkout."""
    with locked(shared / "wheel.lock"):
        if not list(shared.glob("*.whl")):
            run(*PIP, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", shared, ROOT)
    (path,) = shared.glob("*.whl")
    return path


@dataclass
class Installed:
    """A virtual environment with the wheel, and with the dependencies of this environment."""

    folder: Path

    def python(self, *arguments, cwd):
        """Runs the environment's Python, which does not find the checkout."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return run(self.folder / "bin" / "python", *arguments, cwd=cwd, env=environment)

    def without_extras(self, *arguments, cwd):
        """Runs the command line as if no optional dependency were installed."""
        program = f"import sys; sys.modules |= dict.fromkeys({EXTRAS}); "
        return self.python(
            "-c", program + "from sparsetrain.__main__ import main; main()", *arguments, cwd=cwd
        )


@pytest.fixture(scope="module")
def installed(shared, wheel):
    environment = Installed(shared / "environment")
    with locked(shared / "environment.lock"):
        if not (environment.folder / "bin" / "sparsetrain").exists():
            run(sys.executable, "-m", "venv", "--without-pip", environment.folder)
            (site_packages,) = environment.folder.glob("lib/python*/site-packages")
            # Folders that a .pth file adds are searched last, and their own .pth files are not
            # read: so torch is found, but not an editable installation of the checkout.
            here = sysconfig.get_paths()
            (site_packages / "here.pth").write_text(f"{here['purelib']}\n{here['platlib']}\n")
            python = environment.folder / "bin" / "python"
            run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel)
    return environment


def test_the_wheel_has_every_file_of_the_package_and_the_compiled_module(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    compiled = {name for name in names if name.startswith("sparsetrain/_C.") and ".so" in name}
    assert len(compiled) == 1
    assert names - compiled >= tracked("sparsetrain") - NOT_INSTALLED
    assert not names & NOT_INSTALLED


def test_the_source_distribution_has_what_a_build_needs(tmp_path):
    program = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    run(sys.executable, "-c", program)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = tracked(
        "sparsetrain", "csrc", "cmake", "tests/cpp/*.cpp", "tests/cpp/*.h", "tests/cpp/emulator",
        "examples/cpp", "CMakeLists.txt", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml",
        "setup.py",
    )  # fmt: skip
    assert needed - names == set()
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_the_installed_package_is_found_and_has_the_version_of_the_source(installed, tmp_path):
    program = "import sparsetrain; print(sparsetrain.__file__, sparsetrain.__version__)"
    file, version = installed.python("-c", program, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed.folder)
    assert version == sparsetrain.__version__
    program = "from importlib.metadata import version; print(version('sparsetrain'))"
    assert installed.python("-c", program, cwd=tmp_path).strip() == version
    command = installed.folder / "bin" / "sparsetrain"
    assert run(command, "--version", cwd=tmp_path) == f"sparsetrain {version}\n"


def test_doctor_passes_where_the_package_is_installed(installed, tmp_path):
    printed = run(installed.folder / "bin" / "sparsetrain", "doctor", cwd=tmp_path)
    assert "checks passed" in printed


def test_train_finds_its_images_and_needs_no_extra(installed, tmp_path):
    options = ["--model", "plain", "--epochs", "1", "--batch-size", "1000", "--json", "run.json"]
    installed.without_extras("train", *options, cwd=tmp_path)
    result = json.loads((tmp_path / "run.json").read_text())
    assert len(result["epochs"]) == 1


def test_a_sweep_and_its_report_run_where_the_package_is_installed(installed, tmp_path):
    data = small_data.write(tmp_path / "data", train=64, test=50)
    rules = ["--rule", "dense", "--rule", "rate 0.9"]
    options = ["--epochs", "1", "--batch-size", "32", "--data-dir", data]
    installed.without_extras("sweep", "runs/one", *rules, *options, cwd=tmp_path)
    assert len((tmp_path / "runs" / "one" / "results.jsonl").read_text().splitlines()) == 2
    installed.python("-m", "sparsetrain", "report", "runs/one", "-o", "page.html", cwd=tmp_path)
    page = (tmp_path / "page.html").read_text()
    assert "<style" in page and "<script" in page  # page.css and page.js

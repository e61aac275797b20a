"""CMake builds in build/ that several tests share, also tests of other processes."""

import shutil

from helpers.paths import ROOT
from helpers.processes import locked, run


def build(name, *options, source=".", targets=("all",)):
    """Builds `targets` of the CMake project in `source`; returns the build folder build/`name`."""
    assert shutil.which("cmake") and shutil.which("ninja"), "`make test` installs cmake and ninja"
    folder = ROOT / "build" / name
    with locked(folder / "lock"):
        run("cmake", "-S", source, "-B", folder, "-G", "Ninja", *options)
        run("cmake", "--build", folder, "-j", "2", "--target", *targets)
    return folder

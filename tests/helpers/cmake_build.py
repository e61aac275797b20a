"""Builds with CMake that several tests, in several processes, may share."""

import fcntl
import shutil
import subprocess

from helpers.paths import ROOT


def run(*command):
    """What a command prints; its own output is the failure's."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(name, *options, source=".", targets=("all",)):
    """The folder build/`name` with `targets` of `source` built there; one process at a time."""
    assert shutil.which("cmake") and shutil.which("ninja"), "make test installs both from PyPI"
    folder = ROOT / "build" / name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("cmake", "-S", source, "-B", folder, "-G", "Ninja", *options)
        run("cmake", "--build", folder, "-j", "2", "--target", *targets)
    return folder

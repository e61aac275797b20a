"""Runs commands for tests, and makes processes take turns."""

import contextlib
import fcntl
import subprocess

from helpers.paths import ROOT


def run(*command, cwd=ROOT, env=None):
    """Returns what a command prints; fails with its whole output if it fails."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=cwd,
        env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def locked(file):
    """Holds a lock on `file`, so that one test process at a time runs the body."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

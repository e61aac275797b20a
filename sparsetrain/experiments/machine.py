"""The machine that something was measured on, for every file with a time in it."""

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from sparsetrain.version import __version__


def describe(threads: int) -> dict[str, Any]:
    """Processor, cores, the threads that were used, and versions: `machine` of docs/formats.md."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "sparsetrain": __version__,
    }


def origin(threads: int) -> dict[str, Any]:
    """The command of this process, as a shell would take it, and the machine: of every result."""
    return {"command": shlex.join(sys.orig_argv), "machine": describe(threads)}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()

"""Describes the machine and the command for result files, which contain measured times."""

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from sparsetrain.version import __version__


def describe(threads: int) -> dict[str, Any]:
    """Processor, cores, threads used and versions: the field `machine` of result files."""
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
    """The fields `command`, quoted for a shell, and `machine` of every result."""
    return {"command": shlex.join(sys.orig_argv), "machine": describe(threads)}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()

"""Small data sets for tests that train, and the comparison of their results without times."""

import gzip
from pathlib import Path
from typing import Any

from sparsetrain.experiments.datasets import SHIPPED

FILES = {"images-idx3-ubyte": (16, 28 * 28), "labels-idx1-ubyte": (8, 1)}  # header, item in bytes
TIMES = ("seconds", "step_seconds", "cpu_seconds", "step_cpu_seconds", "parts")
ORIGIN = ("command", "machine")


def write(folder: Path, *, train: int = 192, test: int = 100, zipped: bool = True) -> Path:
    """Writes the first images of both parts of the shipped subset as idx files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        for kind, (header, item) in FILES.items():
            name = f"{part}-{kind}"
            content = gzip.decompress((SHIPPED / f"{name}.gz").read_bytes())
            content = content[:4] + count.to_bytes(4, "big") + content[8 : header + item * count]
            path = folder / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(content, 1) if zipped else content)
    return folder


def without_times(content: Any) -> Any:
    """`content` without measured times, and without the command and the machine of the run."""
    omitted = TIMES + ORIGIN
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in omitted}
    return [without_times(value) for value in content] if isinstance(content, list) else content

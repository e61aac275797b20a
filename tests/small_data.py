"""A handful of the shipped images, laid down as files, for tests that train for a second."""

import gzip
from pathlib import Path

from sparsetrain.datasets import SHIPPED

FILES = {"images-idx3-ubyte": (16, 28 * 28), "labels-idx1-ubyte": (8, 1)}  # header, item: bytes


def write(folder: Path, *, train: int = 192, test: int = 100, zipped: bool = True) -> Path:
    """The first images of both parts of the shipped subset as idx files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        for kind, (header, item) in FILES.items():
            name = f"{part}-{kind}"
            content = gzip.decompress((SHIPPED / f"{name}.gz").read_bytes())
            content = content[:4] + count.to_bytes(4, "big") + content[8 : header + item * count]
            path = folder / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(content, 1) if zipped else content)
    return folder

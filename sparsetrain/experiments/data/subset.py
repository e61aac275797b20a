"""Cuts the shipped images from the full Fashion-MNIST: `python subset.py SOURCE_DIR TARGET_DIR`."""

import gzip
import sys
from pathlib import Path

KEEP = {"train": 10_000, "t10k": 2_000}  # number of images that are kept of each part
FILES = {"images-idx3": (16, 28 * 28), "labels-idx1": (8, 1)}  # bytes of the header, of an item


def cut(content: bytes, header: int, item: int, keep: int) -> bytes:
    """The idx file `content` with only its first `keep` items. Bytes 4 to 7 hold their number."""
    return content[:4] + keep.to_bytes(4, "big") + content[8 : header + keep * item]


def main(source: Path, target: Path) -> None:
    """Reads the four files from `source` and writes their beginnings, reproducibly, to `target`."""
    for part, keep in KEEP.items():
        for kind, (header, item) in FILES.items():
            name = f"{part}-{kind}-ubyte.gz"
            content = cut(gzip.decompress((source / name).read_bytes()), header, item, keep)
            (target / name).write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Writes files atomically, as JSON or CSV: for commands, checkpoints and benchmarks.

A file is written under a temporary name in its folder and then moved to its place, so that a reader
sees either the old or the new content.
"""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO


def check_writable(path: Path) -> None:
    """Checks before any work whether `path` can be written. An existing file stays unchanged.

    Raises:
        OSError: The folder is missing or not writable, or `path` is itself a folder.
    """
    where = f"sparsetrain.experiments.files.check_writable: expected {path} to be writable, got"
    if path.is_dir():
        raise IsADirectoryError(f"{where} a folder")
    if _is_stream(path):
        return
    folder = _target(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{where} no folder {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{where} a folder that is not ({error.strerror})") from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Calls `write` on a temporary file and moves it to `path` when it is complete on the disk.

    A symbolic link at `path` is kept, and its target replaced. A pipe or a device is written
    directly.

    Raises:
        OSError: The file cannot be written. An existing file is then unchanged.
    """
    try:
        if _is_stream(path):
            with path.open("wb") as stream:
                write(stream)
            return
        target = _target(path)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OSError(
            f"sparsetrain.experiments.files.write_atomically: expected {path} to be written, got "
            f"{error.strerror or error}. The previous content is kept"
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` as indented JSON. Raises ValueError for NaN and Inf: JSON has neither."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `rows` as CSV. There must be at least one, and all must have the same fields."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _is_stream(path: Path) -> bool:
    """Whether `path` is a pipe or a device, which cannot be replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _target(path: Path) -> Path:
    """`path` with symbolic links resolved. The file need not exist."""
    return path.resolve() if path.is_symlink() else path


def _umask() -> int:
    """The umask of the process, which mkstemp() ignores. It can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask

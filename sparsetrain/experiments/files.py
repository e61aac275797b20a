"""Files that are either whole or not there: written beside their place, then moved into it."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO


def check_writable(path: Path) -> None:
    """Find out now whether `path` can be written later, leaving what is there as it is.

    Raises OSError with one sentence if its folder is missing or cannot be written, or if `path` is
    a folder itself.
    """
    where = f"sparsetrain.experiments.files: expected {path} to be a file that can be written, got"
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
        raise OSError(f"{where} a folder that cannot be ({error.strerror})") from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` on a new file and put it at `path` only when it is complete and on the disk.

    Whatever happens, `path` holds the old content or the new. A link goes on naming the same file;
    into a pipe or a device is written as it is. Raises OSError with one sentence.
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
            f"sparsetrain.experiments.files: expected {path} to be written, got {error.strerror or error}. "
            "What was there before is still there"
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON, atomically. NaN and Inf are a ValueError: JSON has none."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `rows` (at least one, all with the fields of the first) as CSV, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _target(path: Path) -> Path:
    """What `path` names, behind links; the file need not exist."""
    return path.resolve() if path.is_symlink() else path


def _umask() -> int:
    """The process's mask, which can only be read by setting it; mkstemp ignores it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask

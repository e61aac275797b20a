"""Files are whole or not there, and links, pipes and permissions are what they were."""

import os
import threading
from typing import Any

import pytest

from sparsetrain.experiments.files import check_writable, write_atomically, write_json


def test_files_are_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: Any) -> None:
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": float("nan")})
    assert path.read_bytes() == b"old"


def test_checking_a_path_changes_nothing(tmp_path):
    check_writable(tmp_path / "new")
    (tmp_path / "old").write_text("old")
    check_writable(tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_written_files_have_ordinary_permissions(tmp_path):
    write_json(tmp_path / "run.json", {})
    (tmp_path / "plain").touch()
    modes = {oct((tmp_path / name).stat().st_mode) for name in ("run.json", "plain")}
    assert len(modes) == 1


def test_a_link_goes_on_naming_the_file_that_is_replaced(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    for name in ("old", "new"):  # the second one names no file yet
        link = tmp_path / name
        link.symlink_to(folder / name)
        check_writable(link)
        write_atomically(link, lambda file: file.write(b"fresh"))
        assert link.is_symlink() and (folder / name).read_bytes() == b"fresh"
    assert sorted(path.name for path in folder.iterdir()) == ["new", "old"]


def test_a_link_into_a_missing_folder_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "missing" / "file")
    with pytest.raises(FileNotFoundError, match=r"got no folder .*missing"):
        check_writable(tmp_path / "link")


def test_a_pipe_is_written_into(tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    check_writable(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_json(path, {"a": 1})
    reader.join()
    assert read == [b'{\n  "a": 1\n}\n'] and path.is_fifo()

"""Files are replaced as a whole; links, pipes and permissions are kept."""

import os
import sys
import threading
from typing import Any

import pytest
from helpers import small_data
from helpers.processes import run

from sparsetrain.experiments.files import check_writable, write_atomically, write_json


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
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


def test_a_link_is_kept_and_its_target_replaced(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    for name in ("old", "new"):  # the target "new" does not exist yet
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


FULL = """
import resource, signal, sys
from pathlib import Path
from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.files import write_csv, write_json
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer

folder, path = Path(sys.argv[1]), Path(sys.argv[2])
trainer = Trainer(Settings(rate=0.9), datasets.load(data_dir=folder))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
rows = [{"value": i} for i in range(10_000)]
for write in (
    lambda: checkpoint.save(path, trainer),
    lambda: write_json(path, {"rows": rows}),
    lambda: write_csv(path, rows),
):
    try:
        write()
    except OSError as error:
        print(error)
"""


def test_a_write_to_a_full_disk_keeps_the_old_file(tmp_path):
    """A limit on the size of files fails in the middle of a write, as a full disk does."""
    folder, path = small_data.write(tmp_path / "data"), tmp_path / "runs" / "file"
    path.parent.mkdir()
    path.write_bytes(b"old")
    sentence = (
        f"sparsetrain.experiments.files.write_atomically: expected {path} to be written, got File "
        "too large. The previous content is kept"
    )
    printed = run(sys.executable, "-c", FULL, folder, path)
    assert printed.splitlines() == [sentence] * 3
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]

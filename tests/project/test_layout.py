"""The layout of the checkout is the one that docs/architecture.md describes: includes, folders."""

import re
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest
from helpers.paths import ROOT
from sources import CXX, code_files, tracked_files

from sparsetrain import pruning

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CODE = code_files()
LIBRARY = [name for name in CODE if name.startswith(("csrc/", "sparsetrain/"))]
CXX_FILES = [name for name in CODE if name.endswith(tuple(CXX)) and name.startswith("csrc/")]


def section(mark):
    """The part of the page between its two comments of this name."""
    return ARCHITECTURE.split(f"<!-- {mark} -->")[1].split(f"<!-- end of {mark} -->")[0]


def table_of_includes():
    """{folder: (folders that it may include, patterns of other headers)}"""
    rows = [line.split("|")[1:4] for line in section("includes").splitlines() if "`" in line]
    cells = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows]
    return {folder: (folders, headers) for (folder,), folders, headers in cells}


MAY_INCLUDE = table_of_includes()


def is_standard(header):
    return re.fullmatch(r"<[a-z_0-9]+>", header) is not None and header != "<iostream>"


def includes(name):
    return re.findall(r'^\s*#\s*include\s*([<"][^>"]*[>"])', (ROOT / name).read_text(), re.M)


def may_include(name, header):
    """Whether a file may include a header, by the table of docs/architecture.md."""
    folder = str(PurePosixPath(name).parent)
    folders, headers = MAY_INCLUDE[folder]
    if header.startswith("<"):
        if "std" in headers and is_standard(header):
            return True
        return any(fnmatchcase(header, pattern) for pattern in headers)
    target = (ROOT / name).parent.joinpath(header.strip('"')).resolve()
    return str(target.parent.relative_to(ROOT)) in (folder, *folders)


@pytest.mark.parametrize("name", CXX_FILES)
def test_files_include_only_what_their_folder_may(name):
    assert [header for header in includes(name) if not may_include(name, header)] == []


def test_table_of_includes_has_every_folder():
    folders = {str(PurePosixPath(name).parent) for name in CXX_FILES}
    assert folders == set(MAY_INCLUDE)


def test_forbidden_includes_are_found():
    assert not may_include("csrc/kernels/cpu/prune.cpp", "<vector>")
    assert not may_include("csrc/kernels/cpu/prune.cpp", '"../cuda/tile.h"')
    assert not may_include("csrc/accel/model.cpp", "<ATen/ATen.h>")
    assert not may_include("csrc/torch/ops.cpp", "<torch/extension.h>")
    assert may_include("csrc/torch/cpu/conv.cpp", '"../../kernels/cpu/api.h"')


def test_the_folder_map_is_the_tree():
    """All folders, all files at the top, and all modules of the library; no others."""
    listed = set(
        re.findall(r"^(\S+)", section("map").replace("```text", "").replace("```", ""), re.M)
    )
    folders = {f"{parent}/" for name in tracked_files() for parent in PurePosixPath(name).parents}
    for name in listed - folders:
        assert (ROOT / name).is_file(), f"{name} is only in the map"
    # Folders of GitHub's templates, of dotfiles, and of the emulator's headers are one entry each.
    single = (".github/", "tests/cpp/emulator/")
    wanted = {each for each in folders if each != "./" and not each.startswith(single)}
    wanted |= {each for each in single if each in folders}
    wanted -= {"csrc/kernels/"}  # has no files of its own
    assert {each for each in listed if each.endswith("/")} == wanted
    modules = {
        name
        for name in tracked_files()
        if (name.count("/") == 0 and not name.startswith("."))
        or re.match(r"sparsetrain/[^/]+$", name)
    }
    assert {each for each in listed if not each.endswith("/")} == modules


@pytest.mark.parametrize("name", CODE)
def test_files_stay_short(name):
    lines = (ROOT / name).read_text().splitlines()
    assert len(lines) <= 400
    assert max(map(len, lines), default=0) <= 100


def test_oracle_examples_and_benchmarks_do_not_use_the_compiled_module():
    """Import contracts cannot see compiled modules."""
    users = ["sparsetrain/reference.py", *(n for n in CODE if n.startswith(("examples", "bench")))]
    assert [name for name in users if re.search(r"\b_C\b", (ROOT / name).read_text())] == []


def test_library_neither_prints_nor_exits():
    pattern = re.compile(r"\bstd::(cout|cerr|exit|abort)\b|\bprintf\(")
    assert [name for name in LIBRARY if pattern.search((ROOT / name).read_text())] == []


def test_no_notes_are_left():
    pattern = re.compile(r"\b(TODO|FIXME|XXX)\b")
    files = [name for name in CODE if name != "tests/project/test_layout.py"]
    assert [name for name in files if pattern.search((ROOT / name).read_text())] == []


def test_python_and_cxx_agree_on_the_slots_of_a_pruner():
    text = (ROOT / "csrc" / "kernels" / "common" / "state_slots.h").read_text()
    slots = re.findall(r"^  k(\w+),", text.split("enum Slot")[1].split("};")[0], re.M)
    names = [re.sub(r"(?<!^)(?=[A-Z])", "_", slot).upper() for slot in slots]
    assert names[-1] == "FIFO"
    assert len(names) - 1 == pruning.HEADER
    assert [getattr(pruning, name) for name in names[:-1]] == list(range(pruning.HEADER))

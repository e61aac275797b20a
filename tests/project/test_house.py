"""The borders of the house that no linter knows: C++ includes, file lengths, words not said."""

import re
import subprocess

import pytest
from helpers.paths import ROOT

from sparsetrain import pruning

KEPT = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
FILES = [ROOT / name for name in KEPT.stdout.split() if (ROOT / name).is_file()]
CODE = [f for f in FILES if f.suffix in {".py", ".pyi", ".h", ".inl", ".cpp", ".cu", ".cuh"}]
CXX = [f for f in CODE if f.suffix not in {".py", ".pyi"}]
STD = r"<[a-z_0-9]+>"


def includes(file):
    for line in file.read_text().splitlines():
        if match := re.match(r'\s*#\s*include\s*([<"].*[>"])', line):
            yield match.group(1)


def in_folder(file, folder):
    return file.is_relative_to(ROOT / folder)


# The folders whose files a folder may include, besides its own and the standard library; see
# docs/architecture.md.
MAY_INCLUDE = {
    "csrc/kernels/common": ["csrc/shape.h"],
    "csrc/kernels/cpu": ["csrc/shape.h", "csrc/kernels/common"],
    "csrc/kernels/cuda": ["csrc/shape.h", "csrc/kernels/common"],
    "csrc/choice": ["csrc/shape.h", "csrc/kernels"],
    "csrc/accel": ["csrc/shape.h"],
    "csrc/torch": ["csrc"],
}
SYSTEM = {
    "csrc/kernels/cpu": r"<immintrin\.h>|<cpuid\.h>",
    "csrc/kernels/cuda": r"<cuda_runtime.*>|<cub/.*>|<cusparse\.h>",
    "csrc/choice": r"<cpuid\.h>",
    "csrc/torch": r"<(ATen|c10|pybind11|torch/(library\.h|csrc/.*))[^>]*>",
}


def allowed(file, include):
    """Whether the file's folder may include this."""
    if include == "<iostream>":
        return False
    folder = next((f for f in MAY_INCLUDE if in_folder(file, f)), None)
    if folder is None:
        return True
    if include.startswith("<"):
        return bool(re.fullmatch(STD, include) or re.fullmatch(SYSTEM.get(folder, "$"), include))
    target = (file.parent / include.strip('"')).resolve()
    return in_folder(target, folder) or any(in_folder(target, f) for f in MAY_INCLUDE[folder])


def test_tree_is_known_to_git():
    assert len(CODE) > 20


@pytest.mark.parametrize("file", CXX, ids=lambda f: str(f.relative_to(ROOT)))
def test_folders_include_only_what_they_may(file):
    assert [i for i in includes(file) if not allowed(file, i)] == []


def test_the_oracle_and_operators_keep_their_distance():
    """What the import contracts cannot see: _C is a compiled module."""
    assert "_C" not in (ROOT / "sparsetrain" / "reference.py").read_text()
    for folder in ("examples", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"\b_C\b", file.read_text()), file


@pytest.mark.parametrize("file", CODE, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_stay_short(file):
    lines = file.read_text().splitlines()
    assert len(lines) <= 400
    assert max(map(len, lines), default=0) <= 100


def test_python_and_cxx_agree_on_the_slots_of_a_pruner():
    text = (ROOT / "csrc" / "kernels" / "common" / "state_slots.h").read_text()
    slots = re.findall(r"^  k(\w+),", text.split("enum Slot")[1].split("};")[0], re.MULTILINE)
    names = [re.sub(r"(?<!^)(?=[A-Z])", "_", slot).upper() for slot in slots]
    assert names[-1] == "FIFO"
    assert len(names) - 1 == pruning.HEADER
    assert [getattr(pruning, name) for name in names[:-1]] == list(range(pruning.HEADER))


def test_library_neither_exits_nor_prints_nor_leaves_notes():
    pattern = re.compile(r"\bstd::(cout|cerr|exit|abort)\b|\bprintf\(|\b(TODO|FIXME|XXX)\b")
    for file in CODE:
        if in_folder(file, ".") or file.is_relative_to(ROOT / "sparsetrain"):
            assert not pattern.search(file.read_text()), file


def test_readme_map_names_what_exists():
    readme = (ROOT / "README.md").read_text()
    tree = readme.split("## The map", 1)[1].split("```")[1]
    named = re.findall(r"^(\S+)", tree, re.MULTILINE)
    assert len(named) > 10
    for name in named:
        assert list(ROOT.glob(name.rstrip("/"))), f"{name} is in the README's map only"

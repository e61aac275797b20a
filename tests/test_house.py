"""The borders of the house that no linter knows: C++ includes, file lengths, words not said."""

import re
import subprocess
from pathlib import Path

import pytest

from sparsetrain import pruning

ROOT = Path(__file__).parent.parent
KEPT = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
FILES = [ROOT / name for name in KEPT.stdout.split() if (ROOT / name).is_file()]
CODE = [f for f in FILES if f.suffix in {".py", ".pyi", ".h", ".inl", ".cpp", ".cu", ".cuh"}]
CXX = [f for f in CODE if f.suffix not in {".py", ".pyi"}]
STD = r"<[a-z_0-9]+>"


def includes(file):
    for line in file.read_text().splitlines():
        if match := re.match(r'\s*#\s*include\s*([<"].*[>"])', line):
            yield match.group(1)


def in_room(file, room):
    return file.is_relative_to(ROOT / "csrc" / room)


def allowed(file, include):
    """Whether a room's files may include this; see the README's map."""
    own = include.startswith('"') and "/" not in include
    std = re.fullmatch(STD, include) and include != "<iostream>"
    if in_room(file, "kernels"):
        if in_room(file, "kernels/cuda"):
            return bool(
                own or std or re.match(r'<cuda_runtime|<cusparse\.h>|"(\.\./)+\w+\.h"', include)
            )
        return bool(own or std or include in {'"../shape.h"', "<immintrin.h>", "<cpuid.h>"})
    if in_room(file, "accel"):
        return bool(own or std or include == '"../shape.h"')
    return include not in {"<torch/extension.h>", "<torch/torch.h>", "<iostream>"}


def test_tree_is_known_to_git():
    assert len(CODE) > 20


@pytest.mark.parametrize("file", CXX, ids=lambda f: str(f.relative_to(ROOT)))
def test_rooms_include_only_what_they_may(file):
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
    text = (ROOT / "csrc" / "kernels" / "state.h").read_text()
    slots = re.findall(r"^  k(\w+),", text.split("enum Slot")[1].split("};")[0], re.MULTILINE)
    names = [re.sub(r"(?<!^)(?=[A-Z])", "_", slot).upper() for slot in slots]
    assert names[-1] == "FIFO"
    assert len(names) - 1 == pruning.HEADER
    assert [getattr(pruning, name) for name in names[:-1]] == list(range(pruning.HEADER))


def test_library_neither_exits_nor_prints_nor_leaves_notes():
    pattern = re.compile(r"\bstd::(cout|cerr|exit|abort)\b|\bprintf\(|\b(TODO|FIXME|XXX)\b")
    for file in CODE:
        if in_room(file, ".") or file.is_relative_to(ROOT / "sparsetrain"):
            assert not pattern.search(file.read_text()), file


def test_readme_map_names_what_exists():
    readme = (ROOT / "README.md").read_text()
    tree = readme.split("## The map", 1)[1].split("```")[1]
    named = re.findall(r"^(\S+)", tree, re.MULTILINE)
    assert len(named) > 10
    for name in named:
        assert list(ROOT.glob(name.rstrip("/"))), f"{name} is in the README's map only"

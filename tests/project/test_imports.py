"""Laws of the Python package's modules that the import contracts in pyproject.toml cannot state."""

import importlib
import pkgutil
import re
import types

import pytest
from helpers.paths import ROOT

import sparsetrain

MODULES = ["sparsetrain"] + [
    module.name
    for module in pkgutil.walk_packages(sparsetrain.__path__, "sparsetrain.")
    if not module.name.endswith(("__main__", "._C"))
]


@pytest.mark.parametrize("name", MODULES)
def test_an_import_by_name_yields_the_module(name):
    """A package that exports a function by the name of a module would hide the module."""
    package, _, attribute = name.rpartition(".")
    module = importlib.import_module(name)
    if package:
        found = getattr(importlib.import_module(package), attribute)
        assert isinstance(found, types.ModuleType) and found is module


def test_only_native_imports_the_compiled_module():
    """Its error message says how to build the compiled module."""
    pattern = re.compile(
        r"from sparsetrain import .*\b_C\b|import sparsetrain\._C|from \. import _C"
    )
    importers = [
        str(file.relative_to(ROOT))
        for folder in ("sparsetrain", "benchmarks", "examples")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if pattern.search(file.read_text())
    ]
    assert importers == ["sparsetrain/_native.py"]

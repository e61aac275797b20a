"""The version of SparseTrain, read by pyproject.toml and CMakeLists.txt."""

__version__ = "0.1.0"

"""Loads the compiled module and exports it as `_C`; all other modules import it from here."""

import importlib
from typing import TYPE_CHECKING

import torch as _torch  # noqa: F401  must come first: _C links against torch's libraries

try:
    # At run time by name: import-linter takes `from sparsetrain import _C` for an import of the
    # package, because it does not see compiled modules, and the package imports every module.
    if TYPE_CHECKING:
        from sparsetrain import _C as _C
    else:
        _C = importlib.import_module("sparsetrain._C")

    _C.isa()  # raises here for an unknown SPARSETRAIN_ISA, rather than in the first backward pass
except ImportError as error:
    raise ImportError(
        f"sparsetrain: expected the compiled module sparsetrain._C to load, got: {error}. "
        "Build it with `make build` or `pip install --no-build-isolation .`"
    ) from error

PASSES = tuple(_C.Pass.__members__)
"""Names of the three convolutions of a training step, in the order in which they run."""

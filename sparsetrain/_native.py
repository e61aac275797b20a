"""Loads the compiled module as `_C`; every module of the package that needs it imports it here."""

import torch as _torch  # noqa: F401  first: _C links against its libraries

try:
    from sparsetrain import _C as _C

    _C.isa()  # refuses an unknown SPARSETRAIN_ISA here rather than in the middle of a backward
except ImportError as error:
    raise ImportError(
        f"sparsetrain: expected the compiled module sparsetrain._C to load, got: {error}. "
        "Build it with `make build` or `pip install --no-build-isolation .`"
    ) from error

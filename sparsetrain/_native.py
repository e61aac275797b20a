"""Loads the compiled module as `_C`; every module of the package that needs it imports it here."""

import torch as _torch  # noqa: F401  must come first: _C links against torch's libraries

try:
    from sparsetrain import _C as _C

    _C.isa()  # raises here for an unknown SPARSETRAIN_ISA, rather than in the first backward pass
except ImportError as error:
    raise ImportError(
        f"sparsetrain: expected the compiled module sparsetrain._C to load, got: {error}. "
        "Build it with `make build` or `pip install --no-build-isolation .`"
    ) from error

PASSES = tuple(_C.Pass.__members__)
"""Names of the three convolutions of a training step, in the order in which they run."""

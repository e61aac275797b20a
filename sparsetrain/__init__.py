"""SparseTrain: pruned gradients, convolutions that skip zeros, and what both save on a chip."""

import torch as _torch  # noqa: F401  first: _C links against its libraries

try:
    from sparsetrain import _C as _C
except ImportError as error:
    raise ImportError(
        f"sparsetrain: expected the compiled module sparsetrain._C to load, got: {error}. "
        "Build it with `make build` or `pip install --no-build-isolation .`"
    ) from error

from sparsetrain.ops import conv2d, explain, prune

__all__ = ["conv2d", "explain", "prune"]

"""SparseTrain: pruned gradients, convolutions that skip zeros, and what both save on a chip."""

import torch as _torch  # noqa: F401  first: _C links against its libraries

try:
    from sparsetrain import _C as _C

    _C.isa()  # refuses an unknown SPARSETRAIN_ISA here rather than in the middle of a backward
except ImportError as error:
    raise ImportError(
        f"sparsetrain: expected the compiled module sparsetrain._C to load, got: {error}. "
        "Build it with `make build` or `pip install --no-build-isolation .`"
    ) from error

from sparsetrain.conversion import (
    average_thresholds,
    convert,
    rescale_thresholds,
    revert,
    set_rate,
)
from sparsetrain.costs import costs, set_costs
from sparsetrain.inspection import describe, stats
from sparsetrain.nn import SparseConv2d
from sparsetrain.ops import conv2d, explain, prune
from sparsetrain.pruning import PruneGrad
from sparsetrain.resumption import load_pruning_state, pruning_state

__all__ = [
    "PruneGrad",
    "SparseConv2d",
    "average_thresholds",
    "conv2d",
    "convert",
    "costs",
    "describe",
    "explain",
    "load_pruning_state",
    "prune",
    "pruning_state",
    "rescale_thresholds",
    "revert",
    "set_costs",
    "set_rate",
    "stats",
]

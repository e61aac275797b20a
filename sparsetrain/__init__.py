"""SparseTrain prunes activation gradients, skips zeros in convolutions, and counts the savings."""

import sparsetrain._native  # noqa: F401  must come first: its error says how to build _C
from sparsetrain.conversion import (
    average_thresholds,
    convert,
    rescale_thresholds,
    revert,
    set_rate,
)
from sparsetrain.cost_table import costs, set_costs
from sparsetrain.explanation import explain
from sparsetrain.inspection import describe, stats
from sparsetrain.nn import SparseConv2d
from sparsetrain.ops import conv2d, prune
from sparsetrain.pruning import PruneGrad
from sparsetrain.state import load_pruning_state, pruning_state
from sparsetrain.version import __version__ as __version__

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

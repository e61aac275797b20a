"""SparseTrain: pruned gradients, convolutions that skip zeros, and what both save on a chip."""

import sparsetrain._native  # noqa: F401  first: says what to do where _C does not load
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

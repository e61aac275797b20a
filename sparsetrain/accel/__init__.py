"""The cost of a training step on the SparseTrain accelerator and on its dense twin.

Three immutable values go in: a `Workload` (the convolutions of a step and where their operands are
zero), a `Config` (a chip) and `Prices`. A `Report` of counts, cycles and energy comes out.
"""

from sparsetrain._native import PASSES
from sparsetrain.accel.chips import (
    CHIPS,
    PRICES,
    chip,
    dense_twin168,
    prices,
    sparsetrain168,
)
from sparsetrain.accel.core import Config, Counts, Energy, Prices, dense_twin
from sparsetrain.accel.exploration import Point, explore
from sparsetrain.accel.layers import Layer, Workload
from sparsetrain.accel.meter import CostMeter, LayerCost, StepCost
from sparsetrain.accel.recording import Recorder, record, workload
from sparsetrain.accel.report import (
    LEVELS,
    Comparison,
    LayerReport,
    Report,
    compare,
    disassemble,
    estimate,
    simulate,
)
from sparsetrain.accel.tables import bound, gains, layer_rows, limits, total, utilization
from sparsetrain.accel.toml import Catalog, find_chip, find_prices, read_toml

__all__ = [
    "CHIPS",
    "LEVELS",
    "PASSES",
    "PRICES",
    "Catalog",
    "Comparison",
    "Config",
    "CostMeter",
    "Counts",
    "Energy",
    "Layer",
    "LayerCost",
    "LayerReport",
    "Point",
    "Prices",
    "Recorder",
    "Report",
    "StepCost",
    "Workload",
    "bound",
    "chip",
    "compare",
    "dense_twin",
    "dense_twin168",
    "disassemble",
    "estimate",
    "explore",
    "find_chip",
    "find_prices",
    "gains",
    "layer_rows",
    "limits",
    "prices",
    "read_toml",
    "record",
    "simulate",
    "sparsetrain168",
    "total",
    "utilization",
    "workload",
]

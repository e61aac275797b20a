"""What a training step would cost on the SparseTrain accelerator and on its dense twin."""

from sparsetrain.accel.chips import CHIPS, PRICES, chip, dense_twin168, prices, sparsetrain168
from sparsetrain.accel.core import Config, Counts, Energy, Prices, dense_twin
from sparsetrain.accel.layers import Layer, Workload
from sparsetrain.accel.recording import Recorder, record, workload
from sparsetrain.accel.report import Comparison, LayerReport, Report, compare, estimate, simulate

__all__ = [
    "CHIPS",
    "PRICES",
    "Comparison",
    "Config",
    "Counts",
    "Energy",
    "Layer",
    "LayerReport",
    "Prices",
    "Recorder",
    "Report",
    "Workload",
    "chip",
    "compare",
    "dense_twin",
    "dense_twin168",
    "estimate",
    "prices",
    "record",
    "simulate",
    "sparsetrain168",
    "workload",
]

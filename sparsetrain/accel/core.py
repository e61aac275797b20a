"""The values and functions of csrc/accel for sparsetrain.accel; core.pyi has their types."""

from sparsetrain._native import _C

Bitmap = _C.accel.Bitmap
Block = _C.accel.Block
Config = _C.accel.Config
Counts = _C.accel.Counts
CoreLayer = _C.accel.Layer
CoreWorkload = _C.accel.Workload
Energy = _C.accel.Energy
Maps = _C.accel.Maps
Prices = _C.accel.Prices
Program = _C.accel.Program
Trace = _C.accel.Trace
ConvShape = _C.ConvShape
compile_program = _C.accel.compile
dense_twin = _C.accel.dense_twin
dispatch = _C.accel.dispatch
draw = _C.accel.draw
group_cycles = _C.accel.group_cycles
model = _C.accel.model
named_chips = _C.accel.named_chips
named_prices = _C.accel.named_prices
nonzero_maps = _C.accel.nonzero_maps
price = _C.accel.price
print_program = _C.accel.print_program
simulate = _C.accel.simulate
window_variance = _C.accel.window_variance

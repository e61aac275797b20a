"""The C++ room's values and functions under Python names; core.pyi has their types."""

from sparsetrain import _C

Config = _C.accel.Config
Counts = _C.accel.Counts
CoreLayer = _C.accel.Layer
CoreWorkload = _C.accel.Workload
Energy = _C.accel.Energy
Maps = _C.accel.Maps
Prices = _C.accel.Prices
ConvShape = _C.ConvShape
dense_twin = _C.accel.dense_twin
model = _C.accel.model
named_chips = _C.accel.named_chips
named_prices = _C.accel.named_prices
price = _C.accel.price

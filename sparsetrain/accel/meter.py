"""CostMeter: the cost of a training run, from every n-th of its steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import nn

from sparsetrain.accel.chips import DEFAULT_PRICES, sparsetrain168
from sparsetrain.accel.core import Config, Prices, price
from sparsetrain.accel.layers import Layer, Workload
from sparsetrain.accel.recording import record
from sparsetrain.accel.report import Comparison, LayerReport, Report, compare


@dataclass(frozen=True)
class LayerCost:
    """The cost of one convolution of a recorded step, all three passes together.

    Attributes:
        layer: Shape and densities, without maps and trace.
        cycles: Cycles on the chip.
        dense_cycles: Cycles on its dense twin.
        energy_pj: Energy on the chip with DRAM, in pJ.
        dense_energy_pj: Energy on the dense twin with DRAM, in pJ.
    """

    layer: Layer
    cycles: int
    dense_cycles: int
    energy_pj: float
    dense_energy_pj: float


@dataclass(frozen=True)
class StepCost:
    """The cost of one recorded step.

    Attributes:
        step: Number of the step, from 0.
        cycles: Cycles on the chip.
        dense_cycles: Cycles on its dense twin.
        energy_pj: Energy on the chip with DRAM, in pJ.
        dense_energy_pj: Energy on the dense twin with DRAM, in pJ.
        x_density: Nonzeros / elements over the x of all layers.
        dy_density: Nonzeros / elements over the dy of all trained layers.
        layers: Cost by layer.
        comparison: Counts by layer and pass. Its layers have neither maps nor traces.
    """

    step: int
    cycles: int
    dense_cycles: int
    energy_pj: float
    dense_energy_pj: float
    x_density: float
    dy_density: float
    layers: tuple[LayerCost, ...]
    comparison: Comparison


class CostMeter:
    """Records every n-th step of a training run and estimates its cost.

    It keeps numbers only, no tensors and no maps. Steps that are not recorded run as without it.

    Example::

        meter = accel.CostMeter(model, every=100)
        for x, y in batches:
            with meter.step():
                loss(model(x), y).backward()
        print(meter.costs[-1].cycles, meter.speedup)

    Args:
        model: The model, as in `record`.
        every: The number of steps from one recorded step to the next.
        first: The number of the first recorded step, in [0, every).
        chip: The chip; it is compared with its dense twin.
        prices: The price table of the energies.

    Attributes:
        steps: Number of steps that have begun. A resumed run sets it.
        costs: The recorded steps.

    Raises:
        ValueError: `first` is outside [0, every), or the model is compiled.
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 100,
        first: int = 0,
        chip: Config = sparsetrain168,
        prices: Prices = DEFAULT_PRICES,
    ) -> None:
        if not 0 <= first < every:
            raise ValueError(
                "sparsetrain.accel.CostMeter: expected every to be at least 1 and first to be in "
                f"[0, every), got every {every} and first {first}"
            )
        self._model, self._every, self._first = model, every, first
        self._chip, self._prices = chip, prices
        self.steps = 0
        self.costs: list[StepCost] = []

    @property
    def due(self) -> bool:
        """Whether the next step is recorded."""
        return self.steps % self._every == self._first

    @contextmanager
    def step(self) -> Iterator[None]:
        """Context manager around the forward and backward of one step."""
        number, due = self.steps, self.due
        self.steps += 1
        if not due:
            yield
            return
        with record(self._model, images=1) as recorder:
            yield
        self.costs.append(self._cost(number, recorder.workload()))

    def _cost(self, number: int, work: Workload) -> StepCost:
        compared = compare(work, self._chip)
        compared = Comparison(_without_maps(compared.report), _without_maps(compared.dense))
        reports = zip(compared.report.layers, compared.dense.layers, strict=True)
        return StepCost(
            number,
            compared.report.cycles,
            compared.dense.cycles,
            compared.report.energy_pj(self._prices),
            compared.dense.energy_pj(self._prices),
            work.x_density,
            work.dy_density,
            tuple(
                LayerCost(
                    sparse.layer,
                    sparse.total.cycles,
                    dense.total.cycles,
                    price(sparse.total, self._prices).total_pj,
                    price(dense.total, self._prices).total_pj,
                )
                for sparse, dense in reports
            ),
            compared,
        )

    @property
    def speedup(self) -> float:
        """Cycles of the dense twin / cycles of the chip, summed over the recorded steps.

        Raises:
            ValueError: No step has been recorded yet.
        """
        if not self.costs:
            raise ValueError(
                "sparsetrain.accel.CostMeter: expected at least one step to be recorded, got none"
            )
        return sum(c.dense_cycles for c in self.costs) / sum(c.cycles for c in self.costs)


def _without_maps(report: Report) -> Report:
    """Returns the report with layers that have neither maps nor traces, to free their memory."""

    def stripped(layer: LayerReport) -> LayerReport:
        return replace(layer, layer=replace(layer.layer, maps=None, trace=None))

    return replace(report, layers=tuple(map(stripped, report.layers)))

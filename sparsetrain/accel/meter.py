"""The cost of a whole training run, from every n-th of its steps."""

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
    """One convolution of a recorded step on the chip and on its dense twin, all three passes."""

    layer: Layer  # shape and densities; neither maps nor trace
    cycles: int
    dense_cycles: int
    energy_pj: float
    dense_energy_pj: float


@dataclass(frozen=True)
class StepCost:
    """One recorded step on the chip and on its dense twin; densities are over all elements."""

    step: int
    cycles: int
    dense_cycles: int
    energy_pj: float
    dense_energy_pj: float
    x_density: float
    dy_density: float
    layers: tuple[LayerCost, ...]
    comparison: Comparison  # counts by layer and pass; its layers without maps and traces


class CostMeter:
    """Records step `first` and every `every`-th one after it; the steps between cost nothing.

        meter = accel.CostMeter(model, every=100)
        for x, y in batches:
            with meter.step():
                loss(model(x), y).backward()
        print(meter.costs[-1].cycles, meter.speedup)

    Only numbers are kept: no tensor, no map. `steps` is how many steps began; a resumed run sets
    it. Raises ValueError unless 0 <= first < every, or as `record` does.
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
        """Goes around the forward and backward of one step."""
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
        compared = Comparison(_numbers(compared.report), _numbers(compared.dense))
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
        """Cycles of the dense twin over the chip's, all recorded steps together.

        Raises ValueError before the first step.
        """
        if not self.costs:
            raise ValueError(
                "sparsetrain.accel.CostMeter: expected at least one step to be recorded, got none"
            )
        return sum(c.dense_cycles for c in self.costs) / sum(c.cycles for c in self.costs)


def _numbers(report: Report) -> Report:
    """`report` with layers of which only shape and densities are kept."""

    def stripped(layer: LayerReport) -> LayerReport:
        return replace(layer, layer=replace(layer.layer, maps=None, trace=None))

    return replace(report, layers=tuple(map(stripped, report.layers)))

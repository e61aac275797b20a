"""The cost of a whole training run, from every n-th of its steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from sparsetrain.accel.chips import DEFAULT_PRICES, sparsetrain168
from sparsetrain.accel.core import Config, Prices
from sparsetrain.accel.recording import record
from sparsetrain.accel.report import compare


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


class CostMeter:
    """Records every `every`-th step, the first included; the steps between cost nothing.

        meter = accel.CostMeter(model, every=100)
        for x, y in batches:
            with meter.step():
                loss(model(x), y).backward()
        print(meter.costs[-1], meter.speedup)

    Only numbers are kept: no tensor, no map. Raises ValueError if `every` is below 1, or as
    `record` does.
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = 100,
        chip: Config = sparsetrain168,
        prices: Prices = DEFAULT_PRICES,
    ) -> None:
        if every < 1:
            raise ValueError(
                f"sparsetrain.accel.CostMeter: expected every to be at least 1, got {every}"
            )
        self._model, self._every, self._chip, self._prices = model, every, chip, prices
        self.steps = 0
        self.costs: list[StepCost] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Goes around the forward and backward of one step."""
        number = self.steps
        self.steps += 1
        if number % self._every:
            yield
            return
        with record(self._model, images=1) as recorder:
            yield
        work = recorder.workload()
        compared = compare(work, self._chip)
        self.costs.append(
            StepCost(
                number,
                compared.report.cycles,
                compared.dense.cycles,
                compared.report.energy_pj(self._prices),
                compared.dense.energy_pj(self._prices),
                work.x_density,
                work.dy_density,
            )
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

"""Models (pydantic) of every file that SparseTrain writes or reads, for tests, scripts and docs.

Only tests and the generator of docs/formats.md import this package; it needs pydantic.
"""

from sparsetrain.experiments.formats.benchmarks import (
    ConvBenchmark,
    MemoryBenchmark,
    ModelErrorBenchmark,
    PaperBenchmark,
    PruneBenchmark,
    SamplingNoise,
    SamplingRun,
    TrainStepBenchmark,
    VarianceBenchmark,
)
from sparsetrain.experiments.formats.gpu import GpuBenchmark, GpuSteps
from sparsetrain.experiments.formats.runs import Checkpoint, RunResults, SweepPlan, SweepResult
from sparsetrain.experiments.formats.step_costs import (
    ChipFile,
    CostFile,
    Estimate,
    Exploration,
    GridPoint,
    LayerCost,
    LayerDensities,
)

__all__ = [
    "Checkpoint",
    "ChipFile",
    "ConvBenchmark",
    "CostFile",
    "Estimate",
    "Exploration",
    "GpuBenchmark",
    "GpuSteps",
    "GridPoint",
    "LayerCost",
    "LayerDensities",
    "MemoryBenchmark",
    "ModelErrorBenchmark",
    "PaperBenchmark",
    "PruneBenchmark",
    "RunResults",
    "SamplingNoise",
    "SamplingRun",
    "SweepPlan",
    "SweepResult",
    "TrainStepBenchmark",
    "VarianceBenchmark",
]

"""What runs of several seeds say together: means, standard errors, paired differences."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
CONFIDENCE = 0.95
_SETUP = (
    "epochs", "batch_size", "learning_rate", "dataset", "backend", "threads", "processes", "data",
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error, None of a single value, and how many values there were."""

    mean: float
    error: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, and the interval that holds the true one with CONFIDENCE.

    `low` and `high` are None for a single pair: one difference says nothing of its spread.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Point:
    """All seeds of one model under one rule.

    All numbers are of the last epoch of the runs that reached it, `results`, or of all where none
    did; `failed` counts those whose loss stopped being finite, `unfinished` the others.
    `difference` is to the dense runs of the same seeds, as are speedups: a dense step's time, mean
    over all epochs, over a pruned one's on an equal machine, `speedup` by the wall clock,
    `cpu_speedup` of the processor. Gains are over the dense twin of the chip, by price table.
    Ratios have geometric means.
    """

    model: str
    rule: str
    failed: int
    unfinished: int
    accuracy: Estimate | None
    difference: Difference | None
    input_density: Estimate | None
    grad_density_unpruned: Estimate | None
    grad_density: Estimate | None
    speedup: Estimate | None
    cpu_speedup: Estimate | None
    chip_speedup: Estimate | None
    energy_gains: Mapping[str, Estimate]
    results: tuple[Result, ...]

    @property
    def label(self) -> str:
        """Model and rule."""
        return f"{self.model}, {self.rule}"


def estimate(values: Iterable[float]) -> Estimate | None:
    """Mean and standard error; None of nothing."""
    values = list(values)
    if not values:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), error, len(values))


def ratio(values: Iterable[float]) -> Estimate | None:
    """Geometric mean and its standard error, that of the logarithms; None of nothing."""
    found = estimate(math.log(value) for value in values)
    if found is None:
        return None
    mean = math.exp(found.mean)
    return Estimate(mean, None if found.error is None else mean * found.error, found.count)


def difference(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """`values` less `base`, seed by seed, over the seeds of both; Student's interval."""
    from scipy.stats import t as student  # type: ignore[import-untyped]

    found = estimate(values[seed] - base[seed] for seed in sorted(values.keys() & base.keys()))
    if found is None or found.error is None:
        return Difference(found.mean, None, None, 1) if found else None
    reach = float(student.ppf((1 + CONFIDENCE) / 2, found.count - 1)) * found.error
    return Difference(found.mean, found.mean - reach, found.mean + reach, found.count)


def rule(config: Result) -> str:
    """The pruning rule of a run's `config`, in two words at most."""
    if config["dense"]:
        return "dense"
    name = "rate" if config["rate"] is not None else "density"
    return f"{name} {config[name]:g}"


def setting(config: Result) -> str:
    """How a run's network was trained, but for rule and seed."""
    return (
        f"{config['model']}: epochs {config['epochs']}, steps in each {config['steps_per_epoch']}, "
        f"batch {config['batch_size']}, peak learning rate {config['learning_rate']:g}, threads "
        f"{config['threads']}, backend {config['backend']}"
        + (f", processes {config['processes']}" if config["processes"] > 1 else "")
    )


def points(results: Sequence[Result]) -> list[Point]:
    """One point for each model and rule, models in order of appearance, dense first.

    A run that is there twice counts once. Raises ValueError for two of one seed that differ.
    """
    names = _names(results)
    grouped: dict[tuple[str, str], dict[int, Result]] = {}
    for name, result in zip(names, results, strict=True):
        config = result["config"]
        by_seed = grouped.setdefault((name, rule(config)), {})
        if by_seed.setdefault(config["seed"], result) != result:
            raise ValueError(
                f"sparsetrain.experiments.report: expected one run of {name}, {rule(config)}, seed "
                f"{config['seed']}, got two that differ"
            )
    models = list(dict.fromkeys(names))
    order = sorted(grouped, key=lambda key: (models.index(key[0]), *_strength(key[1])))
    runs = {key: list(by_seed.values()) for key, by_seed in grouped.items()}
    return [_point(*key, runs[key], runs.get((key[0], "dense"), [])) for key in order]


def _strength(name: str) -> tuple[int, float]:
    """dense, then rates upwards, then densities downwards."""
    if name == "dense":
        return (0, 0.0)
    kind, value = name.split()
    return (1, float(value)) if kind == "rate" else (2, -float(value))


def _names(results: Sequence[Result]) -> list[str]:
    """Each result's model, with what else tells runs of that model apart."""
    setups: dict[str, list[Result]] = {}
    for result in results:
        setups.setdefault(result["config"]["model"], []).append(result["config"])
    names = []
    for result in results:
        config = result["config"]
        several = [
            field
            for field in _SETUP
            if len({str(other[field]) for other in setups[config["model"]]}) > 1
        ]
        if "dataset" in several:  # whose digests differ as well
            several.remove("data")
        details = (f"{field.replace('_', ' ')} {config[field]}"[:24] for field in several)
        names.append(", ".join([config["model"], *details]))
    return names


def _by_seed(results: Iterable[Result], field: str) -> dict[int, float]:
    return {r["config"]["seed"]: r["epochs"][-1][field] for r in results if r["epochs"]}


def _point(model: str, rule: str, results: list[Result], dense: list[Result]) -> Point:
    whole = [r for r in results if len(r["epochs"]) == r["config"]["epochs"]]
    last = [r["epochs"][-1] for r in whole]
    accuracy = _by_seed(whole, "test_accuracy")
    base = (
        [r for r in dense if len(r["epochs"]) == r["config"]["epochs"]] if rule != "dense" else []
    )
    return Point(
        model,
        rule,
        sum(bool(r.get("failure")) for r in results),
        sum(r not in whole and not r.get("failure") for r in results),
        estimate(accuracy.values()),
        difference(accuracy, _by_seed(base, "test_accuracy")),
        estimate(epoch["input_density"] for epoch in last),
        estimate(epoch["grad_density_unpruned"] for epoch in last),
        estimate(epoch["grad_density"] for epoch in last),
        _faster(base, whole, "step_seconds"),
        _faster(base, whole, "step_cpu_seconds"),
        ratio(epoch["dense_cycles"] / epoch["cycles"] for epoch in last),
        _energy_gains(whole),
        tuple(whole or results),
    )


def _faster(base: list[Result], results: list[Result], field: str) -> Estimate | None:
    """Time of a step of `base` over that of `results`, each a mean over epochs, seed by seed."""
    slow, fast = (
        {
            (r["config"]["seed"], str(r.get("machine"))): statistics.fmean(
                epoch[field] for epoch in r["epochs"]
            )
            for r in each
        }
        for each in (base, results)
    )
    return ratio(slow[run] / fast[run] for run in sorted(fast.keys() & slow.keys()))


def _energy_gains(results: list[Result]) -> dict[str, Estimate]:
    gains: dict[str, list[float]] = {}
    for result in results:
        for table in result["passes"][0]["energy"] if result["passes"] else ():
            dense, chip = (
                sum(one[field][table] for one in result["passes"])
                for field in ("dense_energy", "energy")
            )
            gains.setdefault(table, []).append(dense / chip)
    found = {table: ratio(values) for table, values in gains.items()}
    return {table: each for table, each in found.items() if each is not None}

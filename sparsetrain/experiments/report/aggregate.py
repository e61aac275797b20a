"""Statistics of the runs of several seeds, for the report: means, errors, paired differences."""

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
    """A mean of `count` values with its standard error, which is None for a single value."""

    mean: float
    error: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and its confidence interval at level CONFIDENCE.

    `low` and `high` are None for a single pair, because its spread is unknown.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class RunGroup:
    """The runs of one model under one pruning rule, one for each seed, and their statistics.

    Statistics use the finished runs. Accuracies, densities and the accelerator's gains are those
    of the last epoch. Ratios have geometric means. An estimate without data is None.

    Attributes:
        model: The name of the model, with the settings that distinguish it from other groups.
        rule: The pruning rule, as `rule_name` returns it.
        failed: The number of runs whose loss stopped being finite.
        unfinished: The number of other runs that did not reach their last epoch.
        accuracy: Test accuracy, between 0 and 1.
        difference: Test accuracy minus that of the dense run of the same seed.
        input_density: Density of the convolutions' inputs.
        grad_density_unpruned: Density of the outputs' gradients in a step without pruning.
        grad_density: Density of the outputs' gradients after pruning.
        speedup: Wall-clock time of the dense run's training step over that of the pruned run,
            means over all epochs, seed by seed on equal machines.
        cpu_speedup: The corresponding ratio of processor times.
        chip_speedup: Cycles of the accelerator's dense twin over those of the accelerator.
        energy_gains: By price table, energy of the dense twin over that of the accelerator.
        results: The finished runs, or all runs if none finished.
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
        """Model and rule, as the report shows them."""
        return f"{self.model}, {self.rule}"


def mean_and_error(values: Iterable[float]) -> Estimate | None:
    """The mean and its standard error; None without values."""
    values = list(values)
    if not values:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), error, len(values))


def geometric_mean(values: Iterable[float]) -> Estimate | None:
    """The geometric mean and its error, from that of the logarithms; None without values."""
    logarithms = mean_and_error(math.log(value) for value in values)
    if logarithms is None:
        return None
    mean = math.exp(logarithms.mean)
    error = None if logarithms.error is None else mean * logarithms.error
    return Estimate(mean, error, logarithms.count)


def paired_difference(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """Mean of `values` minus `base` over their common seeds, with Student's interval.

    Args:
        values: One value for each seed.
        base: The values of the dense runs, for each seed.

    Returns:
        The difference, or None without a common seed.
    """
    from scipy.stats import t as student  # type: ignore[import-untyped]

    seeds = sorted(values.keys() & base.keys())
    found = mean_and_error(values[seed] - base[seed] for seed in seeds)
    if found is None or found.error is None:
        return Difference(found.mean, None, None, 1) if found else None
    half_width = float(student.ppf((1 + CONFIDENCE) / 2, found.count - 1)) * found.error
    return Difference(found.mean, found.mean - half_width, found.mean + half_width, found.count)


def rule_name(config: Result) -> str:
    """The pruning rule of a run's `config`: `dense`, `rate 0.9` or `density 0.1`."""
    if config["dense"]:
        return "dense"
    name = "rate" if config["rate"] is not None else "density"
    return f"{name} {config[name]:g}"


def training_setup(config: Result) -> str:
    """How a run's network was trained, without pruning rule and seed."""
    return (
        f"{config['model']}: epochs {config['epochs']}, steps per epoch "
        f"{config['steps_per_epoch']}, batch size {config['batch_size']}, peak learning rate "
        f"{config['learning_rate']:g}, threads {config['threads']}, backend {config['backend']}"
        + (f", processes {config['processes']}" if config["processes"] > 1 else "")
    )


def group_runs(results: Sequence[Result]) -> list[RunGroup]:
    """Groups runs by model and rule.

    Args:
        results: Runs as `read_results` returns them. Equal runs count once.

    Returns:
        One group for each model and rule. Models are in their order of appearance. For each model,
        the dense group comes first, then rising rates, then falling densities.

    Raises:
        ValueError: Two different runs have the same model, rule and seed.
    """
    names = _distinct_names(results)
    grouped: dict[tuple[str, str], dict[int, Result]] = {}
    for name, result in zip(names, results, strict=True):
        config = result["config"]
        by_seed = grouped.setdefault((name, rule_name(config)), {})
        if by_seed.setdefault(config["seed"], result) != result:
            raise ValueError(
                f"sparsetrain.experiments.report: expected one run of {name}, "
                f"{rule_name(config)}, seed {config['seed']}, got two that differ. Report on one "
                "of them"
            )
    models = list(dict.fromkeys(names))
    order = sorted(grouped, key=lambda key: (models.index(key[0]), *_rule_order(key[1])))
    runs = {key: list(by_seed.values()) for key, by_seed in grouped.items()}
    return [_run_group(*key, runs[key], runs.get((key[0], "dense"), [])) for key in order]


def _rule_order(name: str) -> tuple[int, float]:
    """Sort key: dense, then rising rates, then falling densities."""
    if name == "dense":
        return (0, 0.0)
    kind, value = name.split()
    return (1, float(value)) if kind == "rate" else (2, -float(value))


def _distinct_names(results: Sequence[Result]) -> list[str]:
    """Each result's model, with the settings that differ between runs of that model."""
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
        if "dataset" in several:  # then the digests of the data differ as well
            several.remove("data")
        details = (f"{field.replace('_', ' ')} {config[field]}"[:24] for field in several)
        names.append(", ".join([config["model"], *details]))
    return names


def _by_seed(results: Iterable[Result], field: str) -> dict[int, float]:
    return {r["config"]["seed"]: r["epochs"][-1][field] for r in results if r["epochs"]}


def _run_group(model: str, rule: str, results: list[Result], dense: list[Result]) -> RunGroup:
    whole = [r for r in results if len(r["epochs"]) == r["config"]["epochs"]]
    last = [r["epochs"][-1] for r in whole]
    accuracy = _by_seed(whole, "test_accuracy")
    base = (
        [r for r in dense if len(r["epochs"]) == r["config"]["epochs"]] if rule != "dense" else []
    )
    return RunGroup(
        model,
        rule,
        sum(bool(r.get("failure")) for r in results),
        sum(r not in whole and not r.get("failure") for r in results),
        mean_and_error(accuracy.values()),
        paired_difference(accuracy, _by_seed(base, "test_accuracy")),
        mean_and_error(epoch["input_density"] for epoch in last),
        mean_and_error(epoch["grad_density_unpruned"] for epoch in last),
        mean_and_error(epoch["grad_density"] for epoch in last),
        _speedup(base, whole, "step_seconds"),
        _speedup(base, whole, "step_cpu_seconds"),
        geometric_mean(epoch["dense_cycles"] / epoch["cycles"] for epoch in last),
        _energy_gains(whole),
        tuple(whole or results),
    )


def _speedup(base: list[Result], results: list[Result], field: str) -> Estimate | None:
    """Time of a step of `base` over that of `results`, means over epochs, by seed and machine."""
    slow, fast = (
        {
            (r["config"]["seed"], str(r.get("machine"))): statistics.fmean(
                epoch[field] for epoch in r["epochs"]
            )
            for r in runs
        }
        for runs in (base, results)
    )
    return geometric_mean(slow[run] / fast[run] for run in sorted(fast.keys() & slow.keys()))


def _energy_gains(results: list[Result]) -> dict[str, Estimate]:
    gains: dict[str, list[float]] = {}
    for result in results:
        for table in result["passes"][0]["energy"] if result["passes"] else ():
            dense, chip = (
                sum(record[field][table] for record in result["passes"])
                for field in ("dense_energy", "energy")
            )
            gains.setdefault(table, []).append(dense / chip)
    found = {table: geometric_mean(values) for table, values in gains.items()}
    return {table: gain for table, gain in found.items() if gain is not None}

"""The main results of a sweep as a Markdown table: `sparsetrain report --markdown` and the docs."""

from __future__ import annotations

from collections.abc import Sequence

from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report.aggregate import (
    CONFIDENCE,
    Difference,
    Estimate,
    Result,
    RunGroup,
    group_runs,
    training_setup,
)
from sparsetrain.experiments.report.figures import format_estimate

_COLUMNS = (
    "network, rule",
    "seeds",
    "test accuracy, %",
    f"test accuracy minus dense, percentage points ({CONFIDENCE:.0%} interval)",
    "density of x",
    "density of dy before and after pruning",
    "training step, speedup in processor time",
    "accelerator over its dense twin: speed, energy",
)


def table(results: Sequence[Result]) -> str:
    """Returns a Markdown table with a row for each network and rule, then how each was trained.

    Values are means over seeds; ratios have geometric means. Accuracies and speedups have their
    standard errors if there are several seeds.
    """
    lines = [table_row(_COLUMNS), table_row(["---"] * len(_COLUMNS))]
    lines += [table_row(_cells(group)) for group in group_runs(results)]
    setups = dict.fromkeys(_setup_and_processor(result) for result in results)
    return "\n".join([*lines, "", *(f"- {setup}" for setup in setups)])


def table_row(cells: Sequence[str]) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _setup_and_processor(result: Result) -> str:
    machine = result.get("machine")
    setup = training_setup(result["config"])
    return f"{setup}, processor {machine['processor']}" if machine else setup


def _cells(group: RunGroup) -> tuple[str, ...]:
    return (
        group.label,
        str(group.accuracy.count if group.accuracy else 0)
        + (f", {group.failed} failed" if group.failed else "")
        + (f", {group.unfinished} unfinished" if group.unfinished else ""),
        format_estimate(group.accuracy, 100),
        format_difference(group.difference),
        format_mean(group.input_density, 3),
        f"{format_mean(group.grad_density_unpruned, 3)}, {format_mean(group.grad_density, 3)}",
        "-" if group.cpu_speedup is None else f"{format_estimate(group.cpu_speedup)}x",
        accelerator_gains(group),
    )


def accelerator_gains(group: RunGroup) -> str:
    """Speedup and energy gain of the accelerator over its dense twin, such as `2.99x, 2.27x`."""
    gains = (group.chip_speedup, group.energy_gains.get(PRICE_TABLE))
    return ", ".join(f"{gain.mean:.2f}x" for gain in gains if gain) or "-"


def format_mean(estimate: Estimate | None, digits: int) -> str:
    """A mean without its standard error, or "-" without an estimate."""
    return "-" if estimate is None else f"{estimate.mean:.{digits}f}"


def format_difference(difference: Difference | None) -> str:
    """A difference of accuracies in percentage points, with its interval if it has one."""
    if difference is None:
        return "-"
    mean = f"{difference.mean * 100:+.2f}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} ({difference.low * 100:+.2f} to {difference.high * 100:+.2f})"

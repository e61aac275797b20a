"""The main numbers of a report as a table for a README."""

from __future__ import annotations

from collections.abc import Sequence

from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report.aggregate import (
    CONFIDENCE,
    Difference,
    Estimate,
    Point,
    Result,
    points,
    setting,
)
from sparsetrain.experiments.report.figures import number

_COLUMNS = (
    "network, rule",
    "seeds",
    "test accuracy, %",
    f"less dense, points ({CONFIDENCE:.0%} interval)",
    "density of x",
    "of dy before, after pruning",
    "processor time of a step here",
    "chip: speed, energy",
)


def table(results: Sequence[Result]) -> str:
    """A row for each network and rule, and how each network was trained.

    All numbers are means over seeds, of ratios geometric ones; accuracies and times have their
    standard errors, where there are several seeds.
    """
    lines = [line_of(_COLUMNS), line_of(["---"] * len(_COLUMNS))]
    lines += [line_of(_row(point)) for point in points(results)]
    settings = dict.fromkeys(setting(result["config"]) for result in results)
    return "\n".join([*lines, "", *(f"- {one}" for one in settings)])


def line_of(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def _row(point: Point) -> tuple[str, ...]:
    energy = point.energy_gains.get(PRICE_TABLE)
    chip = ", ".join(f"{each.mean:.2f}x" for each in (point.chip_speedup, energy) if each)
    return (
        point.label,
        str(point.accuracy.count if point.accuracy else 0)
        + (f", {point.failed} failed" if point.failed else "")
        + (f", {point.unfinished} unfinished" if point.unfinished else ""),
        number(point.accuracy, 100),
        with_interval(point.difference),
        _mean(point.input_density, 3),
        f"{_mean(point.grad_density_unpruned, 3)}, {_mean(point.grad_density, 3)}",
        _times(point.cpu_speedup),
        chip or "-",
    )


def _mean(estimate: Estimate | None, digits: int) -> str:
    """Without its error, where seeds agree in all that is shown or nearly so."""
    return "-" if estimate is None else f"{estimate.mean:.{digits}f}"


def _times(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{number(estimate)}x"


def with_interval(found: Difference | None) -> str:
    """A difference in points, with its interval where it has one."""
    if found is None:
        return "-"
    mean = f"{found.mean * 100:+.2f}"
    if found.low is None or found.high is None:
        return mean
    return f"{mean} ({found.low * 100:+.2f} to {found.high * 100:+.2f})"

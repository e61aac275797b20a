"""Pictures (PNG or SVG) for `sparsetrain estimate --plot` and `explore --plot`.

matplotlib draws them, because plotly needs a browser to write picture files. plotly draws the
charts of `sparsetrain report`, because they are interactive. accel/roofline.py serves both.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sparsetrain._native import PASSES
from sparsetrain.accel.chips import prices
from sparsetrain.accel.core import Prices
from sparsetrain.accel.exploration import Point
from sparsetrain.accel.report import Comparison
from sparsetrain.accel.roofline import Roofline, RooflinePoint

Panel = Callable[[Any], None]
"""Draws into matplotlib axes."""


def check_plot(path: Path) -> None:
    """Checks that a picture can be drawn into this file, before any work is done.

    Args:
        path: The file.

    Raises:
        ValueError: The name ends neither in .png nor in .svg.
        ModuleNotFoundError: Matplotlib is not installed.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise ValueError(
            f"sparsetrain.accel.plots: expected {path} to end in .png or .svg, got "
            f"{path.suffix or 'no ending'}"
        )
    _figure_class()


def plot_step(comparison: Comparison, table: str | Prices, path: Path) -> None:
    """Draws cycles by pass, energy by part, and the roofline of the chip with all passes.

    Args:
        comparison: A step on a chip and on its dense twin.
        table: The price table of the energies, or its name.
        path: The PNG or SVG file.
    """
    priced = prices(table)
    panels = (
        partial(_cycles, comparison),
        partial(_energy, comparison, priced),
        partial(_roofline, comparison),
    )
    _draw(panels, (13, 4), path)


def plot_front(points: list[Point], table: str | Prices, path: Path) -> None:
    """Draws energy against cycles of a grid of chips, with the Pareto front.

    Args:
        points: What `explore` returned.
        table: The price table of the energies, or its name.
        path: The PNG or SVG file.
    """
    _draw((partial(_front, points, prices(table)),), (8, 5), path)


def _draw(panels: tuple[Panel, ...], inches: tuple[float, float], path: Path) -> None:
    """Draws panels side by side into one picture."""
    figure = _figure_class()(figsize=inches, layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, axes in zip(panels, all_axes, strict=True):
        panel(axes)
    figure.savefig(path, dpi=120)


def _figure_class() -> Any:
    """matplotlib's Figure, which needs neither pyplot nor a display."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "sparsetrain.accel.plots: expected matplotlib to be installed, got none. Run "
            "pip install matplotlib"
        ) from error
    return Figure


def _energy_label(table: Prices) -> str:
    unit = "10⁹ multiplications" if table.name == "eyeriss_ratios" else "mJ"
    return f"energy of a step, {unit}"


def _cycles(comparison: Comparison, axes: Any) -> None:
    stacks = {
        name: {
            pass_name: sum(getattr(layer, pass_name).cycles for layer in report.layers) / 1e6
            for pass_name in PASSES
        }
        for name, report in (("chip", comparison.report), ("dense twin", comparison.dense))
    }
    _stacked_bars(axes, stacks)
    axes.set(title=f"speedup {comparison.speedup:.2f}", ylabel="cycles of a step, millions")


def _energy(comparison: Comparison, table: Prices, axes: Any) -> None:
    stacks = {
        name: {
            part: getattr(report.energy(table), f"{part.lower()}_pj") / 1e9
            for part in ("MAC", "register", "buffer", "DRAM")
        }
        for name, report in (("chip", comparison.report), ("dense twin", comparison.dense))
    }
    _stacked_bars(axes, stacks)
    gain = comparison.energy_gain(table)
    axes.set(title=f"energy gain {gain:.2f} ({table.name})", ylabel=_energy_label(table))


def _stacked_bars(axes: Any, stacks: dict[str, dict[str, float]]) -> None:
    """Draws one bar for each entry, stacked from its parts. All entries have the same parts."""
    for name, parts in stacks.items():
        bottom = 0.0
        for number, height in enumerate(parts.values()):
            axes.bar(name, height, bottom=bottom, color=f"C{number}", width=0.6)
            bottom += height
    axes.margins(x=0.15, y=0.3)  # room for the legend above the bars
    handles, labels = axes.containers[: len(parts)], list(parts)
    axes.legend(handles[::-1], labels[::-1], loc="upper left", ncols=2, fontsize=9)


def chip_roofline(comparison: Comparison) -> Roofline:
    """The roofline of a chip: ports limit the bandwidth, multipliers the peak. Time is in cycles.

    Passes without multiplications have no point.
    """
    chip = comparison.report.chip
    points = [
        RooflinePoint(layer.name, pass_name, counts.macs, counts.port_bytes, counts.cycles)
        for pass_name in PASSES
        for layer in comparison.report.layers
        for counts in [getattr(layer, pass_name)]
        if counts.cycles and counts.macs
    ]
    return Roofline(tuple(points), chip.pe_groups * chip.port_bytes_per_cycle, chip.pes)


def _roofline(comparison: Comparison, axes: Any) -> None:
    """Draws every pass of every layer below the limits that ports and multipliers set."""
    from matplotlib.ticker import LogLocator

    roofline = chip_roofline(comparison)
    for pass_name, points in roofline.by_series().items():
        x, y = [point.intensity for point in points], [point.rate for point in points]
        color = f"C{PASSES.index(pass_name)}"
        axes.plot(x, y, "o", color=color, label=pass_name, markersize=5, alpha=0.7)
    axes.plot(*roofline.limit_line(), "k-", label="limit of ports and multipliers")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set(
        title="each layer and pass on the chip",
        xlabel="multiplications per byte read through the ports",
        ylabel="multiplications per cycle",
    )
    axes.legend(loc="lower right", fontsize=9)


def _front(points: list[Point], table: Prices, axes: Any) -> None:
    """Draws a dot for each chip: its color is the number varied first, its size the area.

    The chips of the Pareto front are joined and labeled.
    """
    largest_kb = max(point.area_proxy_kb for point in points)
    varied_first = points[0].varied[0]
    for value in sorted({getattr(point.chip, varied_first) for point in points}):
        group = [point for point in points if getattr(point.chip, varied_first) == value]
        axes.scatter(
            [point.cycles / 1e6 for point in group],
            [point.energy_pj / 1e9 for point in group],
            s=[200 * point.area_proxy_kb / largest_kb for point in group],
            alpha=0.6,
            label=f"{varied_first} {value}",
        )
    front = sorted((point for point in points if point.pareto), key=lambda point: point.cycles)
    x = [point.cycles / 1e6 for point in front]
    y = [point.energy_pj / 1e9 for point in front]
    axes.plot(x, y, "k-", linewidth=1, label="Pareto front")
    for point, place in zip(front, zip(x, y, strict=True), strict=True):
        label = "\n".join(f"{name} {getattr(point.chip, name)}" for name in point.varied)
        axes.annotate(label, place, xytext=(8, 12), textcoords="offset points", fontsize=7)
    axes.margins(0.12)  # room for the labels
    axes.set(
        title="area of a dot: estimated area of the chip",
        xlabel="cycles of a step, millions",
        ylabel=_energy_label(table),
    )
    legend = axes.legend(fontsize=9)
    for handle in legend.legend_handles[:-1]:
        handle.set_sizes([60])  # in the legend, size means nothing

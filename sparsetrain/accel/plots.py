"""Pictures of a comparison and of a grid of chips, as PNG or SVG; needs matplotlib."""

from pathlib import Path
from typing import Any

from sparsetrain._native import PASSES
from sparsetrain.accel.chips import prices
from sparsetrain.accel.core import Prices
from sparsetrain.accel.exploration import Point
from sparsetrain.accel.report import Comparison


def _pyplot() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "sparsetrain.accel.plots: expected matplotlib to be installed, got none. Run "
            "pip install matplotlib"
        ) from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def check_plot(path: Path) -> None:
    """Raises ValueError unless `path` ends in .png or .svg; ModuleNotFoundError as plotting."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise ValueError(
            f"sparsetrain.accel.plots: expected {path} to end in .png or .svg, got "
            f"{path.suffix or 'no ending'}"
        )
    _pyplot()


def plot_step(compared: Comparison, table: str | Prices, path: Path) -> None:
    """Three panels: cycles by pass, energy by part, layers against port and multiplier limits."""
    plt = _pyplot()
    figure, (cycles, energy, roofline) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    reports = (("chip", compared.report), ("dense twin", compared.dense))
    _stack(cycles, {
        name: {
            stage: sum(getattr(layer, stage).cycles for layer in report.layers) / 1e6
            for stage in PASSES
        }
        for name, report in reports
    })  # fmt: skip
    _stack(energy, {
        name: {
            part: getattr(report.energy(table), f"{part.lower()}_pj") / 1e9
            for part in ("MAC", "register", "buffer", "DRAM")
        }
        for name, report in reports
    })  # fmt: skip
    cycles.set(title=f"speedup {compared.speedup:.2f}", ylabel="million cycles a step")
    gain = compared.energy_gain(table)
    energy.set(title=f"energy gain {gain:.2f} ({prices(table).name})", ylabel="mJ a step")
    _roofline(roofline, compared)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _stack(axes: Any, bars: dict[str, dict[str, float]]) -> None:
    for name, parts in bars.items():
        below = 0.0
        for number, height in enumerate(parts.values()):
            axes.bar(name, height, bottom=below, color=f"C{number}", width=0.6)
            below += height
    handles, labels = axes.containers[: len(parts)], list(parts)
    axes.legend(handles[::-1], labels[::-1], loc="upper left", fontsize=9)  # as they are stacked


def _roofline(axes: Any, compared: Comparison) -> None:
    from matplotlib.ticker import LogLocator

    chip = compared.report.chip
    port, most = chip.pe_groups * chip.port_bytes_per_cycle, chip.pes
    intensities = [most / port / 4, most / port * 4]
    for number, stage in enumerate(PASSES):
        counts = [getattr(layer, stage) for layer in compared.report.layers]
        ran = [c for c in counts if c.cycles and c.macs]
        x = [c.macs / c.port_bytes for c in ran]
        intensities += x
        axes.plot(
            x, [c.macs / c.cycles for c in ran],
            "o", color=f"C{number}", label=stage, markersize=5, alpha=0.7,
        )  # fmt: skip
    ends = [min(intensities) / 1.2, most / port, max(intensities) * 1.2]
    axes.plot(ends, [min(most, port * i) for i in ends], "k-", label="port | multipliers")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set(
        title="each layer and pass under the chip's limits",
        xlabel="multiplications a byte through the ports",
        ylabel="multiplications a cycle",
    )
    axes.legend(loc="lower right", fontsize=9)


def plot_front(points: list[Point], path: Path) -> None:
    """Cycles against energy of a grid of chips, the Pareto front joined, size by area proxy.

    Colours tell the values of the number that was varied first; points of the front are labelled.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    largest = max(point.area_proxy_kb for point in points)
    by = points[0].varied[0]
    for value in sorted({getattr(point.chip, by) for point in points}):
        here = [point for point in points if getattr(point.chip, by) == value]
        axes.scatter(
            [point.cycles / 1e6 for point in here],
            [point.energy_pj / 1e9 for point in here],
            s=[200 * point.area_proxy_kb / largest for point in here],
            alpha=0.6,
            label=f"{by} {value}",
        )
    front = sorted((point for point in points if point.pareto), key=lambda point: point.cycles)
    axes.plot(
        [point.cycles / 1e6 for point in front],
        [point.energy_pj / 1e9 for point in front],
        "k-", linewidth=1, label="Pareto front",
    )  # fmt: skip
    for point in front:
        label = "\n".join(f"{name} {getattr(point.chip, name)}" for name in point.varied)
        axes.annotate(
            label, (point.cycles / 1e6, point.energy_pj / 1e9),
            xytext=(8, 12), textcoords="offset points", fontsize=7,
        )  # fmt: skip
    axes.set(xlabel="million cycles a step", ylabel="mJ a step", title="size: area proxy")
    axes.legend(fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)

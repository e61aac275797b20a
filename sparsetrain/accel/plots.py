"""Pictures of a comparison and of a grid of chips, as PNG or SVG; needs matplotlib."""

from pathlib import Path
from typing import Any

from sparsetrain.accel.chips import prices
from sparsetrain.accel.core import Prices
from sparsetrain.accel.exploring import Point
from sparsetrain.accel.report import PASSES, Comparison


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
    figure, (cycles, energy, roofline) = plt.subplots(1, 3, figsize=(15, 4.5), layout="tight")
    reports = (("chip", compared.report), ("dense twin", compared.dense))
    for name, report in reports:
        below = 0.0
        for number, stage in enumerate(PASSES):
            height = sum(getattr(layer, stage).cycles for layer in report.layers) / 1e6
            label = stage if name == "chip" else None
            cycles.bar(name, height, bottom=below, color=f"C{number}", label=label)
            below += height
        below = 0.0
        parts = report.energy(table)
        for number, part in enumerate(("mac", "register", "buffer", "dram")):
            height = getattr(parts, f"{part}_pj") / 1e6
            label = part if name == "chip" else None
            energy.bar(name, height, bottom=below, color=f"C{number}", label=label)
            below += height
    cycles.set_ylabel("million cycles")
    energy.set_ylabel(f"uJ, {prices(table).name}")
    chip = compared.report.chip
    _roofline(roofline, compared, chip.groups * chip.port_bytes_per_cycle, chip.pes)
    for axes in (cycles, energy, roofline):
        axes.legend(fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def _roofline(axes: Any, compared: Comparison, port: int, pes: int) -> None:
    for number, stage in enumerate(PASSES):
        counts = [getattr(layer, stage) for layer in compared.report.layers]
        ran = [c for c in counts if c.cycles and c.macs]
        axes.loglog(
            [c.macs / c.port_bytes for c in ran],
            [c.macs / c.cycles for c in ran],
            "o", color=f"C{number}", label=stage, markersize=4,
        )  # fmt: skip
    intensities = [0.05, pes / port, 5]
    axes.loglog(intensities, [min(pes, port * i) for i in intensities], "k-", label="limit")
    axes.set_xlabel("multiplications a byte through the ports")
    axes.set_ylabel("multiplications a cycle")


def plot_front(points: list[Point], path: Path) -> None:
    """Cycles against energy of a grid of chips, the Pareto front joined, size by area proxy."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7, 5), layout="tight")
    largest = max(point.area_proxy_kb for point in points)
    axes.scatter(
        [point.cycles / 1e6 for point in points],
        [point.energy_pj / 1e9 for point in points],
        s=[200 * point.area_proxy_kb / largest for point in points],
        alpha=0.5,
        label="chips (size: area proxy)",
    )
    front = sorted((p.cycles / 1e6, p.energy_pj / 1e9) for p in points if p.pareto)
    axes.plot(*zip(*front, strict=True), "k-o", markersize=3, label="Pareto front")
    axes.set_xlabel("million cycles a step")
    axes.set_ylabel("mJ a step")
    axes.legend()
    figure.savefig(path)
    plt.close(figure)

"""`python -m sparsetrain explore MODEL --vary ...`: many chips, one step, a Pareto front."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from sparsetrain import accel
from sparsetrain.commands import network
from sparsetrain.experiments.files import write_csv, write_json


@click.command()
@network.options
@click.option("--chip", default="sparsetrain168", show_default=True, help="The chip to vary.")
@click.option("--prices", default="aladdin_cacti32_14nm", show_default=True)
@click.option(
    "--vary", multiple=True, required=True, metavar="NUMBER=A,B,...",
    help="A number of the chip and its values; repeat for a grid.",
)  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the table.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="PNG or SVG.")
def explore(
    chip: str,
    prices: str,
    vary: tuple[str, ...],
    json_file: Path | None,
    csv_file: Path | None,
    plot_file: Path | None,
    **step: Any,
) -> None:
    """Cycles, energy and an area proxy of a training step of MODEL over a grid of chips.

    Example: sparsetrain explore resnet18 --vary groups=28,56,112 --vary port_bytes_per_cycle=8,16
    """
    network.check_outputs(json_file, csv_file, plot_file)
    base, table = accel.find_chip(chip), accel.find_prices(prices)
    grid = _grid(vary)
    points = accel.explore(network.workload(**step), base, grid, table)
    rows = [point.as_dict() for point in points]
    _show(rows, list(grid))
    if json_file:
        config = {
            **network.as_numbers(step),
            "chip": base.as_dict(),
            "prices": table.name,
            "vary": grid,
        }
        write_json(json_file, {"config": config, "points": rows})
    if csv_file:
        write_csv(csv_file, rows)
    if plot_file:
        from sparsetrain.accel.plots import plot_front

        plot_front(points, plot_file)


def _grid(vary: tuple[str, ...]) -> dict[str, list[int]]:
    grid = dict(_numbers(item) for item in vary)
    if len(grid) < len(vary):
        raise ValueError(
            "sparsetrain: expected --vary to be given once for each number of the chip, got "
            + " ".join(vary)
        )
    return grid


def _numbers(item: str) -> tuple[str, list[int]]:
    name, _, values = item.partition("=")
    try:
        return name, [int(value) for value in values.split(",")]
    except ValueError:
        raise ValueError(
            f"sparsetrain: expected --vary to be a number of the chip and whole values, like "
            f"groups=28,56, got {item!r}"
        ) from None


def _show(rows: list[dict[str, Any]], varied: list[str]) -> None:
    screen = Table(title="* on the Pareto front of cycles and energy")
    for column in (*varied, "Mcycles", "mJ", "speedup", "area proxy", ""):
        screen.add_column(column, justify="right")
    for row in sorted(rows, key=lambda one: one["cycles"]):
        screen.add_row(
            *(str(row[name]) for name in varied),
            f"{row['cycles'] / 1e6:.2f}",
            f"{row['energy_pj'] / 1e9:.3f}",
            f"{row['speedup']:.2f}",
            f"{row['area_proxy_kb']:.0f}",
            "*" if row["pareto"] else "",
        )
    console = Console()
    console.width = max(console.width, 100)
    console.print(screen)

"""`sparsetrain explore MODEL --vary ...`: a training step on a grid of chips, and the best ones."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from sparsetrain import accel
from sparsetrain.commands.output_options import check_outputs, output_options
from sparsetrain.commands.step_options import (
    chip_option,
    for_json,
    prices_option,
    step_options,
    workload,
)
from sparsetrain.experiments.files import write_csv, write_json


@click.command()
@step_options
@chip_option
@prices_option
@click.option(
    "--vary", multiple=True, required=True, metavar="NUMBER=A,B,...",
    help="A number of the chip and its values; repeat the option for a grid.",
)  # fmt: skip
@output_options
def explore(
    chip: str,
    prices: str,
    vary: tuple[str, ...],
    json_file: Path | None,
    csv_file: Path | None,
    plot_file: Path | None,
    **step: Any,
) -> None:
    """Estimate a training step of MODEL on variants of a chip.

    Prints cycles, energy, speedup over the variant's dense twin, and an estimate of the area in KB
    of SRAM, by which chips can be ranked. Marks the variants that no other beats in both cycles and
    energy. MODEL is as in `sparsetrain estimate`.

    Example: sparsetrain explore resnet18 --vary pe_groups=28,56 --vary port_bytes_per_cycle=8,16
    """
    check_outputs(json_file, csv_file, plot_file)
    base, table = accel.find_chip(chip), accel.find_prices(prices)
    grid = _grid(vary)
    points = accel.explore(workload(**step), base, grid, table)
    rows = [point.as_dict() for point in points]
    _show(rows, list(grid))
    if json_file:
        config = {
            **for_json(step),
            "chip": base.as_dict(),
            "prices": table.name,
            "vary": grid,
        }
        write_json(json_file, {"config": config, "points": rows})
    if csv_file:
        write_csv(csv_file, rows)
    if plot_file:
        from sparsetrain.accel.plots import plot_front

        plot_front(points, table, plot_file)


def _grid(vary: tuple[str, ...]) -> dict[str, list[int]]:
    """The values of each number of the chip, from "NUMBER=A,B,..."."""
    grid = dict(_values(item) for item in vary)
    if len(grid) < len(vary):
        raise ValueError(
            "sparsetrain: expected --vary to be given once for each number of the chip, got "
            + " ".join(vary)
        )
    return grid


def _values(item: str) -> tuple[str, list[int]]:
    name, _, values = item.partition("=")
    try:
        return name, [int(value) for value in values.split(",")]
    except ValueError:
        raise ValueError(
            f"sparsetrain: expected --vary to be a number of the chip and whole values, like "
            f"pe_groups=28,56, got {item!r}"
        ) from None


def _show(rows: list[dict[str, Any]], varied: list[str]) -> None:
    screen = Table(title="*: no other chip is as good in both cycles and energy (Pareto front)")
    for column in (*varied, "Mcycles", "mJ", "speedup", "area, KB", ""):
        screen.add_column(column, justify="right")
    for row in sorted(rows, key=lambda row: row["cycles"]):
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

"""`python -m sparsetrain estimate MODEL`: cycles and energy of a training step."""

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
@click.option("--chip", default="sparsetrain168", show_default=True, help="Name or file.toml:name.")
@click.option("--prices", default="aladdin_cacti32_14nm", show_default=True, help="The same.")
@click.option("--simulate", is_flag=True, help="Every row operation instead of the closed form.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the layer table.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="PNG or SVG.")
def estimate(
    chip: str,
    prices: str,
    simulate: bool,
    json_file: Path | None,
    csv_file: Path | None,
    plot_file: Path | None,
    **step: Any,
) -> None:
    """Cycles and energy of one training step of MODEL, per layer and pass.

    MODEL is a torchvision classification model or module:function. Nothing of it is allocated.

    Example: sparsetrain estimate resnet18 --batch-size 32 --grad-density 0.2 --json cost.json
    """
    network.check_outputs(json_file, csv_file, plot_file)
    machine, table = accel.find_chip(chip), accel.find_prices(prices)
    work = network.workload(**step)
    compared = accel.compare(work, machine, simulated=simulate)
    rows = accel.layer_rows(compared, table)
    _show(compared, rows, table)
    if json_file:
        config = {
            **network.as_numbers(step),
            "chip": machine.as_dict(),
            "prices": table.name,
            "simulated": simulate,
        }
        content = {
            "config": config,
            "layers": rows,
            "total": accel.total(compared, table),
            "gains": accel.gains(compared),
        }
        write_json(json_file, content)
    if csv_file:
        write_csv(csv_file, rows)
    if plot_file:
        from sparsetrain.accel.plots import plot_step

        plot_step(compared, table, plot_file)


def _show(compared: accel.Comparison, rows: list[dict[str, Any]], table: accel.Prices) -> None:
    console = Console()
    console.width = max(console.width, 120)  # a pipe is no reason to cut columns off
    screen = Table(
        title=f"{compared.report.chip.name} against {compared.dense.chip.name}, {table.name}"
    )
    screen.add_column("layer")
    screen.add_column("pass")
    for column in ("MMACs", "of dense", "kcycles", "speedup", "use", "bound", "uJ"):
        screen.add_column(column, justify="right")
    screen.add_column("mac/reg/buf/DRAM %", justify="right")
    for row in rows:
        parts = [row[part] for part in ("mac_pj", "register_pj", "buffer_pj", "dram_pj")]
        screen.add_row(
            row["name"],
            row["pass"],
            f"{row['macs'] / 1e6:.1f}",
            f"{row['macs'] / max(1, row['dense_macs']):.2f}",
            f"{row['cycles'] / 1e3:.1f}",
            f"{row['dense_cycles'] / row['cycles']:.2f}",
            f"{row['utilisation']:.2f}",
            row["bound"],
            f"{row['energy_pj'] / 1e6:.1f}",
            "/".join(f"{100 * part / max(row['energy_pj'], 1e-30):.0f}" for part in parts),
        )
    console.print(screen)
    r, d = compared.report, compared.dense
    console.print(
        f"step: {r.cycles:,} cycles = {r.time_ms:.2f} ms, dense {d.cycles:,} = {d.time_ms:.2f} ms: "
        f"speedup {compared.speedup:.2f}; MACs {r.macs:,} of {d.macs:,}"
    )
    energy = Table(title="energy of the dense twin over the chip's")
    for column in ("prices", "on chip", "with DRAM"):
        energy.add_column(column, justify="left" if column == "prices" else "right")
    for gain in accel.gains(compared):
        energy.add_row(
            gain["prices"], f"{gain['energy_gain_chip']:.2f}", f"{gain['energy_gain']:.2f}"
        )
    console.print(energy)
    console.print("Outside the model, on both chips: norms, linear layers, optimiser, leakage.")

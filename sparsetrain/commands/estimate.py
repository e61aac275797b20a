"""`sparsetrain estimate MODEL`: cycles and energy of a training step on the accelerator."""

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
    "--simulate", is_flag=True,
    help="Simulate every row operation instead of using the closed form. Takes longer.",
)  # fmt: skip
@output_options
def estimate(
    chip: str,
    prices: str,
    simulate: bool,
    json_file: Path | None,
    csv_file: Path | None,
    plot_file: Path | None,
    **step: Any,
) -> None:
    """Estimate cycles and energy of one training step of MODEL, per layer and pass.

    The step runs on a SparseTrain chip, which skips zeros, and on its dense twin, which is the same
    chip without skipping. MODEL is the name of a network (resnet8, resnet14, resnet20, plain or any
    classification network of torchvision) or module:function, where the function returns a
    torch.nn.Module. No weights are allocated.

    Example: sparsetrain estimate resnet18 --batch-size 32 --grad-density 0.2 --json cost.json
    """
    check_outputs(json_file, csv_file, plot_file)
    machine, table = accel.find_chip(chip), accel.find_prices(prices)
    comparison = accel.compare(workload(**step), machine, simulated=simulate)
    rows = accel.layer_rows(comparison, table)
    _show(comparison, rows, table)
    if json_file:
        config = {
            **for_json(step),
            "chip": machine.as_dict(),
            "prices": table.name,
            "simulated": simulate,
        }
        content = {
            "config": config,
            "layers": rows,
            "total": accel.total(comparison, table),
            "gains": accel.gains(comparison),
        }
        write_json(json_file, content)
    if csv_file:
        write_csv(csv_file, rows)
    if plot_file:
        from sparsetrain.accel.plots import plot_step

        plot_step(comparison, table, plot_file)


def _show(comparison: accel.Comparison, rows: list[dict[str, Any]], table: accel.Prices) -> None:
    console = Console()
    console.width = max(console.width, 120)  # in a pipe, rich would cut the columns off
    chip, dense = comparison.report, comparison.dense
    screen = Table(title=f"{chip.chip.name} against {dense.chip.name}, {table.name}")
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
            f"{row['utilization']:.2f}",
            row["bound"],
            f"{row['energy_pj'] / 1e6:.1f}",
            "/".join(f"{100 * part / max(row['energy_pj'], 1e-30):.0f}" for part in parts),
        )
    console.print(screen)
    console.print(
        "MMACs: million multiplications; of dense: their share of the twin's; use: share of the "
        "PEs' cycles that multiply; bound: the part of the chip that limits the pass; last column: "
        "energy of multipliers, registers, buffer and DRAM."
    )
    console.print(
        f"step: {chip.cycles:,} cycles = {chip.time_ms:.2f} ms, dense {dense.cycles:,} = "
        f"{dense.time_ms:.2f} ms: speedup {comparison.speedup:.2f}; "
        f"MACs {chip.macs:,} of {dense.macs:,}"
    )
    energy = Table(title="energy of the dense twin / energy of the chip")
    for column in ("prices", "on chip", "with DRAM"):
        energy.add_column(column, justify="left" if column == "prices" else "right")
    for gain in accel.gains(comparison):
        energy.add_row(
            gain["prices"], f"{gain['energy_gain_chip']:.2f}", f"{gain['energy_gain']:.2f}"
        )
    console.print(energy)
    console.print(
        "Not in the model, for either chip: normalization, linear layers (see --linear), the "
        "optimizer, leakage."
    )

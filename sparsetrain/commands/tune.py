"""`python -m sparsetrain tune FILE`: fit the cost table of `auto` to this machine."""

from pathlib import Path

import click
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sparsetrain.costs import CostTable
from sparsetrain.files import check_writable, write_json
from sparsetrain.tuning import PASSES, SHAPES, STORAGES
from sparsetrain.tuning import tune as fit


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--dtype", "storages", multiple=True, type=click.Choice(list(STORAGES)),
    default=("float32", "bfloat16"), show_default=True, help="Repeat for several; others stay.",
)  # fmt: skip
def tune(file: Path, storages: tuple[str, ...]) -> None:
    """Fit the costs by which `auto` chooses to this machine and write them to FILE (JSON).

    A training run uses them after sparsetrain.set_costs("FILE"). Takes some twenty
    seconds on one thread.

    Example: sparsetrain tune costs.json --dtype float32
    """
    check_writable(file)
    err = Console(stderr=True)
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("timing", total=len(storages) * len(SHAPES))
        table = fit(storages, lambda: bar.advance(task))
    write_json(file, {"torch": torch.__version__, "costs": table})
    _show(table, storages)


def _show(table: CostTable, storages: tuple[str, ...]) -> None:
    units = list(table["float32"]["forward"])
    for storage in storages:
        title = f"costs of {storage}, ns, one thread of {table['isa']}"
        shown = Table(title=title, box=SIMPLE_HEAD, padding=0)
        shown.add_column("pass", no_wrap=True)
        for unit in units:
            shown.add_column(unit.removesuffix("_ns").replace("_", " "), justify="right")
        for name in PASSES:
            costs = (table[storage][name][u] for u in units)
            shown.add_row(name, *(f"{ns:,.0f}" if ns >= 100 else f"{ns:.3g}" for ns in costs))
        Console().print(shown)

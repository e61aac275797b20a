"""`sparsetrain tune FILE`: fits the cost table of `backend="auto"` to this machine."""

from pathlib import Path

import click
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sparsetrain._native import PASSES
from sparsetrain.cost_table import CostTable, adopt_costs
from sparsetrain.experiments.files import check_writable, write_json
from sparsetrain.tuning import cpu, cuda


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True,
    help="Measure one thread of this processor, or the current GPU.",
)  # fmt: skip
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(list(cuda.PRECISIONS)),
    default=("float32", "bfloat16"), show_default=True,
    help="Data type of the operands to measure; repeat the option for several.",
)  # fmt: skip
def tune(file: Path, device: str, dtypes: tuple[str, ...]) -> None:
    """Measure this machine for backend="auto" and write the costs to FILE (JSON).

    "auto" predicts the time of the dense and of the sparse kernels from a table of costs, in
    nanoseconds per unit of work. This command times a few convolutions and fits the table to them.
    It takes about twenty seconds for the default data types. On a GPU, float32 is measured with
    TF32 off and on.

    Call sparsetrain.set_costs("FILE") in a training script to use the table.

    If FILE exists, the costs of devices and data types that are not measured now are kept, except
    those of another CPU instruction set.

    Example: sparsetrain tune costs.json --dtype float32
    """
    check_writable(file)
    if device == "cpu" and not {*dtypes} <= {*cpu.DTYPES}:
        raise ValueError(
            f"sparsetrain.tune: expected --dtype to be one of {', '.join(cpu.DTYPES)} on the CPU, "
            "got 'float64'"
        )
    gpu = cuda.architecture() if device == "cuda" else None
    if file.is_file():
        adopt_costs(file)
    tuning = cpu if device == "cpu" else cuda
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("timing", total=tuning.steps(dtypes))
        table = tuning.tune(dtypes, lambda: progress.advance(bar))
    write_json(file, {"torch": torch.__version__, "costs": table})
    for title, passes in _fitted(table, gpu, dtypes).items():
        _show(title, passes)


def _fitted(table: CostTable, gpu: str | None, dtypes: tuple[str, ...]) -> CostTable:
    """The costs that were measured, {title: {pass: {unit: nanoseconds}}}."""
    if gpu is None:
        where = f"one thread of {table['isa']}"
        return {f"costs of {name}, ns, {where}": table[name] for name in dtypes}
    names = [name for dtype in dtypes for name in cuda.PRECISIONS[dtype]]
    return {f"costs of {name}, ns, GPU {gpu}": table["cuda"][gpu][name] for name in names}


def _show(title: str, passes: CostTable) -> None:
    units = list(passes["forward"])
    screen = Table(title=title, box=SIMPLE_HEAD, padding=0)
    screen.add_column("pass", no_wrap=True)
    for unit in units:
        screen.add_column(unit.removesuffix("_ns").replace("_", " "), justify="right")
    for name in PASSES:
        costs = (passes[name][u] for u in units)
        screen.add_row(name, *(f"{ns:,.0f}" if ns >= 100 else f"{ns:.3g}" for ns in costs))
    Console().print(screen)

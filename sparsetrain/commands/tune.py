"""`python -m sparsetrain tune FILE`: fit the cost table of `auto` to this machine."""

from collections.abc import Callable
from pathlib import Path

import click
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sparsetrain.cost_table import CostTable, adopt_costs
from sparsetrain.experiments.files import check_writable, write_json
from sparsetrain.tuning import cpu as tuning
from sparsetrain.tuning import cuda as tuning_cuda
from sparsetrain.tuning import fit


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True,
    help="One thread of this processor, or the current GPU.",
)  # fmt: skip
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(list(tuning_cuda.PRECISIONS)),
    default=("float32", "bfloat16"), show_default=True, help="Repeat for several; others stay.",
)  # fmt: skip
def tune(file: Path, device: str, dtypes: tuple[str, ...]) -> None:
    """Fit the costs by which `auto` chooses to this machine and write them to FILE (JSON).

    A training run uses them after sparsetrain.set_costs("FILE"). Takes some twenty
    seconds on one thread. What a FILE that is there already holds for other devices and
    dtypes stays, but for other instruction sets; float32 on a GPU is timed with TF32 off and on.

    Example: sparsetrain tune costs.json --dtype float32
    """
    check_writable(file)
    if device == "cpu" and "float64" in dtypes:
        known = ", ".join(fit.STORAGES)
        raise ValueError(
            f"sparsetrain.tune: expected --dtype to be one of {known} on the CPU, got 'float64'"
        )
    gpu = tuning_cuda.architecture() if device == "cuda" else None
    if file.is_file():
        adopt_costs(file)
    count = len(dtypes) * len(tuning.SHAPES) if device == "cpu" else tuning_cuda.steps(dtypes)
    table = _with_progress(tuning.tune if device == "cpu" else tuning_cuda.tune, dtypes, count)
    write_json(file, {"torch": torch.__version__, "costs": table})
    for title, passes in _fitted(table, gpu, dtypes).items():
        _show(title, passes)


def _with_progress(
    fit: Callable[[tuple[str, ...], Callable[[], object]], CostTable],
    dtypes: tuple[str, ...],
    count: int,
) -> CostTable:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("timing", total=count)
        return fit(dtypes, lambda: bar.advance(task))


def _fitted(table: CostTable, gpu: str | None, dtypes: tuple[str, ...]) -> CostTable:
    """What was fitted, {title: {pass: {unit: nanoseconds}}}."""
    if gpu is None:
        where = f"one thread of {table['isa']}"
        return {f"costs of {name}, ns, {where}": table[name] for name in dtypes}
    names = [name for dtype in dtypes for name in tuning_cuda.PRECISIONS[dtype]]
    return {f"costs of {name}, ns, GPU {gpu}": table["cuda"][gpu][name] for name in names}


def _show(title: str, passes: CostTable) -> None:
    units = list(passes["forward"])
    shown = Table(title=title, box=SIMPLE_HEAD, padding=0)
    shown.add_column("pass", no_wrap=True)
    for unit in units:
        shown.add_column(unit.removesuffix("_ns").replace("_", " "), justify="right")
    for name in fit.PASSES:
        costs = (passes[name][u] for u in units)
        shown.add_row(name, *(f"{ns:,.0f}" if ns >= 100 else f"{ns:.3g}" for ns in costs))
    Console().print(shown)

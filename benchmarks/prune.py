"""Times pruning with a known threshold against a copy (`torch.clone`) of the same tensor.

    python benchmarks/prune.py [--quick] [--threads N] [--json FILE]

Measures medians of wall-clock time; both calls run in turn. Both read and write the tensor once, so
that the time of the copy over that of pruning is the share of the copy's bandwidth that pruning
reaches. Sizes range from tensors in the cache to tensors in memory.
"""

from pathlib import Path
from typing import Any

import click
import torch
from measure import geomean, interleaved, machine, progress, settle_allocator, write_json
from rich.console import Console
from rich.table import Table

import sparsetrain

ELEMENTS = (1 << 18, 1 << 20, 1 << 22, 1 << 24)
QUICK_ELEMENTS = (1 << 20, 1 << 22)
THRESHOLD = 2.5  # in standard deviations of the gradient


def time_size(elements: int, dtype: torch.dtype, threads: int, repeats: int) -> dict[str, Any]:
    """The row of one size: times, and bytes read and written in a second."""
    grad = torch.randn(elements, generator=torch.Generator().manual_seed(1)).to(dtype)
    threshold = torch.tensor(THRESHOLD, dtype=torch.float64)
    clone, pruned = interleaved(
        [grad.clone, lambda: sparsetrain.prune(grad, threshold, seed=1)], repeats
    )
    moved = 2 * elements * grad.element_size()
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "elements": elements,
        "threads": threads,
        "clone_ms": 1e3 * clone,
        "prune_ms": 1e3 * pruned,
        "clone_gb_per_s": moved / clone / 1e9,
        "prune_gb_per_s": moved / pruned / 1e9,
        "share": clone / pruned,
    }


@click.command(help=__doc__)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file."
)
@click.option("--quick", is_flag=True, help="Time two sizes, only in float32.")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1),
              help="Threads of both operators.")  # fmt: skip
@click.option("--repeats", default=15, show_default=True, type=click.IntRange(min=7),
              help="Least number of timed rounds.")  # fmt: skip
def main(json_path: Path | None, quick: bool, threads: int, repeats: int) -> None:
    """Times all sizes, prints a table and writes the file."""
    torch.set_num_threads(threads)
    settle_allocator()
    dtypes = (torch.float32,) if quick else (torch.float32, torch.bfloat16, torch.float16)
    todo = [(n, t) for t in dtypes for n in (QUICK_ELEMENTS if quick else ELEMENTS)]
    rows = []
    with progress() as bar:
        task = bar.add_task("prune", total=len(todo))
        for elements, dtype in todo:
            rows.append(time_size(elements, dtype, threads, repeats))
            bar.advance(task)
    table = Table(title="pruning against torch.clone")
    for column in ("dtype", "elements", "clone ms", "prune ms", "clone GB/s", "prune GB/s",
                   "share of clone"):  # fmt: skip
        table.add_column(column, justify="right")
    for r in rows:
        table.add_row(r["dtype"], str(r["elements"]), f"{r['clone_ms']:.3f}",
                      f"{r['prune_ms']:.3f}", f"{r['clone_gb_per_s']:.1f}",
                      f"{r['prune_gb_per_s']:.1f}", f"{r['share']:.2f}")  # fmt: skip
    Console().print(table)
    shares = {
        str(t).removeprefix("torch."): geomean(
            r["share"] for r in rows if r["dtype"] == str(t).removeprefix("torch.")
        )
        for t in dtypes
    }
    write_json(json_path, {"machine": machine(threads), "rows": rows, "summary": shares})


if __name__ == "__main__":
    main()

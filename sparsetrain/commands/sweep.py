"""`sparsetrain sweep FOLDER`: models x rules x seeds, resumable, a line of results for each run."""

import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sparsetrain.commands.options import FILE, setting_help, setting_options
from sparsetrain.commands.progress import StepBar, follow
from sparsetrain.experiments import datasets
from sparsetrain.experiments.settings import SHARED, Settings
from sparsetrain.experiments.sweep import Folder, name, plan, read_toml, work
from sparsetrain.experiments.training import Event
from sparsetrain.pruning import DEFAULT_RATE

DEFAULT_RULES = ["dense", f"rate {DEFAULT_RATE}"]


@click.command()
@click.argument("folder", type=FILE)
@click.option("--toml", "toml_file", type=FILE,
              help="Read options from this file. Options of the command line win.")  # fmt: skip
@click.option("--model", "models", multiple=True, help=f"{setting_help('model')} Repeatable.")
@click.option("--rule", "rules", multiple=True, help="dense, 'rate R' or 'density D'. Repeatable.  "
              f"[default: {', '.join(DEFAULT_RULES)}]")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), help="Number of seeds, from 0.  [default: 1]")
@setting_options(*SHARED)
def sweep(folder: Path, toml_file: Path | None, **options: Any) -> None:
    """Train every model under every rule with every seed.

    FOLDER/results.jsonl gets a line for each run. Ctrl-C stops after the step in progress; the same
    command continues there. Several processes, or ranks of torchrun, may share FOLDER.

    Example: sparsetrain sweep runs/one --model resnet8 --rule dense --rule 'rate 0.9' --seeds 3
    """
    for variable in ("RANK", "WORLD_SIZE"):
        # Each run belongs to one process, and its masks must not depend on which. LOCAL_RANK stays.
        os.environ.pop(variable, None)
    content: dict[str, Any] = {"models": [Settings.model], "rules": DEFAULT_RULES}
    if toml_file is not None:
        content |= read_toml(toml_file)
    given = {key: value for key, value in options.items() if value is not None and value != ()}
    content |= {key: list(value) if type(value) is tuple else value for key, value in given.items()}
    planned = plan(content)
    data = datasets.load(planned.runs[0].dataset, planned.data_dir)
    sweep_folder = Folder(folder)
    interrupted = _follow(sweep_folder, planned.runs, data)
    names = sweep_folder.names()
    left = [run for run in planned.runs if name(run, data) not in names]
    click.echo(
        f"{len(planned.runs) - len(left)} of {len(planned.runs)} runs are in {sweep_folder.results}"
    )
    if interrupted is not None:
        click.echo("Stopped. The same command continues.")
        sys.exit(128 + interrupted)
    if left:
        click.echo(f"{len(left)} are in progress in other processes.")


def _follow(folder: Folder, runs: tuple[Settings, ...], data: datasets.Dataset) -> int | None:
    """Trains `runs` with a progress bar on stderr. Returns the signal that stopped it, if any."""
    console = Console(stderr=True, quiet=os.environ.get("LOCAL_RANK", "0") != "0")
    steps = {name(run, data): run.epochs * (len(data.train) // run.batch_size) for run in runs}
    bar = StepBar(console, steps, {run: steps[run] for run in folder.names() & steps.keys()})

    def on_epoch(run: str, event: Event) -> None:
        bar.finish(folder.names())  # also counts the runs of other processes
        assert event.record is not None
        console.print(
            f"{run}  epoch {event.record.epoch}  loss {event.record.train_loss:.3f}  "
            f"test {event.record.test_accuracy:.2%}",
            soft_wrap=True,
        )

    return follow(work(folder, runs, data), bar, on_epoch)

"""`sparsetrain sweep FOLDER`: models x rules x seeds, resumable, one line of results a run."""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sparsetrain.experiments import datasets
from sparsetrain.experiments.interrupt import Interrupt
from sparsetrain.experiments.sweep import Folder, name, plan, read_toml, work
from sparsetrain.experiments.training import Settings
from sparsetrain.ops import CPU_BACKENDS


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--toml", "toml_file", type=click.Path(path_type=Path),
              help="Read all options from here; those given beside it win.")  # fmt: skip
@click.option("--model", "models", multiple=True, help="Repeat for several.  [default: resnet8]")
@click.option("--rule", "rules", multiple=True, help="dense, 'rate R' or 'density D'; repeat for "
              "several.  [default: dense, rate 0.9]")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), help="How many, from 0.  [default: 1]")
@click.option("--dataset", type=click.Choice(datasets.NAMES), help="[default: fashion-mnist]")
@click.option("--data-dir", help="Folder of the data files.  [default: shipped subset]")
@click.option("--backend", type=click.Choice(CPU_BACKENDS), help="[default: auto]")
@click.option("--epochs", type=click.IntRange(1), help=f"[default: {Settings.epochs}]")
@click.option("--batch-size", type=click.IntRange(1), help=f"[default: {Settings.batch_size}]")
@click.option("--learning-rate", type=float, help=f"Peak.  [default: {Settings.learning_rate}]")
@click.option("--threads", type=click.IntRange(1, 1024), help=f"[default: {Settings.threads}]")
def sweep(folder: Path, toml_file: Path | None, **options: Any) -> None:
    """Train every model under every rule with every seed; FOLDER/results.jsonl gets a line a run.

    Ctrl-C stops after the step in progress; the same command goes on there, repeats nothing and
    loses nothing. Several processes, or ranks of torchrun, may share FOLDER.

    Example: sparsetrain sweep runs/one --model resnet8 --rule dense --rule 'rate 0.9' --seeds 3
    """
    for variable in ("RANK", "WORLD_SIZE"):
        os.environ.pop(variable, None)  # a run is one process's: whose, its masks are not to show
    content: dict[str, Any] = {"models": ["resnet8"], "rules": ["dense", "rate 0.9"]}
    if toml_file is not None:
        content |= read_toml(toml_file)
    content |= {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in options.items()
        if value is not None and value != ()
    }
    planned = plan(content)
    data = datasets.load(planned.runs[0].dataset, planned.data_dir)
    place = Folder(folder)
    interrupted = _follow(place, planned.runs, data)
    left = [run for run in planned.runs if name(run, data) not in place.names()]
    click.echo(
        f"{len(planned.runs) - len(left)} of {len(planned.runs)} runs are in {place.results}"
    )
    if interrupted is not None:
        click.echo("Stopped. The same command goes on.")
        sys.exit(128 + interrupted)
    if left:
        click.echo(f"{len(left)} are in progress in other processes.")


def _follow(place: Folder, runs: tuple[Settings, ...], data: datasets.Dataset) -> int | None:
    """Works off `runs` with a progress bar on stderr; the number of the signal that ended it."""
    columns = (
        TextColumn("{task.fields[run]} {task.fields[at]}"),
        BarColumn(),
        TextColumn("{task.percentage:.1f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    console = Console(stderr=True, quiet=os.environ.get("LOCAL_RANK", "0") != "0")
    steps = {name(run, data): run.epochs * (len(data.train) // run.batch_size) for run in runs}
    done = {run: steps[run] for run in place.names() & steps.keys()}
    bar = Progress(*columns, console=console, speed_estimate_period=600)
    task = bar.add_task("", total=sum(steps.values()), completed=sum(done.values()), run="", at="")
    with Interrupt() as interrupt, bar, closing(work(place, runs, data)) as events:
        for run, event in events:
            if event.phase == "train":
                done[run] = event.epoch * event.steps + event.step
            bar.update(task, completed=sum(done.values()), run=run, at=f"epoch {event.epoch + 1}")
            if event.record is not None:
                done |= {each: steps[each] for each in place.names() & steps.keys()}  # of others
                console.print(
                    f"{run}  epoch {event.record.epoch}  loss {event.record.train_loss:.3f}  "
                    f"test {event.record.test_accuracy:.2%}",
                    soft_wrap=True,
                )
            if interrupt.number is not None:
                break
    return interrupt.number

"""Train a network with pruned gradients and see what it saves: `python examples/train.py`.

Ctrl-C stops after the step in progress and leaves a checkpoint; `--resume FILE` goes on from it as
if nothing had happened. `torchrun --nproc-per-node 2 examples/train.py` trains on two processes.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scalars import Scalars
from tables import (
    LAYER_LEGEND,
    LEGEND,
    PLACE_LEGEND,
    epoch_header,
    epoch_row,
    layer_table,
    place_table,
)

from sparsetrain.distributed import rank_and_world
from sparsetrain.experiments import checkpoint, datasets, machine, networks, report
from sparsetrain.experiments.files import check_writable, write_json
from sparsetrain.experiments.interrupt import Interrupt
from sparsetrain.experiments.ranks import gather, joined
from sparsetrain.experiments.training import Settings, Trainer
from sparsetrain.ops import CPU_BACKENDS

FILE = click.Path(dir_okay=True, path_type=Path)  # what is wrong with a path we say ourselves


@contextmanager
def refusals(*kinds: type[Exception]) -> Iterator[None]:
    """What goes wrong inside on one process is the same one sentence on all of them."""
    sentence = None
    try:
        yield
    except kinds as error:
        sentence = str(error)
    sentence = next(filter(None, gather(sentence)), None)
    if sentence is not None:
        raise click.ClickException(sentence)


@click.command(context_settings={"show_default": True, "max_content_width": 100})
@click.option("--model", default="resnet8", help=f"{', '.join(networks.NAMES)} or torchvision's.")
@click.option("--dataset", type=click.Choice(datasets.NAMES), default="fashion-mnist")
@click.option("--data-dir", type=FILE, help="Folder of the data files.  [default: shipped subset]")
@click.option("--rate", type=float, help="Pruning rate in [0, 1).  [default: 0.9]")
@click.option("--density", type=float, help="Density to prune to, in (0, 1], instead of a rate.")
@click.option("--dense", is_flag=True, help="Train the model as it is, for comparison.")
@click.option(
    "--backend", type=click.Choice(CPU_BACKENDS), default="auto", help="Convolutions to use."
)
@click.option("--epochs", type=click.IntRange(1), default=Settings.epochs)
@click.option("--batch-size", type=click.IntRange(1), default=Settings.batch_size)
@click.option("--learning-rate", type=float, default=Settings.learning_rate, help="At its peak.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=Settings.seed)
@click.option("--threads", type=click.IntRange(1, 1024), default=Settings.threads,
              help="CPU threads; results are bit-equal only for the same number.")  # fmt: skip
@click.option("--json", "json_path", type=FILE, help="Write the results here after each epoch.")
@click.option("--checkpoint", "save_path", type=FILE, help="Checkpoint, written after each epoch.  "
              "[default: that of --resume, or runs/MODEL-DATASET-RULE-seedN.pt]")  # fmt: skip
@click.option("--report", "report_path", type=FILE, help="Write a page with the results here.")
@click.option("--tensorboard", "board_path", type=FILE, help="Write scalars into this folder.")
@click.option("--resume", type=FILE, help="Go on from this checkpoint, with its settings.")
@click.pass_context
def train(
    context: click.Context,
    data_dir: Path | None,
    json_path: Path | None,
    save_path: Path | None,
    report_path: Path | None,
    board_path: Path | None,
    resume: Path | None,
    **options: Any,
) -> int:
    """Train a network with pruned gradients and sparse convolutions; count what a chip would save.

    Example: python examples/train.py --density 0.2 --epochs 3 --json run.json
    """
    console = Console(highlight=False, quiet=rank_and_world()[0] > 0)
    with refusals(ValueError, OSError, ImportError):
        content = checkpoint.load(resume) if resume else None
        settings = choose_settings(context, options, content)
        save_path = save_path or resume or default_path(settings)
        for path in filter(None, (save_path, json_path, report_path)):
            check_writable(path)
        if report_path:
            report.check_installed()
        if json_path and json_path.resolve() == save_path.resolve():
            raise ValueError(
                f"expected --json to be another file than the checkpoint, got {json_path}"
            )
        torch.set_num_threads(settings.threads)
        data = datasets.load(settings.dataset, data_dir)
        if content is None or resume is None:
            trainer = Trainer(settings, data)
        else:
            trainer = checkpoint.restore(resume, content, data)
        scalars = Scalars(board_path) if board_path and trainer.rank == 0 else None
    processes = f", processes: {trainer.processes}" if trainer.processes > 1 else ""
    console.print(
        f"{settings.model} on {len(data.train):,} images of {data.name}, {settings.rule}, "
        f"{settings.epochs} x {trainer.steps} steps, threads: {settings.threads}{processes}"
    )
    if save_path.exists() and save_path != resume:
        console.print(
            f"{save_path} will be overwritten after the first epoch; --resume would go on from it",
            soft_wrap=True,
        )
    outputs = {
        "--resume": save_path,
        "--data-dir": data_dir,
        "--json": json_path,
        "--report": report_path,
        "--tensorboard": board_path,
    }
    write = partial(save, trainer, save_path, json_path, scalars)
    code = follow(trainer, console, write, {name: path for name, path in outputs.items() if path})
    if report_path and trainer.epochs:
        with refusals(OSError):
            if trainer.rank == 0:
                report.write([results(trainer)], report_path)
        console.print(f"Report: {report_path}", soft_wrap=True)
    return code


def choose_settings(
    context: click.Context, options: dict[str, Any], content: dict[str, Any] | None
) -> Settings:
    """The settings of the command line, or those of the checkpoint it must not contradict."""
    given = {
        field.name: options[field.name]
        for field in fields(Settings)
        if context.get_parameter_source(field.name) is ParameterSource.COMMANDLINE
    }
    if content is None:
        rule = {} if given.keys() & {"rate", "density", "dense"} else {"rate": 0.9}
        return Settings(**{**options, **rule})
    saved = checkpoint.settings(content)
    for name, value in given.items():
        if value != getattr(saved, name):
            raise ValueError(
                f"expected --{name.replace('_', '-')} to be {getattr(saved, name)} as in the "
                f"checkpoint, got {value}. Leave it out to resume, or start a new run"
            )
    return saved


def default_path(settings: Settings) -> Path:
    """Where the checkpoint goes without --checkpoint: one file for each kind of run."""
    name = f"{settings.model}-{settings.dataset}-{settings.rule}-seed{settings.seed}.pt"
    with suppress(OSError):  # check_writable says it better
        Path("runs").mkdir(exist_ok=True)
    return Path("runs", name)


def results(trainer: Trainer) -> dict[str, Any]:
    """What a run showed so far, and where."""
    return {**machine.origin(trainer.settings.threads), **trainer.results()}


def save(
    trainer: Trainer, save_path: Path, json_path: Path | None, scalars: Scalars | None
) -> None:
    """Write what is asked for of the state of `trainer`."""
    with refusals(OSError):
        checkpoint.save(save_path, trainer)
        if json_path and trainer.rank == 0:
            write_json(json_path, results(trainer))
        if scalars:
            scalars.write(trainer)


def follow(
    trainer: Trainer, console: Console, write: Callable[[], None], outputs: dict[str, Path]
) -> int:
    """Run `trainer` to its end or to an interrupt, showing and saving what it does; exit code.

    outputs: by option, what a command that goes on must be told again.
    """
    epochs, steps = trainer.settings.epochs, trainer.steps
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]} {task.fields[phase]:5}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console.print(LEGEND, style="dim")
    console.print(epoch_header())
    for record, share in zip(trainer.epochs, trainer.sparse_shares, strict=True):
        console.print(epoch_row(record, share))
    try:
        with Interrupt() as interrupt, Progress(*columns, console=console, transient=True) as bar:
            state = {"epoch": 1, "epochs": epochs, "phase": "train", "loss": float("nan")}
            task = bar.add_task("", total=epochs * steps, **state)
            for event in trainer.run():
                state |= {"epoch": event.epoch + 1, "phase": event.phase}
                if event.loss is not None:
                    state["loss"] = event.loss
                bar.update(task, completed=trainer.epoch * steps + trainer.step, **state)
                if event.record is not None:
                    console.print(epoch_row(event.record, trainer.sparse_shares[-1]))
                    write()
                stopped = max(gather(interrupt.number or 0))  # a step ends on all or on none
                if stopped:
                    break
        write()
    except FloatingPointError as error:  # of the mean loss, and so on every process
        raise click.ClickException(str(error)) from error
    if trainer.epoch < epochs:
        alone = trainer.processes == 1
        start = ["python"] if alone else ["torchrun", "--nproc-per-node", str(trainer.processes)]
        again = [str(word) for option in outputs.items() for word in option]
        console.print(
            f"Stopped at epoch {trainer.epoch + 1}, step {trainer.step} of {steps}. To go on: "
            f"{shlex.join([*start, sys.argv[0], *again])}",
            soft_wrap=True,
        )
        return 128 + stopped
    console.print(layer_table(trainer.layers))
    console.print(LAYER_LEGEND, style="dim")
    console.print(place_table(trainer.epochs[-1], trainer.settings.threads))
    console.print(PLACE_LEGEND, style="dim")
    console.print(f"Checkpoint: {outputs['--resume']}", soft_wrap=True)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command with `arguments`, by default those of the process; the exit code.

    Every failure is one sentence on stderr: 2 for what was asked wrongly, 130 for a second Ctrl-C.
    Of several processes the first one speaks.
    """
    try:
        with joined():
            return int(train.main(arguments, standalone_mode=False) or 0)
    except click.ClickException as error:
        code, sentence = 2, error.format_message()
    except (click.Abort, KeyboardInterrupt):
        code, sentence = 130, "stopped at once; the last checkpoint is as it was"
    if rank_and_world()[0] == 0:
        click.echo(f"train.py: {sentence}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())

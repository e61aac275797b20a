"""`sparsetrain train`: one run with a progress bar, tables, a checkpoint and optional results."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from sparsetrain.commands import tables
from sparsetrain.commands.options import FILE, setting_options
from sparsetrain.commands.progress import RunEvents, StepBar, follow
from sparsetrain.distributed import rank_and_world
from sparsetrain.experiments import checkpoint, datasets, report
from sparsetrain.experiments.files import check_writable, write_json
from sparsetrain.experiments.ranks import gather, joined
from sparsetrain.experiments.results import run_results
from sparsetrain.experiments.scalars import Scalars
from sparsetrain.experiments.settings import TYPES, Settings
from sparsetrain.experiments.training import Event, Trainer
from sparsetrain.pruning import DEFAULT_RATE


@click.command()
@setting_options(*TYPES)
@click.option("--json", "json_path", type=FILE, help="Write the results here after each epoch.")
@click.option("--checkpoint", "checkpoint_path", type=FILE, help="Write a checkpoint here "
              "after each epoch.  [default: --resume or runs/MODEL-DATASET-RULE-seedN.pt]"
              )  # fmt: skip
@click.option("--report", "report_path", type=FILE, help="Write a page with the results here.")
@click.option("--tensorboard", "board_path", type=FILE, help="Write scalars into this folder.")
@click.option("--resume", type=FILE, help="Continue this checkpoint, with its settings.")
@joined()
def train(
    data_dir: Path | None,
    json_path: Path | None,
    checkpoint_path: Path | None,
    report_path: Path | None,
    board_path: Path | None,
    resume: Path | None,
    **options: Any,
) -> None:
    """Train a network with pruned gradients and sparse convolutions.

    Shows what the SparseTrain chip would save. Prunes at rate 0.9 unless --rate, --density or
    --dense is given. Ctrl-C stops after the step in progress and leaves a checkpoint, which
    --resume continues bit for bit. Several processes share every batch under
    `torchrun --nproc-per-node N -m sparsetrain train`.

    Example: sparsetrain train --density 0.2 --epochs 3 --json run.json
    """
    console = Console(highlight=False, quiet=rank_and_world()[0] > 0)
    given = {name: value for name, value in options.items() if value is not None}
    with same_error_on_all_ranks(ValueError, OSError, ImportError):
        content = None if resume is None else checkpoint.load(resume)
        settings = _new_settings(given) if content is None else _saved_settings(content, given)
        checkpoint_path = checkpoint_path or resume or _default_path(settings)
        _check_outputs(checkpoint_path, json_path, report_path)
        torch.set_num_threads(settings.threads)
        data = datasets.load(settings.dataset, data_dir)
        if content is None or resume is None:
            trainer = Trainer(settings, data)
        else:
            trainer = checkpoint.restore(resume, content, data)
        scalars = Scalars(board_path) if board_path and trainer.rank == 0 else None
    _print_start(console, trainer)
    if checkpoint_path.exists() and checkpoint_path != resume:
        console.print(
            f"{checkpoint_path} will be overwritten after the first epoch. Use --resume to "
            "continue it",
            soft_wrap=True,
        )
    write = partial(_write, trainer, checkpoint_path, json_path, scalars)
    number = _follow(trainer, console, write)
    write()
    with same_error_on_all_ranks(OSError):
        if report_path and trainer.epochs and trainer.rank == 0:
            report.write([run_results(trainer)], report_path)
    if number is None:
        _print_end(console, trainer)
        console.print(f"Checkpoint: {checkpoint_path}", soft_wrap=True)
    else:
        outputs = {
            "--resume": checkpoint_path,
            "--data-dir": data_dir,
            "--json": json_path,
            "--report": report_path,
            "--tensorboard": board_path,
        }
        console.print(_how_to_continue(trainer, outputs), soft_wrap=True)
    if report_path and trainer.epochs:
        console.print(f"Report: {report_path}", soft_wrap=True)
    if number is not None:
        sys.exit(128 + number)


@contextmanager
def same_error_on_all_ranks(*kinds: type[Exception]) -> Iterator[None]:
    """Raises ValueError on every process of a run if one of `kinds` is raised on any of them.

    The process that fails alone would leave the others waiting for it.
    """
    message = None
    try:
        yield
    except kinds as error:
        message = str(error)
    message = next(filter(None, gather(message)), None)
    if message is not None:
        raise ValueError(message)


def _new_settings(given: dict[str, Any]) -> Settings:
    has_rule = given.keys() & {"rate", "density", "dense"}
    return Settings(**(given if has_rule else {**given, "rate": DEFAULT_RATE}))


def _saved_settings(content: dict[str, Any], given: dict[str, Any]) -> Settings:
    """The settings of a checkpoint. Raises ValueError if a given option contradicts them."""
    saved = checkpoint.settings(content)
    for name, value in given.items():
        if value != getattr(saved, name):
            raise ValueError(
                f"sparsetrain.train: expected --{name.replace('_', '-')} to be "
                f"{getattr(saved, name)} as in the checkpoint, got {value}. Leave it out to "
                "resume, or start a new run"
            )
    return saved


def _default_path(settings: Settings) -> Path:
    name = f"{settings.model}-{settings.dataset}-{settings.rule}-seed{settings.seed}.pt"
    with suppress(OSError):  # check_writable() has a better message
        Path("runs").mkdir(exist_ok=True)
    return Path("runs", name)


def _check_outputs(checkpoint_path: Path, json_path: Path | None, report_path: Path | None) -> None:
    """Raises before any work if an output cannot be written."""
    for path in filter(None, (checkpoint_path, json_path, report_path)):
        check_writable(path)
    if report_path:
        report.check_installed()
    if json_path and json_path.resolve() == checkpoint_path.resolve():
        raise ValueError(
            "sparsetrain.train: expected --json to be another file than the checkpoint, "
            f"got {json_path}"
        )


def _write(
    trainer: Trainer, checkpoint_path: Path, json_path: Path | None, scalars: Scalars | None
) -> None:
    """Writes everything that was asked for, as of now."""
    with same_error_on_all_ranks(OSError):
        checkpoint.save(checkpoint_path, trainer)
        if json_path and trainer.rank == 0:
            write_json(json_path, run_results(trainer))
        if scalars:
            scalars.write(trainer)


def _follow(trainer: Trainer, console: Console, write: Callable[[], None]) -> int | None:
    """Trains to the end, with a progress bar and a table row for each epoch.

    Returns the number of the signal that stopped the run, or None.
    """
    console.print(tables.EPOCH_LEGEND, style="dim")
    console.print(tables.epoch_header())
    for record, share in zip(trainer.epochs, trainer.sparse_shares, strict=True):
        console.print(tables.epoch_row(record, share))

    def on_epoch(run: str, event: Event) -> None:
        console.print(tables.epoch_row(trainer.epochs[-1], trainer.sparse_shares[-1]))
        write()

    run = trainer.settings.model
    done = trainer.epoch * trainer.steps + trainer.step
    bar = StepBar(console, {run: trainer.settings.epochs * trainer.steps}, {run: done})
    events: RunEvents = ((run, event) for event in trainer.run())
    try:
        return follow(events, bar, on_epoch)
    except FloatingPointError as error:  # raised on every process: the loss is their mean
        raise ValueError(str(error)) from error


def _print_start(console: Console, trainer: Trainer) -> None:
    settings, data = trainer.settings, trainer.data
    processes = f", processes: {trainer.processes}" if trainer.processes > 1 else ""
    console.print(
        f"{settings.model} on {len(data.train):,} images of {data.name}, {settings.rule}, "
        f"epochs: {settings.epochs}, steps of an epoch: {trainer.steps}, "
        f"threads: {settings.threads}{processes}"
    )


def _print_end(console: Console, trainer: Trainer) -> None:
    console.print(tables.layer_table(trainer.layers))
    console.print(tables.LAYER_LEGEND, style="dim")
    console.print(tables.step_table(trainer.epochs[-1], trainer.settings.threads))
    console.print(tables.STEP_LEGEND, style="dim")


def _how_to_continue(trainer: Trainer, outputs: dict[str, Path | None]) -> str:
    """The command that continues a stopped run with the same output files."""
    start = ["sparsetrain", "train"]
    if trainer.processes > 1:
        launch = ["torchrun", "--nproc-per-node", str(trainer.processes)]
        start = [*launch, "-m", *start]
    options = [word for name, path in outputs.items() if path for word in (name, str(path))]
    return (
        f"Stopped at epoch {trainer.epoch + 1}, step {trainer.step} of {trainer.steps}. "
        f"To continue: {shlex.join([*start, *options])}"
    )

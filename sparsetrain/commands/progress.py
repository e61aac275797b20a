"""Follows runs for `train` and `sweep`: a progress bar, and an orderly stop at Ctrl-C."""

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sparsetrain.distributed import rank_and_world
from sparsetrain.experiments.interrupt import Interrupt
from sparsetrain.experiments.ranks import gather
from sparsetrain.experiments.training import Event

RunEvents = Generator[tuple[str, Event], None, None]


class StepBar:
    """A progress bar over the training steps of one or several runs.

    Args:
        console: Where to draw. Nothing is drawn unless it is a terminal.
        steps: Training steps of each run, by its name.
        done: Finished steps of each run that has begun.
    """

    def __init__(self, console: Console, steps: Mapping[str, int], done: Mapping[str, int]) -> None:
        columns = (
            TextColumn("{task.description} {task.fields[position]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}  loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.console, self._steps, self._done = console, steps, dict(done)
        self.progress = Progress(
            *columns, console=console, transient=True, speed_estimate_period=600
        )
        self._task = self.progress.add_task(
            "", total=sum(steps.values()), completed=sum(done.values()), position="",
            loss=float("nan"),
        )  # fmt: skip

    def advance(self, run: str, event: Event) -> None:
        """Shows the position of a run."""
        if event.phase == "train":
            self._done[run] = event.epoch * event.steps + event.step
        fields: dict[str, Any] = {"position": f"epoch {event.epoch + 1} {event.phase:5}"}
        if event.loss is not None:
            fields["loss"] = event.loss
        done = sum(self._done.values())
        self.progress.update(self._task, description=run, completed=done, **fields)

    def finish(self, runs: set[str]) -> None:
        """Counts these runs as done, for instance those that other processes trained."""
        self._done |= {run: self._steps[run] for run in runs & self._steps.keys()}


def follow(events: RunEvents, bar: StepBar, on_epoch: Callable[[str, Event], None]) -> int | None:
    """Goes through the events of runs until they end or a signal asks to stop.

    After the first Ctrl-C or SIGTERM the step in progress ends and `events` is closed. A second one
    exits the process at once with code 130.

    Args:
        events: (name of the run, event) after each step.
        bar: The progress bar to keep up to date.
        on_epoch: Called with the last event of each epoch.

    Returns:
        The number of the signal that stopped the runs, or None if they ended.
    """
    try:
        with Interrupt() as interrupt, bar.progress, closing(events):
            for run, event in events:
                bar.advance(run, event)
                if event.record is not None:
                    on_epoch(run, event)
                # The processes of a run stop together, after the same step.
                number: int = max(gather(interrupt.number or 0))
                if number:
                    return number
    except KeyboardInterrupt:
        if rank_and_world()[0] == 0:
            click.echo("error: stopped at once. The last checkpoint is unchanged", err=True)
        sys.exit(130)
    return None

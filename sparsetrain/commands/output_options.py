"""The options --json, --csv and --plot of the commands estimate and explore."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sparsetrain.accel.plots import check_plot
from sparsetrain.experiments.files import check_writable

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--json", "json_file", type=click.Path(path_type=Path),
        help="Write the settings and all results to this file.",
    ),
    click.option(
        "--csv", "csv_file", type=click.Path(path_type=Path), help="Write the table to this file.",
    ),
    click.option(
        "--plot", "plot_file", type=click.Path(path_type=Path),
        help="Draw the results into this PNG or SVG file. Needs matplotlib.",
    ),
)  # fmt: skip


def output_options(command: F) -> F:
    """Gives a command --json, --csv and --plot as json_file, csv_file and plot_file."""
    for option in reversed(_OPTIONS):  # the last decorator applied is the first option in the help
        command = option(command)
    return command


def check_outputs(json_file: Path | None, csv_file: Path | None, plot_file: Path | None) -> None:
    """Checks before any work that the output files can be written.

    Raises:
        ValueError: If two outputs are the same file, or the plot is neither PNG nor SVG.
        OSError: If a file cannot be written.
    """
    paths = [path.resolve() for path in (json_file, csv_file, plot_file) if path]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(
                f"sparsetrain: expected each output to be a file of its own, got {path} twice"
            )
        check_writable(path)
    if plot_file:
        check_plot(plot_file)

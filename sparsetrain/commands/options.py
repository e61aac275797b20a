"""Options that `train` and `sweep` share, made from the declaration of `Settings`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from sparsetrain.experiments.settings import METADATA, TYPES, Settings

FILE = click.Path(path_type=Path)
"""Type of an option that is a file or a folder. The commands check it themselves."""

Command = TypeVar("Command", bound=Callable[..., Any])


def setting_options(*names: str) -> Callable[[Command], Command]:
    """A decorator that adds an option for each of these settings, and `--data-dir`.

    A command gets None for an option that is not given, so that it can tell the given ones.
    """

    def decorate(command: Command) -> Command:
        command = click.option(
            "--data-dir", type=FILE, help="Folder of the data files.  [default: shipped images]"
        )(command)
        for name in reversed(names):
            command = _setting_option(name)(command)
        return command

    return decorate


def setting_help(name: str) -> str:
    """The help text of a setting, with its default, and its range unless the limit is huge."""
    interval, default = METADATA[name]["interval"], getattr(Settings, name)
    notes = []
    if interval is not None and (interval.high < 1e6 or interval.high == math.inf):
        notes.append(str(interval))
    if default is not None and default is not False:
        notes.append(f"default: {default}")
    text: str = METADATA[name]["help"]
    return f"{text}  [{'; '.join(notes)}]" if notes else text


def _setting_option(name: str) -> Callable[[Command], Command]:
    kind, choices = TYPES[name], METADATA[name]["choices"]
    option = f"--{name.replace('_', '-')}"
    if kind is bool:
        return click.option(option, is_flag=True, default=None, help=setting_help(name))
    value_type = click.Choice(choices) if choices else (get_args(kind) or (kind,))[0]
    return click.option(option, type=value_type, help=setting_help(name))

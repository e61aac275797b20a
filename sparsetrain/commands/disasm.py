"""`sparsetrain disasm MODEL`: the row instructions of a training step on the accelerator."""

from typing import Any

import click

from sparsetrain import accel
from sparsetrain._checks import did_you_mean
from sparsetrain.commands.step_options import chip_option, step_options, workload


@click.command()
@step_options
@chip_option
@click.option(
    "--level", type=click.Choice(accel.LEVELS), default="block", show_default=True,
    help="How much to print: the blocks of each pass; also the tasks of each block; also the row "
    "operations of each task.",
)  # fmt: skip
@click.option(
    "--most", default=4, show_default=True, type=click.IntRange(1, 2**31),
    help="Print at most this many blocks of a pass, tasks of a block and operations of a task.",
)  # fmt: skip
@click.option("--layer", help="Print only the layer of this name.")
def disasm(chip: str, level: str, most: int, layer: str | None, **step: Any) -> None:
    """Print the program of one training step of MODEL: SRC, MSRC and OSRC row operations.

    MODEL is as in `sparsetrain estimate`.

    Example: sparsetrain disasm resnet18 --layer 1.layer1.0.conv1 --level task
    """
    work = workload(**step)
    if layer is not None:
        chosen = tuple(each for each in work.layers if each.name == layer)
        if not chosen:
            names = [each.name for each in work.layers]
            raise ValueError(
                f"sparsetrain: expected --layer to be a layer's name, got {layer!r}; "
                + did_you_mean(layer, names)
            )
        work = accel.Workload(chosen)
    click.echo(accel.disassemble(work, accel.find_chip(chip), level=level, most=most), nl=False)

"""`python -m sparsetrain disasm MODEL`: the row instructions of a training step."""

from typing import Any

import click

from sparsetrain import accel
from sparsetrain._checks import did_you_mean
from sparsetrain.commands import network


@click.command()
@network.options
@click.option("--chip", default="sparsetrain168", show_default=True, help="Name or file.toml:name.")
@click.option(
    "--level", type=click.Choice(accel.LEVELS), default="block", show_default=True,
    help="Blocks; also their tasks; also their row operations.",
)  # fmt: skip
@click.option(
    "--most", default=4, show_default=True, type=click.IntRange(1, 2**31),
    help="Blocks of a pass, tasks of a block and operations of a task that are shown.",
)  # fmt: skip
@click.option("--layer", help="Only the layer of this name.")
def disasm(chip: str, level: str, most: int, layer: str | None, **step: Any) -> None:
    """The program (SRC, MSRC and OSRC row operations) of one training step of MODEL.

    Example: sparsetrain disasm resnet18 --layer 1.layer1.0.conv1 --level task
    """
    work = network.workload(**step)
    if layer is not None:
        kept = tuple(one for one in work.layers if one.name == layer)
        if not kept:
            names = [one.name for one in work.layers]
            raise ValueError(
                f"sparsetrain: expected --layer to be a layer's name, got {layer!r}; "
                + did_you_mean(layer, names)
            )
        work = accel.Workload(kept)
    click.echo(accel.disassemble(work, accel.find_chip(chip), level=level, most=most), nl=False)

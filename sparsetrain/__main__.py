"""`python -m sparsetrain`: the chip's cost of any network, the cost table, the installation."""

import sys

import click

from sparsetrain.commands.disasm import disasm
from sparsetrain.commands.doctor import doctor
from sparsetrain.commands.estimate import estimate
from sparsetrain.commands.explore import explore
from sparsetrain.commands.report import report
from sparsetrain.commands.sweep import sweep
from sparsetrain.commands.tune import tune


class Commands(click.Group):
    """Bad input is one sentence on standard error and exit code 2."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs a subcommand."""
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


@click.group(cls=Commands)
def main() -> None:
    """What training costs on the SparseTrain accelerator; tune and doctor look at this machine."""


main.add_command(doctor)
main.add_command(estimate)
main.add_command(disasm)
main.add_command(explore)
main.add_command(report)
main.add_command(sweep)
main.add_command(tune)

if __name__ == "__main__":
    main()

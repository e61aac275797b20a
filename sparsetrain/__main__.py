"""`sparsetrain`, or `python -m sparsetrain`: the command line, one subcommand a file."""

import logging
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
@click.option("-v", "--verbose", is_flag=True, help="Show what the library logs.")
def main(verbose: bool) -> None:
    """Experiments, reports, what training costs on the SparseTrain chip, and this machine.

    Example: sparsetrain sweep runs/one --seeds 3 && sparsetrain report runs/one
    """
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


main.add_command(doctor)
main.add_command(estimate)
main.add_command(disasm)
main.add_command(explore)
main.add_command(report)
main.add_command(sweep)
main.add_command(tune)

if __name__ == "__main__":
    main()

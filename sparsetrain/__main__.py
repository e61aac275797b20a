"""The command line `sparsetrain`, also `python -m sparsetrain`: one subcommand for each file."""

import logging
import sys

import click

from sparsetrain.commands.disasm import disasm
from sparsetrain.commands.doctor import doctor
from sparsetrain.commands.estimate import estimate
from sparsetrain.commands.explore import explore
from sparsetrain.commands.report import report
from sparsetrain.commands.sweep import sweep
from sparsetrain.commands.train import train
from sparsetrain.commands.tune import tune
from sparsetrain.distributed import rank_and_world
from sparsetrain.version import __version__


class Commands(click.Group):
    """Reports bad input as one sentence on stderr, with exit code 2; under torchrun on rank 0."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs a subcommand."""
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
            if rank_and_world()[0] == 0:
                click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except click.ClickException as error:  # click itself prints the message
            if rank_and_world()[0] > 0:
                sys.exit(error.exit_code)
            raise


@click.group(cls=Commands)
@click.version_option(__version__, prog_name="sparsetrain", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Print the log of the library.")
def main(verbose: bool) -> None:
    """Train with pruned gradients, compare runs, and estimate costs on the SparseTrain chip.

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
main.add_command(train)
main.add_command(tune)

if __name__ == "__main__":
    main()

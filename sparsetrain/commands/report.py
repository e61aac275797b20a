"""`sparsetrain report RESULTS -o FILE`: the results of runs as one self-contained page."""

from pathlib import Path

import click

from sparsetrain.experiments import report as pages
from sparsetrain.experiments.files import check_writable
from sparsetrain.experiments.results import read_results


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--markdown", is_flag=True, help="Print a table of the main numbers instead.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="report.html",
              show_default=True, help="The HTML file to write.")  # fmt: skip
def report(results: tuple[Path, ...], output: Path, markdown: bool) -> None:
    """Show RESULTS as one HTML file that needs no network.

    RESULTS are folders of `sparsetrain sweep`, their results.jsonl, or files of
    `sparsetrain train --json`.

    Example: sparsetrain report runs/one -o report.html
    """
    pages.check_installed()
    if not markdown:
        check_writable(output)
    runs = [result for path in results for result in read_results(path)]
    if markdown:
        click.echo(pages.table(runs))
        return
    pages.write(runs, output)
    click.echo(f"{output}")

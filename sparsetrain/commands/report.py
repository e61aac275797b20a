"""`sparsetrain report RESULTS -o FILE`: writes the results of runs as one HTML page."""

from pathlib import Path

import click

from sparsetrain.experiments import report as report_page
from sparsetrain.experiments.files import check_writable
from sparsetrain.experiments.results import read_results


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--markdown", is_flag=True, help="Print a Markdown table of the main results and write no page."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="report.html",
              show_default=True, help="The HTML file to write.")  # fmt: skip
def report(results: tuple[Path, ...], output: Path, markdown: bool) -> None:
    """Write RESULTS as one HTML page that needs no network.

    RESULTS are folders of `sparsetrain sweep`, their results.jsonl, or files of
    `sparsetrain train --json`.

    Example: sparsetrain report runs/one -o report.html
    """
    report_page.check_installed()
    if not markdown:
        check_writable(output)
    runs = [result for path in results for result in read_results(path)]
    if markdown:
        click.echo(report_page.table(runs))
        return
    report_page.write(runs, output)
    click.echo(f"{output}")

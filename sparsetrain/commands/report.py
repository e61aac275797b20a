"""`sparsetrain report RESULTS -o FILE`: runs as one self-contained page."""

import json
from pathlib import Path
from typing import Any

import click

from sparsetrain.experiments import report as pages
from sparsetrain.experiments.files import check_writable
from sparsetrain.experiments.sweep import RESULT, read_results


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--markdown", is_flag=True, help="Print a table of the main numbers instead.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default="report.html",
              show_default=True, help="The HTML file to write.")  # fmt: skip
def report(results: tuple[Path, ...], output: Path, markdown: bool) -> None:
    """Show RESULTS as one HTML file that needs no network.

    RESULTS are sweep folders, their results.jsonl, or files of `examples/train.py --json`.

    Example: sparsetrain report runs/one -o report.html
    """
    pages.check_installed()
    if markdown:
        click.echo(pages.table([result for path in results for result in _read(path)]))
        return
    check_writable(output)
    pages.write([result for path in results for result in _read(path)], output)
    click.echo(f"{output}")


def _read(path: Path) -> list[dict[str, Any]]:
    if path.suffix != ".json":
        return read_results(path / "results.jsonl" if path.is_dir() else path)
    where = f"sparsetrain.experiments.report: expected {path} to be"
    if not path.is_file():
        raise FileNotFoundError(f"{where} a results file, got none")
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{where} JSON, got: {error}") from error
    if not isinstance(result, dict) or not result.keys() >= RESULT:
        raise ValueError(f"{where} the results of a run, got something else")
    return [result]

"""Writes the results of the sweeps into README.md and the docs, from benchmarks/results.

    python benchmarks/results.py [FOLDER ...] [--sampling LOG]

It measures nothing. First it copies the results of each FOLDER of `sparsetrain sweep`, and the log
of benchmarks/sampling.py, to benchmarks/results. Then it writes the tables between their marks in
README.md, docs/results.md and docs/method.md, and the pictures docs/report*.png (needs chromium).
The accuracies and speedups compare each pruned run with the dense run of the same seed.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import click
import sampling
from PIL import Image, ImageChops

from sparsetrain.experiments import report
from sparsetrain.experiments.files import write_atomically
from sparsetrain.experiments.report.aggregate import CONFIDENCE, Result, RunGroup, group_runs
from sparsetrain.experiments.report.figures import differences
from sparsetrain.experiments.report.markdown import (
    accelerator_gains,
    format_difference,
    format_mean,
    table_row,
)
from sparsetrain.experiments.results import read_results
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.sweep import plan, read_toml

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SWEEPS = tuple(path.stem for path in sorted((ROOT / "benchmarks" / "sweeps").glob("*.toml")))
PICTURES = {"docs/report.png": (1400, False), "docs/report-phone.png": (390, True)}  # width, dark
LEAD_HEIGHT = 1500  # pixels: height of docs/report-lead.png, the top of docs/report.png
WINDOW_HEIGHT = 20_000  # pixels: higher than every report
MARGIN = 20  # pixels: what a picture keeps below the end of the page

# README's headline table: the pruned runs of this length, and names for networks and processors.
# Virtual machines report only the processor's family. The name of the cores follows from its model
# number.
HEADLINE_EPOCHS = 10
NETWORKS = {"plain": "`plain` (conv-ReLU)", "resnet20": "ResNet-20"}
PROCESSORS = {"AMD EPYC": "AMD Zen 4", "Intel(R) Xeon(R) Processor": "Intel Emerald Rapids"}
HEADLINE_COLUMNS = (
    f"network, {HEADLINE_EPOCHS} epochs of Fashion-MNIST",
    "processor",
    "density of the output's gradient before and after pruning",
    f"test accuracy minus dense, percentage points ({CONFIDENCE:.0%} interval)",
    "training step, speedup",
    "accelerator over its dense twin: speed, energy",
)


def copy_results(folder: Path) -> None:
    """Copies the whole lines of a sweep's results; a line that is being written is left out.

    Raises:
        ValueError: The folder's file has no results.
    """
    source = folder / "results.jsonl"
    read_results(source)
    content = source.read_bytes()
    whole_lines = content[: content.rfind(b"\n") + 1]
    write_atomically(RESULTS / f"{folder.name}.jsonl", lambda file: file.write(whole_lines))


def committed() -> list[Result]:
    """The results in benchmarks/results of all sweeps, in the order of the sweeps' names."""
    paths = [RESULTS / f"{name}.jsonl" for name in SWEEPS]
    return [result for path in paths if path.exists() for result in read_results(path)]


def tables() -> dict[str, dict[str, str]]:
    """Returns {file: {mark: text}}: the text that belongs between the marks of each file."""
    results = committed()
    texts = {
        "README.md": {"headline": headline_table(results)},
        "docs/results.md": {"sweeps": f"{report.table(results)}\n{finished_runs()}"},
        "docs/method.md": {"differences": differences_table(results)},
    }
    log = RESULTS / "sampling.jsonl"
    if log.exists():
        texts["docs/method.md"]["sampling"] = sampling.table(sampling.read(log))
    return texts


def finished_runs() -> str:
    """How many runs each sweep finished, and how many it plans."""
    counts = []
    for name in SWEEPS:
        planned = plan(read_toml(ROOT / "benchmarks" / "sweeps" / f"{name}.toml")).runs
        path = RESULTS / f"{name}.jsonl"
        finished = [settings_of(result) for result in read_results(path)] if path.exists() else []
        counts.append(f"{name} {len(set(finished) & set(planned))} of {len(planned)}")
    return f"- finished runs of the planned ones: {', '.join(counts)}"


def settings_of(result: Result) -> Settings:
    """The settings that a run was started with."""
    return Settings(**{field.name: result["config"][field.name] for field in fields(Settings)})


def headline_table(results: Sequence[Result]) -> str:
    """README's table: one row for each network and pruning rule, of the longest runs."""
    lines = [table_row(HEADLINE_COLUMNS), "|" + "---|" * len(HEADLINE_COLUMNS)]
    for group in group_runs(results):
        config = group.results[0]["config"]
        if config["epochs"] == HEADLINE_EPOCHS and group.rule != "dense":
            lines.append(table_row(_headline_cells(group)))
    return "\n".join(lines)


def _headline_cells(group: RunGroup) -> tuple[str, ...]:
    config = group.results[0]["config"]
    threads = f"{config['threads']} thread{'s' if config['threads'] > 1 else ''}"
    processors = dict.fromkeys(PROCESSORS[r["machine"]["processor"]] for r in group.results)
    return (
        f"{NETWORKS[config['model']]}, {group.rule}",
        f"{', '.join(processors)}, {threads}",
        f"{format_mean(group.grad_density_unpruned, 3)}, {format_mean(group.grad_density, 3)}",
        format_difference(group.difference),
        f"{format_mean(group.cpu_speedup, 2)}x",
        accelerator_gains(group),
    )


def differences_table(results: Sequence[Result]) -> str:
    """The numbers of the report's figure "test accuracy minus dense" as a Markdown table."""
    figure = differences(group_runs(results))
    if figure is None:
        return "No pair of runs is complete yet."
    lines = [figure.columns, ["---"] * len(figure.columns), *figure.rows]
    return "\n".join(table_row([*map(str, line)]) for line in lines)


def between_marks(text: str, mark: str, content: str) -> str:
    """Returns `text` with `content` between the two comments that name `mark`.

    Raises:
        ValueError: The text lacks one of the two comments.
    """
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"results.between_marks: expected the marks of {mark}, got none")
    return before + begin + content + "\n" + end + after


def picture(page: Path, path: Path, width: int, dark: bool) -> None:
    """Writes a PNG with few colors of the whole `page`, as chromium shows it.

    Args:
        page: An HTML file.
        path: The PNG file to write.
        width: Width of the page in pixels.
        dark: Use the dark color scheme.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise FileNotFoundError(
            "results.picture: expected chromium to be installed, got none. Run apt install chromium"
        )
    # Chromium's windows have a minimum width that is larger than a phone's. A frame has none.
    frame = page.with_name("frame.html")
    frame.write_text(
        f'<!doctype html><body style="margin:0"><iframe src="{page.as_uri()}" '
        f'style="border:0;width:{width}px;height:{WINDOW_HEIGHT}px"></iframe>'
    )
    screenshot = page.with_name("screenshot.png")
    subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={screenshot}",
         f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--hide-scrollbars",
         f"--window-size={max(width, 500)},{WINDOW_HEIGHT}", "--virtual-time-budget=20000",
         frame.as_uri()],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    with Image.open(screenshot) as image:
        window = image.convert("RGB").crop((0, 0, width, WINDOW_HEIGHT))
        empty = Image.new("RGB", window.size, window.getpixel((0, WINDOW_HEIGHT - 1)))
        bottom = ImageChops.difference(window, empty).getbbox()[3]
        cropped = window.crop((0, 0, width, bottom + MARGIN))
        few_colors = cropped.quantize(128, dither=Image.Dither.NONE)
        write_atomically(path, lambda file: few_colors.save(file, "PNG", optimize=True))


@click.command(help=__doc__)
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--sampling", "sampling_log", type=click.Path(path_type=Path, exists=True),
              help="The log of benchmarks/sampling.py to copy.")  # fmt: skip
@click.option("--pictures/--no-pictures", default=True, show_default=True,
              help="Also write the pictures of the report.")  # fmt: skip
def main(folders: tuple[Path, ...], sampling_log: Path | None, pictures: bool) -> None:
    """Copies new results, then writes all tables and pictures."""
    for folder in folders:
        copy_results(folder)
    if sampling_log is not None:
        shutil.copyfile(sampling_log, RESULTS / "sampling.jsonl")
    for name, parts in tables().items():
        text = (ROOT / name).read_text()
        for mark, content in parts.items():
            text = between_marks(text, mark, content)
        (ROOT / name).write_text(text)
    if pictures:
        write_pictures()
    click.echo(report.table(committed()))


def write_pictures() -> None:
    """Writes docs/report*.png: the report of all results, and its top."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        report.write(committed(), page)
        for name, (width, dark) in PICTURES.items():
            picture(page, ROOT / name, width, dark)
    with Image.open(ROOT / "docs/report.png") as image:
        top = image.crop((0, 0, image.width, LEAD_HEIGHT))
        top.save(ROOT / "docs/report-lead.png", optimize=True)


if __name__ == "__main__":
    main()

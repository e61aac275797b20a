"""What README and docs show of the sweeps, made anew from their results.

python benchmarks/results.py runs/resnet20 runs/plain --sampling sampling.jsonl

Takes over the results of each FOLDER, and what sampling.py wrote, into benchmarks/results, then
writes what is made of all that lies there: the tables between their marks in README.md and
docs/method.md, and pictures of the report in docs. Without FOLDERs nothing is taken over.
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
from sparsetrain.experiments.report.aggregate import Result, points
from sparsetrain.experiments.report.figures import differences
from sparsetrain.experiments.report.markdown import line_of
from sparsetrain.experiments.results import read_results
from sparsetrain.experiments.sweep import plan, read_toml
from sparsetrain.experiments.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SWEEPS = tuple(path.stem for path in sorted((ROOT / "benchmarks" / "sweeps").glob("*.toml")))
PICTURES = {"docs/report.png": (1400, False), "docs/report-phone.png": (390, True)}  # width, dark
LEAD = 1500  # pixels: how much of the first picture README shows
TALL, MARGIN = 20_000, 20  # pixels: more than any report is high, and what is left below it


def take_over(folder: Path) -> None:
    """Copies a sweep's results, but for half a line of a run that is being written."""
    source = folder / "results.jsonl"
    read_results(source)  # refuses what is none
    content = source.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    write_atomically(RESULTS / f"{folder.name}.jsonl", lambda file: file.write(whole))


def committed() -> list[Result]:
    """The results of every sweep that there are, sweep by sweep."""
    paths = [RESULTS / f"{name}.jsonl" for name in SWEEPS]
    return [result for path in paths if path.exists() for result in read_results(path)]


def tables() -> dict[str, dict[str, str]]:
    """{file: {mark: text}}: what belongs between the marks of each file."""
    results = committed()
    found = {
        "README.md": {"sweeps": f"{report.table(results)}\n{finished()}"},
        "docs/method.md": {"differences": differences_table(results)},
    }
    log = RESULTS / "sampling.jsonl"
    if log.exists():
        found["docs/method.md"]["sampling"] = sampling.table(sampling.read(log))
    return found


def finished() -> str:
    """How many runs of each sweep there are, of how many that it plans."""
    counts = []
    for name in SWEEPS:
        planned = plan(read_toml(ROOT / "benchmarks" / "sweeps" / f"{name}.toml")).runs
        path = RESULTS / f"{name}.jsonl"
        ran = [settings_of(one) for one in read_results(path)] if path.exists() else []
        counts.append(f"{name} {len(set(ran) & set(planned))} of {len(planned)}")
    return f"- runs that were reached, of those planned: {', '.join(counts)}"


def settings_of(result: Result) -> Settings:
    """What a run was asked for."""
    return Settings(**{field.name: result["config"][field.name] for field in fields(Settings)})


def differences_table(results: Sequence[Result]) -> str:
    """The table behind the report's figure of differences to dense."""
    figure = differences(points(results))
    if figure is None:
        return "No pair of runs is complete yet."
    lines = [figure.columns, ["---"] * len(figure.columns), *figure.rows]
    return "\n".join(line_of([*map(str, line)]) for line in lines)


def between_marks(text: str, mark: str, content: str) -> str:
    """`text` with `content` between its two comments of this name. ValueError if it has none."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, found, rest = text.partition(begin)
    _, also, after = rest.partition(end)
    if not found or not also:
        raise ValueError(f"expected the marks of {mark}, got none")
    return before + begin + content + "\n" + end + after


def picture(page: Path, path: Path, width: int, dark: bool) -> None:
    """The whole of `page`, as chromium shows it `width` pixels wide, in a few colours as PNG."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise FileNotFoundError("expected chromium to be installed, got none")
    frame = page.with_name("frame.html")  # a window is never as narrow as a phone, a frame may be
    frame.write_text(
        f'<!doctype html><body style="margin:0"><iframe src="{page.as_uri()}" '
        f'style="border:0;width:{width}px;height:{TALL}px"></iframe>'
    )
    shot = page.with_name("shot.png")
    subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={shot}",
         f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--hide-scrollbars",
         f"--window-size={max(width, 500)},{TALL}", "--virtual-time-budget=20000", frame.as_uri()],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    with Image.open(shot) as image:
        whole = image.convert("RGB").crop((0, 0, width, TALL))
        empty = Image.new("RGB", whole.size, whole.getpixel((0, TALL - 1)))
        bottom = ImageChops.difference(whole, empty).getbbox()[3]
        small = whole.crop((0, 0, width, bottom + MARGIN)).quantize(128, dither=Image.Dither.NONE)
        write_atomically(path, lambda file: small.save(file, "PNG", optimize=True))


@click.command(help=__doc__)
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--sampling", "sampled", type=click.Path(path_type=Path, exists=True), help="sampling.py's log"
)
def main(folders: tuple[Path, ...], sampled: Path | None) -> None:
    """See the module."""
    for folder in folders:
        take_over(folder)
    if sampled is not None:
        shutil.copyfile(sampled, RESULTS / "sampling.jsonl")
    texts = {}
    for name, parts in tables().items():
        texts[name] = (ROOT / name).read_text()
        for mark, content in parts.items():
            texts[name] = between_marks(texts[name], mark, content)
    for name, text in texts.items():
        (ROOT / name).write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        report.write(committed(), page)
        for name, (width, dark) in PICTURES.items():
            picture(page, ROOT / name, width, dark)
    with Image.open(ROOT / "docs/report.png") as image:
        image.crop((0, 0, image.width, LEAD)).save(ROOT / "docs/report-lead.png", optimize=True)
    click.echo(report.table(committed()))


if __name__ == "__main__":
    main()

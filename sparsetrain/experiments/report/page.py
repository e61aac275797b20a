"""The page: figures, tables and where everything came from, in one HTML file without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparsetrain.experiments.files import write_atomically
from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report import cost_figures, figures, gain_figures
from sparsetrain.experiments.report.aggregate import (
    Result,
    RunGroup,
    group_runs,
    rule_name,
    training_setup,
)
from sparsetrain.experiments.report.figures import Figure, format_estimate

NEEDS = ("plotly", "jinja2", "scipy")
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """One number at the head of the page, and what it is."""

    value: str
    label: str


def check_installed() -> None:
    """Raises ModuleNotFoundError with one sentence unless all that a report needs is there."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"sparsetrain.experiments.report: expected {', '.join(NEEDS)} to be installed, got no "
            f"{', '.join(missing)}. Run pip install {' '.join(missing)}"
        )


def write(results: Sequence[Result], path: Path) -> None:
    """Write the report of `results`, lines of a sweep or `Trainer.results()`, to `path`.

    Raises ModuleNotFoundError as `check_installed`, ValueError where there is no finished epoch,
    OSError as `write_atomically`.
    """
    check_installed()
    if not any(result["epochs"] for result in results):
        raise ValueError(
            "sparsetrain.experiments.report: expected results to be of at least one finished "
            "epoch, got none"
        )
    text = _render(results)
    write_atomically(path, lambda file: file.write(text.encode()))


def _render(results: Sequence[Result]) -> str:
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    groups = group_runs(results)
    drawn = sections(groups)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    charts: dict[str, Any] = {
        one.key: {
            "data": one.traces,
            "layout": {**one.layout, "height": one.height},
            "trace_choices": one.trace_choices,
            "layers": one.layers,
        }
        for one in drawn
    }
    content = json.dumps(charts, allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("page.html").render(
        title=" and ".join(figures.models(groups)),
        subtitle=_subtitle(results),
        tiles=tiles(groups),
        sections=drawn,
        origins=origins(results),
        failures=[(r.get("run", "this run"), r["failure"]) for r in results if r.get("failure")],
        plotly=Markup(get_plotlyjs()),
        style=Markup((_HERE / "page.css").read_text()),
        script=Markup((_HERE / "page.js").read_text()),
        charts=Markup(content),
    )


def sections(groups: Sequence[RunGroup]) -> list[Figure]:
    """Every figure for which there are results, in the order of the page."""
    found = (
        figures.frontier(groups),
        figures.differences(groups),
        gain_figures.speedups(groups),
        figures.curves(groups),
        figures.densities(groups),
        cost_figures.time_parts(groups),
        cost_figures.chip(groups, "dense_cycles", "cycles", "cycles", "Mcycles"),
        cost_figures.chip(groups, "dense_energy", "energy", "energy", "µJ"),
        gain_figures.energy_band(groups),
        cost_figures.roofline(groups),
    )
    return [one for one in found if one is not None]


def tiles(groups: Sequence[RunGroup]) -> dict[str, list[Tile]]:
    """By model: accuracy dense, and what the mildest pruning costs and gain_figures."""
    by_model: dict[str, list[Tile]] = {}
    for model in figures.models(groups):
        mine = [p for p in groups if p.model == model]
        shown = by_model[model] = []
        for point in [p for p in mine if p.rule == "dense"][:1]:
            shown.append(Tile(format_estimate(point.accuracy, 100), "dense: accuracy, %"))
        for point in [p for p in mine if p.rule != "dense" and p.accuracy][:1]:
            shown.append(Tile(format_estimate(point.accuracy, 100), f"{point.rule}: accuracy, %"))
            if point.difference is not None:
                d = point.difference
                between = "" if d.low is None or d.high is None else (
                    f" ({d.low * 100:+.2f} to {d.high * 100:+.2f})"
                )  # fmt: skip
                shown.append(Tile(f"{d.mean * 100:+.2f}{between}", "points against dense"))
            shown.append(Tile(format_estimate(point.grad_density, digits=3), "density of dy"))
            for gain, what in (
                (point.cpu_speedup, "speedup here, processor time"),
                (point.chip_speedup, "speed, chip over its twin"),
                (point.energy_gains.get(PRICE_TABLE), "energy, chip over its twin"),
            ):
                if gain is not None:
                    shown.append(Tile(f"{gain.mean:.2f}x", what))
    return by_model


def origins(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Commands, machines, versions and data behind the results: (what, which), each once."""
    found: list[tuple[str, str]] = []
    for result in results:
        config, machine = result["config"], result.get("machine")
        found += [("command", result["command"])] if "command" in result else []
        if machine is not None:
            found.append(("machine", f"{machine['processor']}, {machine['cores']} cores, "
                          f"{machine['capability']}"))  # fmt: skip
            found.append(("sparsetrain", machine["sparsetrain"] or "from its folder"))
        found += [
            ("torch", config["torch_version"]),
            ("Python", config["python_version"]),
            ("data", f"{config['dataset']}, digest {config['data']}"),
            ("setting", training_setup(config)),
        ]
    order = ("command", "setting", "data", "machine", "sparsetrain", "torch", "Python")
    return sorted(dict.fromkeys(found), key=lambda one: order.index(one[0]))


def _subtitle(results: Sequence[Result]) -> str:
    rules = list(dict.fromkeys(rule_name(result["config"]) for result in results))
    seeds = {result["config"]["seed"] for result in results}
    images = {result["config"]["train_images"] for result in results}
    names = {result["config"]["dataset"] for result in results}
    return (
        f"{len(results)} {'run' if len(results) == 1 else 'runs'} on {', '.join(sorted(names))} "
        f"({', '.join(f'{n:,}' for n in sorted(images))} images): {', '.join(rules)}; "
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
    )

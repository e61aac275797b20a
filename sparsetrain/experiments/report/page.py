"""Writes the report: one HTML file with figures, tables and origins that needs no network."""

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
from sparsetrain.experiments.report.markdown import format_difference

NEEDS = ("plotly", "jinja2", "scipy")
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """One number at the top of the page, and its description."""

    value: str
    label: str


def check_installed() -> None:
    """Checks that the packages in NEEDS are installed.

    Raises:
        ModuleNotFoundError: A package is missing.
    """
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"sparsetrain.experiments.report: expected {', '.join(NEEDS)} to be installed, got no "
            f"{', '.join(missing)}. Run pip install {' '.join(missing)}"
        )


def write(results: Sequence[Result], path: Path) -> None:
    """Writes the report of runs to a file.

    Args:
        results: Runs as `read_results` or `Trainer.results()` returns them.
        path: The HTML file.

    Raises:
        ModuleNotFoundError: A package that the report needs is not installed.
        ValueError: No run has a finished epoch.
        OSError: The file cannot be written.
    """
    check_installed()
    if not any(result["epochs"] for result in results):
        raise ValueError(
            "sparsetrain.experiments.report: expected results to be of at least one finished "
            "epoch, got none. Train for at least one epoch"
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
        figure.key: {
            "data": figure.traces,
            "layout": {**figure.layout, "height": figure.height},
            "trace_choices": figure.trace_choices,
            "layers": figure.layers,
        }
        for figure in drawn
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
    """The figures that have data, in the order of the page."""
    found = (
        figures.frontier(groups),
        figures.differences(groups),
        gain_figures.speedups(groups),
        figures.curves(groups),
        figures.densities(groups),
        cost_figures.time_parts(groups),
        cost_figures.chip(groups, "dense_cycles", "cycles", "cycles", "million cycles"),
        cost_figures.chip(groups, "dense_energy", "energy", "energy", "µJ"),
        gain_figures.energy_band(groups),
        cost_figures.roofline(groups),
    )
    return [figure for figure in found if figure is not None]


def tiles(groups: Sequence[RunGroup]) -> dict[str, list[Tile]]:
    """By model: the accuracy of the dense runs, and the costs and gains of the mildest pruning."""
    by_model: dict[str, list[Tile]] = {}
    for model in figures.models(groups):
        of_model = [group for group in groups if group.model == model]
        shown = by_model[model] = []
        for group in [group for group in of_model if group.rule == "dense"][:1]:
            shown.append(Tile(format_estimate(group.accuracy, 100), "dense: test accuracy, %"))
        for group in [g for g in of_model if g.rule != "dense" and g.accuracy][:1]:
            accuracy = format_estimate(group.accuracy, 100)
            shown.append(Tile(accuracy, f"{group.rule}: test accuracy, %"))
            if group.difference is not None:
                difference = format_difference(group.difference)
                shown.append(Tile(difference, f"{group.rule} minus dense, percentage points"))
            density = format_estimate(group.grad_density, digits=3)
            shown.append(Tile(density, "density of dy, the gradients of the outputs"))
            for gain, label in (
                (group.cpu_speedup, "training step: speedup in processor time"),
                (group.chip_speedup, "accelerator over its dense twin: speedup"),
                (group.energy_gains.get(PRICE_TABLE), "accelerator over its dense twin: energy"),
            ):
                if gain is not None:
                    shown.append(Tile(f"{gain.mean:.2f}x", label))
    return by_model


def origins(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Commands, machines, versions and data of the results: pairs (name, value), each once."""
    found: list[tuple[str, str]] = []
    for result in results:
        config, machine = result["config"], result.get("machine")
        found += [("command", result["command"])] if "command" in result else []
        if machine is not None:
            found.append(("machine", f"{machine['processor']}, {machine['cores']} cores, "
                          f"{machine['capability']}"))  # fmt: skip
            found.append(
                ("sparsetrain", machine["sparsetrain"] or "not installed, run from its folder")
            )
        found += [
            ("torch", config["torch_version"]),
            ("Python", config["python_version"]),
            ("data", f"{config['dataset']}, digest {config['data']}"),
            ("training", training_setup(config)),
        ]
    order = ("command", "training", "data", "machine", "sparsetrain", "torch", "Python")
    return sorted(dict.fromkeys(found), key=lambda origin: order.index(origin[0]))


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

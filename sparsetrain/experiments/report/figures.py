"""The report's figures of experiments: accuracy, differences, curves, densities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report.aggregate import CONFIDENCE, Estimate, Point

COLOURS = ("#3f7fd0", "#dd7f2e", "#3c9d63", "#9b68c9", "#c4515c", "#7c8590")
SCALE = [[0.0, "#f2f5fa"], [0.15, "#bcd3ee"], [0.4, "#6a9bd8"], [1.0, "#1e3f77"]]

TICKS = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 2, 5)]  # of a log axis

FAR = 8.0  # points of accuracy: what is further off would squeeze all else into a line

Trace = dict[str, Any]


@dataclass
class Figure:
    """One section of the page: a chart of plotly's, what it says, and its numbers as a table.

    `groups` has for each trace the choice under which it is shown, None for always; `row_groups`
    the same for each row. `layers` says on which axis the layers are, for the filter by name.
    """

    key: str
    title: str
    text: str
    traces: list[Trace]
    layout: dict[str, Any]
    columns: Sequence[str]
    rows: list[Sequence[Any]]
    groups: list[str | None] = field(default_factory=list)
    row_groups: list[str | None] = field(default_factory=list)
    layers: str = ""
    height: int = 380

    @property
    def choices(self) -> list[str]:
        """What there is to choose from."""
        return [group for group in dict.fromkeys(self.groups) if group is not None]

    @property
    def first_choice(self) -> str:
        """What is shown first: something pruned, where there is."""
        pruned = (each for each in self.choices if not each.endswith("dense"))
        return next(pruned, self.choices[0])


def number(estimate: Estimate | None, scale: float = 1.0, digits: int = 2) -> str:
    """Mean and standard error as text."""
    if estimate is None:
        return "-"
    error = "" if estimate.error is None else f" ± {estimate.error * scale:.{digits}f}"
    return f"{estimate.mean * scale:.{digits}f}{error}"


def models(points: Sequence[Point]) -> list[str]:
    """Their models, each once."""
    return list(dict.fromkeys(point.model for point in points))


def _frame(values: Sequence[float], best: float) -> tuple[list[float], str]:
    """The range that shows `values` less far than FAR from `best`, and a sentence on others."""
    near = [value for value in (*values, best) if abs(value - best) <= FAR]
    edge = 0.12 * (max(near) - min(near)) + 0.1
    far = len(near) <= len(values)
    left_out = f" What is more than {FAR:g} points off is in the table alone." if far else ""
    return [min(near) - edge, max(near) + edge], left_out


def frontier(points: Sequence[Point]) -> Figure:
    """Accuracy against the density of the gradients."""
    accuracies = [p.accuracy.mean * 100 for p in points if p.accuracy]
    frame, left_out = _frame(accuracies, max(accuracies, default=0.0))
    traces: list[Trace] = []
    for colour, model in zip(COLOURS * 9, models(points), strict=False):
        shown = [p for p in points if p.model == model and p.accuracy and p.grad_density]
        errors = [(p.accuracy.error or 0.0) * 100 for p in shown if p.accuracy]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers+text",
                "name": model,
                "x": [p.grad_density.mean for p in shown if p.grad_density],
                "y": [p.accuracy.mean * 100 for p in shown if p.accuracy],
                "error_y": {"type": "data", "array": errors, "thickness": 1.5, "width": 4},
                "text": [re.sub(r"(.)\w+ 0?", r"\1 ", p.rule) for p in shown],
                "customdata": [[p.rule, _beside(p)] for p in shown],
                "textposition": [f"{side} center" for side in ("top", "bottom")] * len(shown),
                "hovertemplate": "%{customdata[0]}<br>density %{x:.3f}<br>%{y:.2f} %"
                "<br>%{customdata[1]}<extra>" + model + "</extra>",
                "line": {"color": colour, "dash": "dot", "width": 1},
                "marker": {"color": colour, "size": 9},
            }
        )  # fmt: skip
    rows: list[Sequence[Any]] = [
        (
            p.model,
            p.rule,
            p.accuracy.count if p.accuracy else 0,
            p.failed,
            p.unfinished,
            number(p.accuracy, 100),
            number(p.input_density, digits=3),
            number(p.grad_density_unpruned, digits=3),
            number(p.grad_density, digits=3),
            number(p.speedup),
            number(p.chip_speedup),
            number(p.energy_gains.get(PRICE_TABLE)),
        )
        for p in points
    ]
    return Figure(
        "frontier",
        "Accuracy against density",
        "Test accuracy after the last epoch, mean over seeds with its standard error, against the "
        "density of dy after pruning (all convolutions together, last training step); r is a rate, "
        "d a density. Runs that failed, as their loss stopped being finite, or did not finish "
        "are counted in the table and have no accuracy." + left_out,
        traces,
        {
            "xaxis": {"title": {"text": "density of dy"}, "type": "log", "tickvals": TICKS},
            "yaxis": {"title": {"text": "test accuracy, %"}, "range": frame},
        },
        ("model", "rule", "seeds", "failed", "unfinished", "accuracy, %", "density of x",
         "of dy unpruned", "of dy", "wall clock speedup", "chip speedup", "chip energy gain"),
        rows,
    )  # fmt: skip


def _beside(point: Point) -> str:
    """What a point gains in speed, for its hover."""
    found = {"here": point.speedup, "on the chip": point.chip_speedup}
    gains = [f"{gain.mean:.2f}x {where}" for where, gain in found.items() if gain is not None]
    return ", ".join(gains)


def differences(points: Sequence[Point]) -> Figure | None:
    """Accuracy less that of the dense run of the same seed; None where there is no pair."""
    paired = [p for p in points if p.difference is not None]
    if not paired:
        return None
    colours = dict(zip(models(points), COLOURS * 9, strict=False))
    all_of = [p.difference for p in paired if p.difference]
    ends = [end * 100 for d in all_of for end in (d.low, d.high) if end is not None]
    within = [end for end in ends if abs(end) <= FAR]  # a longer interval shows that it goes on
    frame, left_out = _frame([*(d.mean * 100 for d in all_of), *within], 0.0)
    traces: list[Trace] = []
    for model in models(paired):
        shown = [p for p in paired if p.model == model]
        found = [p.difference for p in shown if p.difference]
        reach = [(d.mean if d.high is None else d.high) - d.mean for d in found]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": model,
                "x": [d.mean * 100 for d in found],
                "y": [p.label for p in shown],
                "error_x": {"type": "data", "array": [r * 100 for r in reach], "width": 5},
                "marker": {"color": colours[model], "size": 10},
                "hovertemplate": "%{y}<br>%{x:+.2f} points<extra></extra>",
            }
        )
    rows: list[Sequence[Any]] = [
        (p.model, p.rule, p.difference.count, f"{p.difference.mean * 100:+.2f}", *_interval(p))
        for p in paired
        if p.difference
    ]
    return Figure(
        "differences",
        "Difference to dense, seed by seed",
        "Accuracy of each pruned run less that of the dense run of the same seed (same weights, "
        f"order and augmentation): mean and {CONFIDENCE:.0%} confidence interval by Student's "
        "distribution. An interval that holds 0 does not prove that nothing is lost: its lower end "
        "is the loss that the runs do not exclude." + left_out,
        traces,
        {
            "xaxis": {"title": {"text": "accuracy, points"}, "zeroline": True, "range": frame},
            "yaxis": {"autorange": "reversed", "automargin": True},
            "showlegend": False,
        },
        ("model", "rule", "pairs", "mean, points", "from", "to", "verdict"),
        rows,
        height=120 + 38 * len(paired),
    )


def _interval(point: Point) -> tuple[str, str, str]:
    found = point.difference
    if found is None or found.low is None or found.high is None:
        return "-", "-", "one pair has no interval"
    ends = f"{found.low * 100:+.2f}", f"{found.high * 100:+.2f}"
    if found.high < 0:
        return *ends, "a loss"
    if found.low > 0:
        return *ends, "a gain"
    if found.count < 3:
        return *ends, "too few pairs to tell"
    return *ends, f"no difference shown; a loss up to {-found.low * 100:.2f} not excluded"


def curves(points: Sequence[Point]) -> Figure:
    """Test accuracy over epochs, mean over seeds."""
    traces: list[Trace] = []
    rows: list[Sequence[Any]] = []
    groups: list[str | None] = []
    row_groups: list[str | None] = []
    for model in models(points):
        for colour, point in zip(
            COLOURS * 9, [p for p in points if p.model == model], strict=False
        ):
            by_epoch: dict[int, list[Any]] = {}
            for result in point.results:
                for record in result["epochs"]:
                    by_epoch.setdefault(record["epoch"], []).append(record)
            mean = {
                n: (fmean(r["train_loss"] for r in e), fmean(r["test_accuracy"] for r in e) * 100)
                for n, e in sorted(by_epoch.items())
            }
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": point.rule,
                    "x": list(mean),
                    "y": [accuracy for _, accuracy in mean.values()],
                    "line": {"color": colour},
                    "hovertemplate": "epoch %{x}: %{y:.2f} %<extra>" + point.rule + "</extra>",
                }
            )
            groups.append(model)
            for n, (loss, accuracy) in mean.items():
                rows.append((model, point.rule, n, f"{loss:.4f}", f"{accuracy:.2f}"))
                row_groups.append(model)
    return Figure(
        "curves",
        "Accuracy over epochs",
        "Test accuracy at the end of each epoch, mean over seeds.",
        traces,
        {
            "xaxis": {"title": {"text": "epoch"}, "dtick": 1},
            "yaxis": {"title": {"text": "test accuracy, %"}},
        },
        ("model", "rule", "epoch", "train loss", "accuracy, %"),
        rows,
        groups,
        row_groups,
    )


def densities(points: Sequence[Point]) -> Figure:
    """A map of dy's density: layers by epochs, one choice for each point."""
    traces: list[Trace] = []
    rows: list[Sequence[Any]] = []
    groups: list[str | None] = []
    row_groups: list[str | None] = []
    most = 1
    for point in points:
        cells: dict[tuple[str, int], list[Any]] = {}
        for result in point.results:
            for one in result["density_log"]:
                cells.setdefault((one["name"], one["epoch"]), []).append(one)
        layers = list(dict.fromkeys(name for name, _ in cells))
        epochs = sorted({epoch for _, epoch in cells})
        most = max(most, len(layers))
        z = [
            [fmean(one["grad_density"] for one in cells[name, epoch]) for epoch in epochs]
            for name in layers
        ]
        traces.append(
            {
                "type": "heatmap",
                "x": [f"{epoch}" for epoch in epochs],
                "y": layers,
                "z": z,
                "zmin": 0,
                "zmax": 1,
                "colorscale": SCALE,
                "colorbar": {"title": {"text": "density"}, "thickness": 12},
                "hovertemplate": "%{y}, epoch %{x}: %{z:.3f}<extra></extra>",
                **({"texttemplate": "%{z:.2f}"} if len(epochs) <= 6 else {}),
            }
        )
        groups.append(point.label)
        for (name, epoch), found in cells.items():
            means = [
                fmean(one[key] for one in found)
                for key in ("input_density", "grad_density_unpruned", "grad_density")
            ]
            rows.append((point.label, name, epoch, *(f"{mean:.3f}" for mean in means)))
            row_groups.append(point.label)
    return Figure(
        "densities",
        "Density of each layer over the epochs",
        "Density of dy as the kernels see it, after pruning, in the last training step of each "
        "epoch; mean over seeds.",
        traces,
        {
            "xaxis": {"title": {"text": "epoch"}, "type": "category"},
            "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
        },
        ("run", "layer", "epoch", "x", "dy unpruned", "dy"),
        rows,
        groups,
        row_groups,
        layers="y",
        height=130 + 22 * most,
    )

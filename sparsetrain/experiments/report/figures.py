"""Figures of accuracy and density for the report, and the `Figure` that page.py renders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from sparsetrain.experiments.records import PRICE_TABLE
from sparsetrain.experiments.report.aggregate import CONFIDENCE, Estimate, RunGroup

COLORS = ("#3f7fd0", "#dd7f2e", "#3c9d63", "#9b68c9", "#c4515c", "#7c8590")
SCALE = [[0.0, "#f2f5fa"], [0.15, "#bcd3ee"], [0.4, "#6a9bd8"], [1.0, "#1e3f77"]]

# Ticks of a logarithmic axis.
TICKS = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 2, 5)]

# Percentage points of accuracy. Values farther away would compress all others into a line.
FARTHEST_SHOWN = 8.0

Trace = dict[str, Any]


@dataclass
class Figure:
    """One section of the page: a plotly chart, its caption, and its numbers as a table.

    Attributes:
        key: The section's id in the page.
        title: The heading.
        text: The caption.
        traces: The chart's traces, as plotly's JSON.
        layout: The chart's layout, as plotly's JSON.
        columns: The heads of the table.
        rows: The rows of the table.
        trace_choices: For each trace, the choice of the section's menu that shows it; None shows
            it always. Without a menu the list is empty.
        row_choices: For each row of the table, the choice that shows it.
        layers: The axis that has the names of layers, for the filter by name; empty for none.
        height: Height of the chart in pixels.
    """

    key: str
    title: str
    text: str
    traces: list[Trace]
    layout: dict[str, Any]
    columns: Sequence[str]
    rows: list[Sequence[Any]]
    trace_choices: list[str | None] = field(default_factory=list)
    row_choices: list[str | None] = field(default_factory=list)
    layers: str = ""
    height: int = 380

    @property
    def choices(self) -> list[str]:
        """The entries of the section's menu."""
        return [choice for choice in dict.fromkeys(self.trace_choices) if choice is not None]

    @property
    def first_choice(self) -> str:
        """The entry that is shown first: the first pruned one, if there is one."""
        pruned = (choice for choice in self.choices if not choice.endswith("dense"))
        return next(pruned, self.choices[0])


def format_estimate(estimate: Estimate | None, scale: float = 1.0, digits: int = 2) -> str:
    """A mean and its standard error as text, such as `91.98 ± 0.08`."""
    if estimate is None:
        return "-"
    error = "" if estimate.error is None else f" ± {estimate.error * scale:.{digits}f}"
    return f"{estimate.mean * scale:.{digits}f}{error}"


def models(groups: Sequence[RunGroup]) -> list[str]:
    """The models of the groups in their order, each once."""
    return list(dict.fromkeys(group.model for group in groups))


def _visible_range(
    values: Sequence[float], reference: float, reference_name: str
) -> tuple[list[float], str]:
    """The range of an axis in percentage points, and a sentence about values outside of it.

    The range has all values that are at most FARTHEST_SHOWN from `reference`.
    """
    near = [value for value in (*values, reference) if abs(value - reference) <= FARTHEST_SHOWN]
    edge = 0.12 * (max(near) - min(near)) + 0.1
    note = ""
    if len(near) <= len(values):
        note = (
            f" Values more than {FARTHEST_SHOWN:g} percentage points from {reference_name} are "
            "only in the table."
        )
    return [min(near) - edge, max(near) + edge], note


def frontier(groups: Sequence[RunGroup]) -> Figure:
    """Test accuracy against the density of the outputs' gradients."""
    accuracies = [group.accuracy.mean * 100 for group in groups if group.accuracy]
    frame, note = _visible_range(accuracies, max(accuracies, default=0.0), "the best")
    traces: list[Trace] = []
    for color, model in zip(COLORS * 9, models(groups), strict=False):
        shown = [
            group
            for group in groups
            if group.model == model and group.accuracy and group.grad_density
        ]
        errors = [(group.accuracy.error or 0.0) * 100 for group in shown if group.accuracy]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers+text",
                "name": model,
                "x": [group.grad_density.mean for group in shown if group.grad_density],
                "y": [group.accuracy.mean * 100 for group in shown if group.accuracy],
                "error_y": {"type": "data", "array": errors, "thickness": 1.5, "width": 4},
                "text": [re.sub(r"(.)\w+ 0?", r"\1 ", group.rule) for group in shown],
                "customdata": [[group.rule, _speedups_text(group)] for group in shown],
                "textposition": [f"{side} center" for side in ("top", "bottom")] * len(shown),
                "hovertemplate": "%{customdata[0]}<br>density %{x:.3f}<br>%{y:.2f} %"
                "<br>%{customdata[1]}<extra>" + model + "</extra>",
                "line": {"color": color, "dash": "dot", "width": 1},
                "marker": {"color": color, "size": 9},
            }
        )  # fmt: skip
    rows: list[Sequence[Any]] = [
        (
            group.model,
            group.rule,
            group.accuracy.count if group.accuracy else 0,
            group.failed,
            group.unfinished,
            format_estimate(group.accuracy, 100),
            format_estimate(group.input_density, digits=3),
            format_estimate(group.grad_density_unpruned, digits=3),
            format_estimate(group.grad_density, digits=3),
            format_estimate(group.speedup),
            format_estimate(group.chip_speedup),
            format_estimate(group.energy_gains.get(PRICE_TABLE)),
        )
        for group in groups
    ]
    return Figure(
        "frontier",
        "Test accuracy against density of the gradients",
        "Test accuracy after the last epoch, against the density of dy (the gradients of the "
        "convolutions' outputs) after pruning, over all convolutions in the last training step. "
        "Means over seeds with standard errors. Labels: r is a rate, d is a density. The table "
        "also counts the runs that failed because their loss was not finite, and the unfinished "
        "ones. They have no accuracy." + note,
        traces,
        {
            "xaxis": {
                "title": {"text": "density of dy (nonzeros / elements)"},
                "type": "log",
                "tickvals": TICKS,
            },
            "yaxis": {"title": {"text": "test accuracy, %"}, "range": frame},
        },
        ("model", "rule", "seeds", "failed runs", "unfinished runs", "test accuracy, %",
         "density of x", "density of dy, unpruned", "density of dy, pruned",
         "speedup of a step, wall clock", "accelerator: speedup", "accelerator: energy gain"),
        rows,
    )  # fmt: skip


def _speedups_text(group: RunGroup) -> str:
    """The speedups of a group, for the text shown when the pointer is over its mark."""
    found = {"on the CPU": group.speedup, "on the accelerator": group.chip_speedup}
    gains = [f"{gain.mean:.2f}x {where}" for where, gain in found.items() if gain is not None]
    return ", ".join(gains)


def differences(groups: Sequence[RunGroup]) -> Figure | None:
    """Test accuracy minus that of the dense run of the same seed; None without a pair of runs."""
    paired = [group for group in groups if group.difference is not None]
    if not paired:
        return None
    colors = dict(zip(models(groups), COLORS * 9, strict=False))
    found_all = [group.difference for group in paired if group.difference]
    ends = [end * 100 for d in found_all for end in (d.low, d.high) if end is not None]
    # An interval with a farther end is cut off at the edge of the chart.
    within = [end for end in ends if abs(end) <= FARTHEST_SHOWN]
    frame, note = _visible_range([*(d.mean * 100 for d in found_all), *within], 0.0, "0")
    traces: list[Trace] = []
    for model in models(paired):
        shown = [group for group in paired if group.model == model]
        found = [group.difference for group in shown if group.difference]
        half_widths = [(d.mean if d.high is None else d.high) - d.mean for d in found]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": model,
                "x": [d.mean * 100 for d in found],
                "y": [group.label for group in shown],
                "error_x": {
                    "type": "data",
                    "array": [width * 100 for width in half_widths],
                    "width": 5,
                },
                "marker": {"color": colors[model], "size": 10},
                "hovertemplate": "%{y}<br>%{x:+.2f} percentage points<extra></extra>",
            }
        )
    rows: list[Sequence[Any]] = [
        (
            group.model,
            group.rule,
            group.difference.count,
            f"{group.difference.mean * 100:+.2f}",
            *_interval(group),
        )
        for group in paired
        if group.difference
    ]
    return Figure(
        "differences",
        "Test accuracy minus dense, seed by seed",
        "Test accuracy of each pruned run minus that of the dense run with the same seed (same "
        f"initial weights, order of images and augmentation): mean and {CONFIDENCE:.0%} confidence "
        "interval by Student's distribution. An interval that contains 0 does not prove that no "
        "accuracy is lost: its lower end is the loss that these runs cannot exclude." + note,
        traces,
        {
            "xaxis": {
                "title": {"text": "minus dense, percentage points"},
                "zeroline": True,
                "range": frame,
            },
            "yaxis": {"autorange": "reversed", "automargin": True},
            "showlegend": False,
        },
        ("model", "rule", "pairs of runs", "mean, percentage points", "from", "to", "verdict"),
        rows,
        height=120 + 38 * len(paired),
    )


def _interval(group: RunGroup) -> tuple[str, str, str]:
    found = group.difference
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


def curves(groups: Sequence[RunGroup]) -> Figure:
    """Test accuracy after each epoch, mean over seeds."""
    traces: list[Trace] = []
    rows: list[Sequence[Any]] = []
    trace_choices: list[str | None] = []
    row_choices: list[str | None] = []
    for model in models(groups):
        for color, group in zip(
            COLORS * 9, [group for group in groups if group.model == model], strict=False
        ):
            by_epoch: dict[int, list[Any]] = {}
            for result in group.results:
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
                    "name": group.rule,
                    "x": list(mean),
                    "y": [accuracy for _, accuracy in mean.values()],
                    "line": {"color": color},
                    "hovertemplate": "epoch %{x}: %{y:.2f} %<extra>" + group.rule + "</extra>",
                }
            )
            trace_choices.append(model)
            for n, (loss, accuracy) in mean.items():
                rows.append((model, group.rule, n, f"{loss:.4f}", f"{accuracy:.2f}"))
                row_choices.append(model)
    return Figure(
        "curves",
        "Test accuracy over epochs",
        "Test accuracy at the end of each epoch, mean over seeds.",
        traces,
        {
            "xaxis": {"title": {"text": "epoch"}, "dtick": 1},
            "yaxis": {"title": {"text": "test accuracy, %"}},
        },
        ("model", "rule", "epoch", "training loss", "test accuracy, %"),
        rows,
        trace_choices,
        row_choices,
    )


def densities(groups: Sequence[RunGroup]) -> Figure:
    """A heat map of the density of dy: layers by epochs, one choice for each group of runs."""
    traces: list[Trace] = []
    rows: list[Sequence[Any]] = []
    trace_choices: list[str | None] = []
    row_choices: list[str | None] = []
    most_layers = 1
    for group in groups:
        cells: dict[tuple[str, int], list[Any]] = {}
        for result in group.results:
            for record in result["density_log"]:
                cells.setdefault((record["name"], record["epoch"]), []).append(record)
        layers = list(dict.fromkeys(name for name, _ in cells))
        epochs = sorted({epoch for _, epoch in cells})
        most_layers = max(most_layers, len(layers))
        z = [
            [fmean(record["grad_density"] for record in cells[name, epoch]) for epoch in epochs]
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
                "colorbar": {"title": {"text": "density of dy"}, "thickness": 12},
                "hovertemplate": "%{y}, epoch %{x}: %{z:.3f}<extra></extra>",
                **({"texttemplate": "%{z:.2f}"} if len(epochs) <= 6 else {}),
            }
        )
        trace_choices.append(group.label)
        for (name, epoch), found in cells.items():
            means = [
                fmean(record[key] for record in found)
                for key in ("input_density", "grad_density_unpruned", "grad_density")
            ]
            rows.append((group.label, name, epoch, *(f"{mean:.3f}" for mean in means)))
            row_choices.append(group.label)
    return Figure(
        "densities",
        "Density of each layer over the epochs",
        "Density of dy, the gradient of the convolution's output, after pruning, in the last "
        "training step of each epoch; mean over seeds.",
        traces,
        {
            "xaxis": {"title": {"text": "epoch"}, "type": "category"},
            "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
        },
        (
            "run",
            "layer",
            "epoch",
            "density of x",
            "density of dy, unpruned",
            "density of dy, pruned",
        ),
        rows,
        trace_choices,
        row_choices,
        layers="y",
        height=130 + 22 * most_layers,
    )

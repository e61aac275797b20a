"""Measures the noise that pruning adds to gradients, and the errors of predicted thresholds.

    python benchmarks/variance.py [--steps N] [--draws N] [--json FILE] [--plot FILE]

Trains two small networks at rate 0.9 on Fashion-MNIST, in a few minutes, and makes three
comparisons:

noise: the variance of the pruned weight gradients of one batch, against the variance of dense
weight gradients between batches

thresholds: the threshold that is predicted from earlier batches, against the batch's own

forms: the density that an assumed distribution of the gradient predicts, against the measured one
"""

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

import click
import torch
from measure import machine, progress, write_json
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import sparsetrain
from sparsetrain.experiments import datasets, networks
from sparsetrain.pruning import ABS_SUM, DEFAULT_HISTORY, ELEMENTS, PruneGrad

MODELS = ("resnet8", "plain")
RULES = ({"rate": 0.9}, {"rate": 0.99}, *({"density": d} for d in (0.5, 0.3, 0.2, 0.1, 0.05)))
HISTORIES = (1, 2, 4, 8, 16)
DENSITIES = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)  # predicted ones, to compare with measured ones
# Relative variance below which no pruned gradient reaches a layer: it comes after all pruned ones.
ROUNDING = 1e-9
BATCH = 64  # images
WARM_UP = 16  # first steps, which are not counted, because their gradients are atypical
Row = dict[str, Any]


class Job:
    """A network that trains at rate 0.9, and its batches."""

    def __init__(self, model: str, data: datasets.Dataset) -> None:
        torch.manual_seed(0)
        self.name, self.data = model, data
        self.model = networks.build(
            model, channels=data.channels, size=data.size, classes=len(data.classes)
        )
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # one source of noise at a time
        sparsetrain.convert(self.model, 0.9)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The training batch of a step."""
        indices = torch.arange(step * BATCH, (step + 1) * BATCH) % len(self.data.train)
        return self.data.batch(indices, datasets.stream(step))

    def train(self, steps: int) -> Iterator[int]:
        """Trains with SGD. Yields the step after each backward pass, before the weights change."""
        for step in range(steps):
            self.optimizer.zero_grad()
            gradients(self.model, *self.batch(step))
            yield step
            self.optimizer.step()


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The gradient of each convolution's weight by the layer's name, float64."""
    for parameter in model.parameters():
        parameter.grad = None
    cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 4 and parameter.grad is not None:
            found[name.removesuffix(".weight")] = parameter.grad.double()
    return found


def batch_variance(job: Job, dense: nn.Module, draws: int) -> dict[str, float]:
    """The variance of the weight gradients of `draws` batches around their mean, by layer."""
    found = [gradients(dense, *job.batch(1000 + i)) for i in range(draws)]
    return {
        name: torch.stack([drawn[name] for drawn in found]).var(0).sum().item() for name in found[0]
    }


def added_variance(
    job: Job, noisy: nn.Module, exact: dict[str, Tensor], draws: int
) -> dict[str, float]:
    """The mean squared distance of the weight gradients of `noisy` from `exact`, by layer.

    All gradients are of one batch. The first ones fill the history of the pruners and do not count.
    """
    for _ in range(DEFAULT_HISTORY):
        gradients(noisy, *job.batch(0))
    found = [gradients(noisy, *job.batch(0)) for _ in range(draws)]
    return {
        name: fmean((drawn[name] - g).square().sum().item() for drawn in found)
        for name, g in exact.items()
    }


def noise(job: Job, draws: int) -> list[Row]:
    """Rows of `noise`: the variance of each layer's weight gradient under each rule.

    Both variances are relative to the squared norm of the dense gradient of one batch. The added
    variance is that of pruned gradients of the batch, the other one that between batches.
    """
    dense = sparsetrain.revert(copy.deepcopy(job.model))
    exact = gradients(dense, *job.batch(0))
    norms = {name: g.square().sum().item() for name, g in exact.items()}
    between = batch_variance(job, dense, draws)
    rows = []
    for rule in RULES:
        pruned = sparsetrain.convert(copy.deepcopy(dense), measure_every=1, **rule)
        added = added_variance(job, pruned, exact, draws)
        stats = sparsetrain.stats(pruned)
        for name in exact:
            rows.append(
                {
                    "model": job.name,
                    "layer": name,
                    "rule": " ".join(f"{key} {value:g}" for key, value in rule.items()),
                    "grad_density": stats[name].grad_density,
                    "added_variance": added[name] / norms[name],
                    "batch_variance": between[name] / norms[name],
                }
            )
    return rows


def thresholds(job: Job, steps: int, advance: Callable[[], None]) -> list[Row]:
    """Rows of `thresholds`: errors of the mean of the last N thresholds. Trains `job`."""
    # The mean of |g| in each step. The threshold is proportional to it, so relative errors agree.
    batch_means: dict[str, list[float]] = {}
    for step in job.train(steps):
        for name, module in job.model.named_modules():
            if isinstance(module, PruneGrad) and step >= WARM_UP:
                mean = module.state[ABS_SUM] / module.state[ELEMENTS]
                batch_means.setdefault(name.removesuffix(".pruner"), []).append(mean.item())
        advance()
    rows = []
    for name, values in batch_means.items():
        for history in HISTORIES:
            errors = sorted(
                abs(fmean(values[i - history : i]) / values[i] - 1)
                for i in range(max(HISTORIES), len(values))
            )
            rows.append(
                {
                    "model": job.name,
                    "layer": name,
                    "history": history,
                    "median_error": errors[len(errors) // 2],
                    "p95_error": errors[int(0.95 * len(errors))],
                }
            )
    return rows


def forms(job: Job) -> list[Row]:
    """Rows of `forms`: densities that a normal and a lognormal distribution predict.

    They are compared with the density of the gradients that the pruners of the trained `job`
    receive for one batch, at the threshold for which the form predicts the density.
    """
    gradient_magnitudes: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, grads: tuple[Tensor, ...]) -> None:
            gradient_magnitudes[name] = grads[0].detach().abs().double().flatten()

        return hook

    model = copy.deepcopy(job.model)
    for name, module in model.named_modules():
        if isinstance(module, PruneGrad):
            module.register_full_backward_pre_hook(keep(name.removesuffix(".pruner")))
    gradients(model, *job.batch(0))
    rows = []
    for name, g in gradient_magnitudes.items():
        logs = g[g > 0].log()
        share, mean = logs.numel() / g.numel(), g.mean().item()
        lognormal = {"mu": logs.mean().item(), "sigma": logs.std().item(), "share": share}
        for form, density in (
            ("normal", partial(normal_density, mean=mean)),
            ("lognormal", partial(lognormal_density, **lognormal)),
        ):
            for predicted in DENSITIES:
                t = _threshold(density, predicted, mean)
                measured = (g / t).clamp(max=1).mean().item()
                # No threshold leaves more than the share of nonzeros.
                is_reached = t > mean * 1e-6
                rows.append(
                    {"model": job.name, "layer": name, "form": form, "share": share,
                     "predicted": predicted if is_reached else share, "measured": measured}
                )  # fmt: skip
    return rows


def normal_density(t: float, mean: float) -> float:
    """E[min(1, |g| / t)] of a normal g with expectation 0 whose |g| has this mean."""
    normal, z = NormalDist(), t / mean * math.sqrt(2 / math.pi)
    return 2 * (normal.pdf(0) - normal.pdf(z)) / z + 2 * (1 - normal.cdf(z))


def lognormal_density(t: float, mu: float, sigma: float, share: float) -> float:
    """E[min(1, |g| / t)] if `share` of g is not 0, and log|g| of that is normal (mu, sigma)."""
    normal, z = NormalDist(), (math.log(t) - mu) / sigma
    below = math.exp(mu + sigma * sigma / 2) / t * normal.cdf(z - sigma)
    return share * (below + 1 - normal.cdf(z))


def _threshold(density: Callable[[float], float], target: float, mean: float) -> float:
    """The threshold at which `density` equals `target`, by bisection of its logarithm."""
    low, high = math.log(mean) - 14, math.log(mean) + 7
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if density(math.exp(middle)) > target else (low, middle)
    return math.exp(high)


def plot(path: Path, content: dict[str, list[Row]]) -> None:
    """Draws noise against density, threshold error against history, measured against predicted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for model, color in zip(MODELS, ("tab:blue", "tab:orange"), strict=True):
        mine = {part: [r for r in rows if r["model"] == model] for part, rows in content.items()}
        reached = [r for r in mine["noise"] if r["added_variance"] > ROUNDING]
        ratio = [r["added_variance"] / r["batch_variance"] for r in reached]
        axes[0].plot([r["grad_density"] for r in reached], ratio, ".", color=color,
                     label=model)  # fmt: skip
        for end, name, style in (
            ("median_error", "median", "-"),
            ("p95_error", "95th percentile", ":"),
        ):
            means = [
                fmean(r[end] for r in mine["thresholds"] if r["history"] == n) for n in HISTORIES
            ]
            axes[1].plot(HISTORIES, means, style, marker=".", color=color,
                         label=f"{model}, {name}")  # fmt: skip
    for form, color in (("normal", "tab:green"), ("lognormal", "tab:purple")):
        found = [r for r in content["forms"] if r["form"] == form]
        axes[2].plot([r["predicted"] for r in found], [r["measured"] for r in found], ".",
                     color=color, label=form, alpha=0.6)  # fmt: skip
    axes[0].axhline(1, color="gray", linewidth=0.8)
    axes[0].set(xscale="log", yscale="log", xlabel="density of dy (nonzeros / elements)",
                ylabel="added variance / variance between batches",
                title="noise of pruning, each layer and rule")  # fmt: skip
    axes[1].set(xscale="log", xlabel="history (thresholds in the mean)",
                ylabel="abs(predicted / own threshold - 1)",
                title="error of the predicted threshold")  # fmt: skip
    axes[1].set_xticks(HISTORIES, [str(n) for n in HISTORIES])
    axes[1].minorticks_off()
    axes[1].set_ylim(bottom=0)
    axes[2].plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axes[2].set(xlabel="predicted density", ylabel="measured density",
                title="density at a threshold, each layer")  # fmt: skip
    for panel in axes:
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def show(content: dict[str, list[Row]]) -> None:
    """Prints medians over layers, in a table for each part."""
    parts = {
        "noise": (("model", "rule"), ("grad_density", "added_variance", "batch_variance")),
        "thresholds": (("model", "history"), ("median_error", "p95_error")),
        "forms": (("model", "form", "predicted"), ("measured",)),
    }
    for part, (keys, values) in parts.items():
        table = Table(*keys, *values, title=part)
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in content[part]:
            key = (round(row[k], 3) if isinstance(row[k], float) else row[k] for k in keys)
            groups.setdefault(tuple(key), []).append(row)
        for key, rows in groups.items():
            medians = (sorted(r[v] for r in rows)[len(rows) // 2] for v in values)
            table.add_row(*map(str, key), *(f"{median:.3f}" for median in medians))
        Console().print(table)


@click.command(help=__doc__)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file."
)
@click.option("--plot", "plot_path", type=click.Path(path_type=Path),
              help="Draw the results into this PNG or SVG file.")  # fmt: skip
@click.option("--steps", default=300, show_default=True, type=click.IntRange(40),
              help="Training steps of each network.")  # fmt: skip
@click.option("--draws", default=32, show_default=True, type=click.IntRange(2),
              help="Gradients for each variance.")  # fmt: skip
@click.option("--data-dir", type=click.Path(path_type=Path),
              help="Folder of Fashion-MNIST.  [default: the shipped images]")  # fmt: skip
def main(
    json_path: Path | None, plot_path: Path | None, steps: int, draws: int, data_dir: Path | None
) -> None:
    """Trains and measures all networks, prints tables and writes the files."""
    torch.set_num_threads(1)
    data = datasets.load("fashion-mnist", data_dir)
    content: dict[str, list[Row]] = {"noise": [], "thresholds": [], "forms": []}
    with progress() as bar:
        task = bar.add_task("", total=len(MODELS) * (steps + 2))
        for name in MODELS:
            bar.update(task, description=name)
            job = Job(name, data)
            content["thresholds"] += thresholds(job, steps, lambda: bar.advance(task))
            content["forms"] += forms(job)
            bar.advance(task)
            content["noise"] += noise(job, draws)
            bar.advance(task)
    show(content)
    write_json(json_path, {"machine": machine(1), **content})
    if plot_path is not None:
        plot(plot_path, content)


if __name__ == "__main__":
    main()

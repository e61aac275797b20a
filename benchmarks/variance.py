"""What pruning does to training: noise it adds, thresholds it predicts, densities it meets.

python benchmarks/variance.py --json benchmarks/results/variance.json --plot docs/method.png

Trains small networks on the shipped images, then looks at fixed batches. A few minutes.
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
DENSITIES = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)  # at which the two forms are asked
ROUNDING = 1e-9  # below it no pruning reaches a layer: it lies behind all of them
BATCH, WARM_UP = 64, 16  # images; steps that count for nothing: the first gradients are unlike
Row = dict[str, Any]


class Job:
    """A network that trains at rate 0.9 on the shipped images, and its batches."""

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
        at = torch.arange(step * BATCH, (step + 1) * BATCH) % len(self.data.train)
        return self.data.batch(at, datasets.stream(step))

    def train(self, steps: int) -> Iterator[int]:
        """Steps of SGD; yields after each backward, before the weights move."""
        for step in range(steps):
            self.optimizer.zero_grad()
            gradients(self.model, *self.batch(step))
            yield step
            self.optimizer.step()


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The gradient of each convolution's weight, float64, as left in the model."""
    for parameter in model.parameters():
        parameter.grad = None
    cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 4 and parameter.grad is not None:
            found[name.removesuffix(".weight")] = parameter.grad.double()
    return found


def batch_variance(job: Job, dense: nn.Module, draws: int) -> dict[str, float]:
    """By layer: the variance of dense weight gradients of `draws` batches around their mean."""
    batches = [gradients(dense, *job.batch(1000 + i)) for i in range(draws)]
    return {
        name: torch.stack([one[name] for one in batches]).var(0).sum().item() for name in batches[0]
    }


def added_variance(
    job: Job, noisy: nn.Module, exact: dict[str, Tensor], draws: int
) -> dict[str, float]:
    """By layer: the mean squared distance of `noisy`'s weight gradients of one batch from `exact`.

    The gradients that a pruner's history needs before it prunes come first and do not count.
    """
    for _ in range(DEFAULT_HISTORY):
        gradients(noisy, *job.batch(0))
    found = [gradients(noisy, *job.batch(0)) for _ in range(draws)]
    return {
        name: fmean((one[name] - g).square().sum().item() for one in found)
        for name, g in exact.items()
    }


def noise(job: Job, draws: int) -> list[Row]:
    """Variance that pruning adds to each layer's weight gradient, beside that of the batch.

    Relative to the squared norm of the dense gradient of one batch: of pruned gradients of that
    batch around it, and of dense gradients of other batches around their mean.
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
    """How far the mean of the last N thresholds is from the batch's own; trains `job`."""
    own: dict[str, list[float]] = {}
    for step in job.train(steps):
        for name, module in job.model.named_modules():
            if isinstance(module, PruneGrad) and step >= WARM_UP:
                mean = module.state[ABS_SUM] / module.state[ELEMENTS]
                own.setdefault(name.removesuffix(".pruner"), []).append(mean.item())
        advance()
    rows = []
    for name, values in own.items():
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
    """Densities that the normal and the lognormal form predict, against those of the gradient.

    Of the gradients that the pruners of the trained `job` are given for one batch; a threshold is
    asked for by the density that the form promises.
    """
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, given: seen.__setitem__(name, given[0].detach().abs().double().flatten())

    model = copy.deepcopy(job.model)
    for name, module in model.named_modules():
        if isinstance(module, PruneGrad):
            module.register_full_backward_pre_hook(watch(name.removesuffix(".pruner")))
    gradients(model, *job.batch(0))
    rows = []
    for name, g in seen.items():
        logs = g[g > 0].log()
        share, mean = logs.numel() / g.numel(), g.mean().item()
        spread = {"mu": logs.mean().item(), "sigma": logs.std().item(), "share": share}
        for form, density in (
            ("normal", partial(normal_density, mean=mean)),
            ("lognormal", partial(lognormal_density, **spread)),
        ):
            for wanted in DENSITIES:
                t = _threshold(density, wanted, mean)
                met = (g / t).clamp(max=1).mean().item()
                rows.append(
                    {"model": job.name, "layer": name, "form": form, "share": share,
                     "predicted": wanted if t > mean * 1e-6 else share, "measured": met}
                )  # fmt: skip
    return rows


def normal_density(t: float, mean: float) -> float:
    """E min(1, |g| / t) of a normal g whose |g| has this mean."""
    normal, z = NormalDist(), t / mean * math.sqrt(2 / math.pi)
    return 2 * (normal.pdf(0) - normal.pdf(z)) / z + 2 * (1 - normal.cdf(z))


def lognormal_density(t: float, mu: float, sigma: float, share: float) -> float:
    """E min(1, |g| / t) where `share` of g is not 0 and of it log|g| is normal (mu, sigma)."""
    normal, z = NormalDist(), (math.log(t) - mu) / sigma
    below = math.exp(mu + sigma * sigma / 2) / t * normal.cdf(z - sigma)
    return share * (below + 1 - normal.cdf(z))


def _threshold(density: Callable[[float], float], wanted: float, mean: float) -> float:
    """The t at which `density` is `wanted`, by bisection of its logarithm."""
    low, high = math.log(mean) - 14, math.log(mean) + 7
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if density(math.exp(middle)) > wanted else (low, middle)
    return math.exp(high)


def plot(path: Path, content: dict[str, list[Row]]) -> None:
    """Three panels: noise over density, threshold error over history, the forms' densities."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for model, color in zip(MODELS, ("tab:blue", "tab:orange"), strict=True):
        mine = {part: [r for r in rows if r["model"] == model] for part, rows in content.items()}
        reached = [r for r in mine["noise"] if r["added_variance"] > ROUNDING]
        ratio = [r["added_variance"] / r["batch_variance"] for r in reached]
        axes[0].plot([r["grad_density"] for r in reached], ratio, ".", color=color,
                     label=model)  # fmt: skip
        for end, style in (("median_error", "-"), ("p95_error", ":")):
            means = [
                fmean(r[end] for r in mine["thresholds"] if r["history"] == n) for n in HISTORIES
            ]
            axes[1].plot(HISTORIES, means, style, marker=".", color=color,
                         label=f"{model}, {end.split('_')[0]}")  # fmt: skip
    for form, color in (("normal", "tab:green"), ("lognormal", "tab:purple")):
        mine_too = [r for r in content["forms"] if r["form"] == form]
        axes[2].plot([r["predicted"] for r in mine_too], [r["measured"] for r in mine_too], ".",
                     color=color, label=form, alpha=0.6)  # fmt: skip
    axes[0].axhline(1, color="gray", linewidth=0.8)
    axes[0].set(xscale="log", yscale="log", xlabel="density of dy", title="noise of pruning",
                ylabel="added variance / variance between batches")  # fmt: skip
    axes[1].set(xscale="log", xlabel="history", ylabel="error", title="predicted threshold")
    axes[1].set_xticks(HISTORIES, [str(n) for n in HISTORIES])
    axes[1].minorticks_off()
    axes[1].set_ylim(bottom=0)
    axes[2].plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axes[2].set(xlabel="density promised", ylabel="density met", title="forms")
    for one in axes:
        one.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def show(content: dict[str, list[Row]]) -> None:
    """Medians over layers, as a table for each part."""
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
            middle = (sorted(r[v] for r in rows)[len(rows) // 2] for v in values)
            table.add_row(*map(str, key), *(f"{one:.3f}" for one in middle))
        Console().print(table)


@click.command(help=__doc__)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="write the results here")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="PNG or SVG")
@click.option(
    "--steps", default=300, show_default=True, type=click.IntRange(40), help="of training"
)
@click.option("--draws", default=32, show_default=True, type=click.IntRange(2), help="of gradients")
@click.option("--data-dir", type=click.Path(path_type=Path), help="of Fashion-MNIST")
def main(
    json_path: Path | None, plot_path: Path | None, steps: int, draws: int, data_dir: Path | None
) -> None:
    """See the module."""
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

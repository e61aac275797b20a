"""Does training bear sampled pixels? The accuracy of structured, unbiased gradient sampling.

    python benchmarks/sampling.py LOG [--data-dir DIR] [--epochs N] [--seeds N]

Every run is a line of LOG; a run that is there already is not repeated.

Tensor cores want dense tiles, so what they could skip is whole pixels of dy (a pixel's K channels),
not elements. Each variant keeps exactly a share of the pixels, chosen by systematic sampling with
probabilities that follow norms, and scales them so that the gradient stays unbiased:

    pixels s       sampled by |dy_i|; grad_input and grad_weight both see the sample
    weight s       sampled by |patch of x_i| |dy_i|; grad_weight alone sees it, grad_input is exact
    rate r         the project's rule for elements; with a sample behind it where both are named

All 3 x 3 convolutions behind the first of a residual network with BN take part. Before it trains,
the noise that each variant adds to a layer's weight gradient is measured as variance.py does, in
units of the noise of the choice of the batch.
"""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
import variance
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from sparsetrain import revert
from sparsetrain.experiments import datasets
from sparsetrain.experiments.report import figures
from sparsetrain.experiments.report.aggregate import CONFIDENCE, mean_and_error, paired_difference
from sparsetrain.experiments.report.markdown import format_difference, table_row
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer
from sparsetrain.pruning import PruneGrad

VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {},
    "rate .9": {"rate": 0.9},
    "pixels .32": {"pixels": 0.32},
    "weight .32": {"weight": 0.32},
    "weight .28": {"weight": 0.28},
    "weight .21": {"weight": 0.21},
    "weight .16": {"weight": 0.16},
    "weight .08": {"weight": 0.08},
    "rate .9, weight .16": {"rate": 0.9, "weight": 0.16},
}
MODEL = "resnet8"
STEPS, DRAWS = 200, 16  # of `noise`


def inclusion(norms: Tensor, kept: int) -> Tensor:
    """Probabilities min(1, c |norm|) that sum to `kept`, or as near as the nonzero norms allow.

    norms: float64 [pixels], at least 0. With them an estimate weighted by 1 / probability has the
    least variance among all samples of this expected size (Poisson sampling's optimum).
    """
    certain = torch.zeros_like(norms, dtype=torch.bool)
    kept = min(kept, int((norms > 0).sum()))
    while True:
        rest = norms.where(~certain, 0)
        chances = rest * ((kept - int(certain.sum())) / rest.sum().clamp_min(1e-300))
        over = (chances >= 1) & ~certain
        if not over.any():
            return torch.where(certain, 1.0, chances)
        certain |= over


def sample(norms: Tensor, kept: int, generator: torch.Generator) -> Tensor:
    """1 / probability for the chosen pixels and 0 for the others, float64 like norms.

    Systematic: pixel i is chosen when the running sum of probabilities, moved by one uniform
    number, passes an integer. Chooses `kept` pixels, or all nonzero ones if there are fewer.
    """
    chances = inclusion(norms, kept)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    steps = torch.floor(chances.cumsum(0) + start)
    chosen = steps.diff(prepend=torch.zeros(1, dtype=torch.float64)) > 0
    return torch.where(chosen, 1 / chances, 0)


class SampledConvolution(torch.autograd.Function):
    """A convolution whose backward sees a sample of the output's pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, conv: "SampledConv2d") -> Tensor:
        """y of x and w, with the geometry of `conv`."""
        ctx.save_for_backward(x, w)
        ctx.conv = conv
        return F.conv2d(x, w, None, conv.stride, conv.padding)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        """dx and dw; what is sampled for which is the module's."""
        conv, (x, w) = ctx.conv, ctx.saved_tensors
        norms = dy.double().square().sum(1).sqrt()
        if conv.exact_input:
            taps = torch.ones(1, x.shape[1], *w.shape[2:])
            patches = F.conv2d(x.square(), taps, None, conv.stride, conv.padding).squeeze(1)
            norms *= patches.double().sqrt()
        kept = math.ceil(conv.share * norms.numel())
        weights = sample(norms.flatten(), kept, conv.generator).view_as(norms)
        sampled = dy * weights.unsqueeze(1).float()
        dx = torch.nn.grad.conv2d_input(
            x.shape, w, dy if conv.exact_input else sampled, conv.stride, conv.padding
        )
        dw = torch.nn.grad.conv2d_weight(x, w.shape, sampled, conv.stride, conv.padding)
        return dx, dw, None


class SampledConv2d(nn.Conv2d):
    """nn.Conv2d without bias that trains by `SampledConvolution`."""

    share: float
    exact_input: bool
    generator: torch.Generator

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, K, P, Q]."""
        apply: Callable[..., Tensor] = SampledConvolution.apply
        return apply(input, self.weight, self)


def sampled(model: nn.Module, seed: int, variant: dict[str, Any]) -> None:
    """Makes the 3 x 3 convolutions of `model` behind its first one train as `variant` says."""
    share = variant.get("pixels") or variant.get("weight")
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    for number, conv in enumerate(convs[1:]):
        if share:
            conv.__class__ = SampledConv2d
            conv.share, conv.exact_input = share, "weight" in variant
            conv.generator = torch.Generator().manual_seed(1000 * seed + number)
        if "rate" in variant:
            pruner = PruneGrad(variant["rate"], seed=1000 * seed + number)
            conv.register_forward_hook(lambda _, __, y, pruner=pruner: pruner(y))


def noise(data: datasets.Dataset, names: list[str]) -> dict[str, list[float]]:
    """By variant: variance added to each layer's weight gradient / variance between batches.

    Of a network after STEPS steps at rate 0.9; DRAWS gradients each. Layers that no noise reaches
    are left out.
    """
    if not names:
        return {}
    job = variance.Job(MODEL, data)
    for _ in job.train(STEPS):
        pass
    dense = revert(copy.deepcopy(job.model))
    exact = variance.gradients(dense, *job.batch(0))
    between = variance.batch_variance(job, dense, DRAWS)
    found = {}
    for name in names:
        noisy = copy.deepcopy(dense)
        sampled(noisy, 0, VARIANTS[name])
        added = variance.added_variance(job, noisy, exact, DRAWS)
        found[name] = [
            added[layer] / between[layer]
            for layer, g in exact.items()
            if added[layer] > variance.ROUNDING * g.square().sum().item()
        ]
    return found


def read(log: Path) -> list[dict[str, Any]]:
    """The lines of a log, but for a last one without its end; none if there is no such file."""
    return [json.loads(line) for line in log.read_text().split("\n")[:-1]] if log.exists() else []


def table(lines: list[dict[str, Any]]) -> str:
    """A log as a table in Markdown: medians and maxima over layers, means and standard errors,
    and Student's intervals of differences."""
    noise_of = {(line["data"], line["variant"]): line["noise"] for line in lines if "noise" in line}
    accuracy: dict[tuple[int, int, str], dict[str, dict[int, float]]] = {}
    for line in lines:
        if "accuracy" in line:
            training = accuracy.setdefault((line["images"], line["epochs"], line["data"]), {})
            training.setdefault(line["variant"], {})[line["seed"]] = line["accuracy"]
    rows = [
        "| images x epochs | variant | noise added / noise of the batch: median, worst layer "
        "| seeds | test accuracy, % | test accuracy minus dense, percentage points "
        f"({CONFIDENCE:.0%} interval) |",
        "|---|---|---|---|---|---|",
    ]
    for (images, epochs, data), by_variant in sorted(accuracy.items(), reverse=True):
        for name in sorted(by_variant, key=list(VARIANTS).index):
            runs, ratios = by_variant[name], noise_of.get((data, name))
            less = paired_difference(runs, by_variant["dense"]) if name != "dense" else None
            cells = (
                f"{images:,} x {epochs}",
                name,
                f"{median(ratios):.2f}, {max(ratios):.2f}" if ratios else "-",
                str(len(runs)),
                figures.format_estimate(mean_and_error(runs.values()), 100),
                format_difference(less),
            )
            rows.append(table_row(cells))
    return "\n".join(rows)


@click.command(context_settings={"show_default": True})
@click.argument("log", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data-dir", type=click.Path(path_type=Path), help="[default: the shipped subset]")
@click.option("--images", type=int, default=10_000, help="Of the training set.")
@click.option("--epochs", type=int, default=6)
@click.option("--seeds", type=int, default=3)
@click.option(
    "--variant",
    "chosen",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    help="Beside dense; may be repeated. [default: all]",
)
def main(
    log: Path,
    data_dir: Path | None,
    images: int,
    epochs: int,
    seeds: int,
    chosen: tuple[str, ...],
) -> None:
    """Test accuracy after training with each variant, and its difference to dense, seed by seed."""
    torch.set_num_threads(1)
    data = datasets.load("fashion-mnist", data_dir)
    variants = [name for name in VARIANTS if name == "dense" or name in chosen or not chosen]
    part = datasets.Split(data.train.images[:images], data.train.labels[:images])
    small = replace(data, train=part)
    lines, source = read(log), data.fingerprint
    known = {line["variant"] for line in lines if "noise" in line and line["data"] == source}
    runs = [
        run
        for seed, name in product(range(seeds), variants)
        if (
            run := {
                "data": source,
                "variant": name,
                "images": len(part),
                "epochs": epochs,
                "seed": seed,
            }
        )
        not in [{key: line.get(key) for key in run} for line in lines]
    ]

    def write(line: dict[str, Any]) -> None:
        lines.append(line)
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    console = Console(highlight=False)
    with Progress(console=console) as bar:
        task = bar.add_task("noise", total=len(runs) * epochs)
        for name, ratios in noise(data, [v for v in variants[1:] if v not in known]).items():
            write({"data": source, "variant": name, "noise": ratios})
        for run in runs:
            bar.update(task, description=f"{run['variant']}, seed {run['seed']}")
            settings = Settings(
                model=MODEL, dense=True, epochs=epochs, batch_size=128, learning_rate=0.1,
                seed=run["seed"],
            )  # fmt: skip
            trainer = Trainer(settings, small)
            sampled(trainer.model, run["seed"], VARIANTS[run["variant"]])
            for event in trainer.run():
                if event.record is not None:
                    bar.advance(task)
            write({**run, "accuracy": trainer.epochs[-1].test_accuracy})
    console.print(table(lines), soft_wrap=True)


if __name__ == "__main__":
    main()

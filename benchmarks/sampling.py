"""Measures the test accuracy of training with sampled pixels of the gradients, against dense.

    python benchmarks/sampling.py LOG [--data-dir DIR] [--images N] [--epochs N] [--seeds N]

Tensor cores multiply dense tiles, so that they could skip whole pixels of dy (the K channels at one
place), but no single elements. Each variant keeps a fixed share s of the pixels, chosen by
systematic sampling with probabilities that follow norms, and scales the kept pixels so that the
gradient stays unbiased:

    pixels s: sampled by the norms of dy; both gradients use the sample

    weight s: sampled by the norms of dy times those of the patches of x; only grad_weight uses it

    rate r: prunes elements as SparseTrain does; `rate .9, weight .16` samples the pruned gradient

All 3 x 3 convolutions of ResNet-8 after the first one take part. The baseline is dense training
with the same seed. Before the training runs, the noise that each variant adds to the weight
gradients is measured as in benchmarks/variance.py, relative to the variance between batches.

Every run is a line of LOG. A run that LOG already has is not repeated.
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
STEPS, DRAWS = 200, 16  # training steps before noise is measured, and gradients of each kind


def inclusion(norms: Tensor, kept: int) -> Tensor:
    """Probabilities min(1, c * norm) that sum to `kept`.

    Among all samples of this expected size, an estimate weighted by 1 / probability has the least
    variance with these probabilities (the optimum of Poisson sampling).

    Args:
        norms: Norms of the pixels, float64 [pixels], at least 0.
        kept: Expected number of chosen pixels. If fewer norms are not 0, their number is used.

    Returns:
        The probability of each pixel, float64 [pixels].
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
    """Chooses `kept` pixels by systematic sampling, or all with nonzero norms if they are fewer.

    Pixel i is chosen if the running sum of the probabilities, shifted by one uniform random number,
    passes an integer at i.

    Returns:
        1 / probability for each chosen pixel and 0 for the others, float64 [pixels].
    """
    chances = inclusion(norms, kept)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    steps = torch.floor(chances.cumsum(0) + start)
    chosen = steps.diff(prepend=torch.zeros(1, dtype=torch.float64)) > 0
    return torch.where(chosen, 1 / chances, 0)


class SampledConvolution(torch.autograd.Function):
    """A convolution whose backward pass uses a sample of the pixels of dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, conv: "SampledConv2d") -> Tensor:
        """The output, with the stride and padding of `conv`."""
        ctx.save_for_backward(x, w)
        ctx.conv = conv
        return F.conv2d(x, w, None, conv.stride, conv.padding)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradients of x and w. `conv.exact_input` leaves that of x exact."""
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
    """nn.Conv2d without bias that trains with `SampledConvolution`.

    Attributes:
        share: Share of the pixels that are kept.
        exact_input: True if only the weight's gradient uses the sample.
        generator: Source of the samples.
    """

    share: float
    exact_input: bool
    generator: torch.Generator

    def forward(self, input: Tensor) -> Tensor:
        """Convolves [N, C, H, W] to [N, K, P, Q]."""
        apply: Callable[..., Tensor] = SampledConvolution.apply
        return apply(input, self.weight, self)


def sampled(model: nn.Module, seed: int, variant: dict[str, Any]) -> None:
    """Changes the 3 x 3 convolutions of `model` after the first one to train with a variant."""
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
    """Measures the noise of variants on a network after STEPS steps at rate 0.9.

    Returns:
        By variant, for each layer that noise reaches: the variance that is added to its weight
        gradient / the variance of its dense weight gradient between batches.
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
    """The lines of a log, without an unfinished last one. A missing file has no lines."""
    return [json.loads(line) for line in log.read_text().split("\n")[:-1]] if log.exists() else []


def table(lines: list[dict[str, Any]]) -> str:
    """A log as a Markdown table: noise (median and largest of the layers) and accuracies.

    Accuracies are means over seeds with standard errors, differences have Student's intervals.
    """
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


@click.command(help=__doc__, context_settings={"show_default": True})
@click.argument("log", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data-dir", type=click.Path(path_type=Path),
              help="Folder of Fashion-MNIST.  [default: the shipped images]")  # fmt: skip
@click.option("--images", type=click.IntRange(1), default=10_000, help="Images to train on.")
@click.option("--epochs", type=click.IntRange(1), default=6, help="Epochs of each run.")
@click.option("--seeds", type=click.IntRange(1), default=3, help="Number of seeds, from 0.")
@click.option(
    "--variant",
    "chosen",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    help="Variant to compare with dense; repeat the option for several.  [default: all]",
)
def main(
    log: Path,
    data_dir: Path | None,
    images: int,
    epochs: int,
    seeds: int,
    chosen: tuple[str, ...],
) -> None:
    """Measures noise and accuracies that LOG lacks, then prints the table of all of LOG."""
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

"""Time the sparse convolution against torch's at its best memory format, and what `auto` chooses.

Forward: zeros in x. Backward: both gradients, zeros in grad_output, uniformly random or, for the
layers of ResNet-18 on CIFAR, those of gradients recorded in training and pruned. All costs are in:
density estimate, compression, packing, layout conversion. `speedup` is the faster of the two dense
formats over sparse; `auto_speedup` is dense over auto in the same format, since auto keeps the
caller's.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from layers import AUTO_DENSITIES, DENSITIES, LAYERS, QUICK, RECORDED, SUMMARIES, Layer
from measure import geomean, interleaved, machine, progress, settle_allocator, write_json
from recorded import pruned, record
from rich.console import Console
from rich.table import Table
from torch import Tensor

import sparsetrain
from sparsetrain.tuning import cpu as tuning

FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
SLOWER = 0.95  # below this auto counts as slower than torch
SPARSE_GROUPS = {"3x3", "1x1", "stride2"}  # elsewhere only auto and dense are timed
Row = dict[str, Any]


def _sparse(t: Tensor, density: float, generator: torch.Generator) -> Tensor:
    keep = torch.rand(t.shape, generator=generator) < density
    return t * keep if density < 1 else t


class Case:
    """One layer, pass, density and format, ready to run on any backend.

    grad: a recorded output gradient instead of a random one.
    """

    def __init__(
        self,
        layer: Layer,
        direction: str,
        density: float,
        name: str,
        dtype: torch.dtype,
        grad: Tensor | None,
    ) -> None:
        generator = torch.Generator().manual_seed(1)
        sizes = (layer.batch, layer.inputs, layer.size, layer.size)
        kernel = (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel)
        x, w = torch.randn(sizes, generator=generator), torch.randn(kernel, generator=generator)
        self.layer, self.direction = layer, direction
        self.density, self.format = density, FORMATS[name]
        if direction == "forward":
            x = _sparse(x, density, generator)
        backward = direction == "backward"
        self.x = x.to(dtype, memory_format=self.format).requires_grad_(backward)
        self.w = w.to(dtype, memory_format=self.format).requires_grad_(backward)
        self.outputs: dict[str, Tensor] = {}
        if backward:
            for backend in ("dense", "sparse", "auto"):
                self.outputs[backend] = self._forward(backend)
            y = self.outputs["dense"]
            if grad is None:
                dy = _sparse(torch.randn(y.shape, generator=generator), density, generator)
            else:
                dy = pruned(grad, density)
            self.dy = dy.to(dtype, memory_format=self.format)

    def _forward(self, backend: str) -> Tensor:
        one = self.layer
        arguments = (one.stride, one.padding, one.dilation, one.groups)
        if backend == "dense":
            return torch.nn.functional.conv2d(self.x, self.w, None, *arguments)
        return sparsetrain.conv2d(self.x, self.w, None, *arguments, backend=backend)

    def run(self, backend: str) -> None:
        """One forward, or one backward of a graph that is kept."""
        if self.direction == "forward":
            self._forward(backend)
        else:
            torch.autograd.grad(self.outputs[backend], (self.x, self.w), self.dy, retain_graph=True)

    def choice(self) -> str:
        """What auto runs: dense, sparse, or mixed when it splits the two gradients."""
        one = self.layer
        told = sparsetrain.explain(
            self.x.shape,
            self.w.shape,
            one.stride,
            one.padding,
            one.dilation,
            one.groups,
            input_density=self.density,
            grad_density=self.density,
            dtype=self.x.dtype,
        )
        if self.direction == "forward":
            return told.forward.backend
        chosen = {told.grad_input.backend, told.grad_weight.backend}
        return chosen.pop() if len(chosen) == 1 else "mixed"


def time_layer(
    layer: Layer,
    direction: str,
    density: float,
    dtype: str,
    grad: Tensor | None,
    threads: int,
    n: int,
) -> list[Row]:
    """One row a format, all backends and formats interleaved."""
    cases = {
        name: Case(layer, direction, density, name, getattr(torch, dtype), grad) for name in FORMATS
    }
    backends = ["dense", "auto"] + ["sparse"] * (layer.group in SPARSE_GROUPS)
    keys = [(name, backend) for backend in backends for name in FORMATS]
    calls = [lambda name=name, backend=backend: cases[name].run(backend) for name, backend in keys]
    ms = {key: 1e3 * s for key, s in zip(keys, interleaved(calls, n), strict=True)}
    best = min(ms[name, "dense"] for name in FORMATS)
    rows = []
    for name, case in cases.items():
        sparse = ms.get((name, "sparse"))
        rows.append(
            {
                "layer": layer.name,
                "kernel": layer.kernel,
                "stride": layer.stride,
                "pass": direction,
                "dtype": dtype,
                "format": name,
                "density": density,
                "zeros": "uniform" if grad is None else "recorded",
                "threads": threads,
                "dense_ms": ms[name, "dense"],
                "sparse_ms": sparse,
                "auto_ms": ms[name, "auto"],
                "auto_choice": case.choice(),
                "speedup": best / sparse if sparse else None,
                "auto_speedup": ms[name, "dense"] / ms[name, "auto"],
            }
        )
    return rows


def cases(quick: bool) -> Iterator[tuple[Layer, str, float, bool]]:
    """Every layer, pass and density to be timed, and whether with a recorded gradient."""
    for layer in LAYERS:
        if quick and layer.name not in QUICK:
            continue
        for direction in ("backward", "forward"):
            wanted = DENSITIES.get((layer.group, direction), ())
            auto = (0.8, 0.2) if quick else AUTO_DENSITIES
            for density in sorted({*wanted, *auto}, reverse=True):
                yield layer, direction, density, False
        if layer.name in RECORDED:
            for density in DENSITIES[layer.group, "backward"]:
                yield layer, "backward", density, True


def speedups(rows: list[Row], name: str, density: float) -> list[float]:
    """The speedups over the better dense format that a line of the summary is about."""
    group, direction, zeros = SUMMARIES[name]
    layers = {layer.name for layer in LAYERS if layer.group == group}
    return [
        r["speedup"]
        for r in rows
        if r["layer"] in layers
        and (r["pass"], r["density"], r["zeros"]) == (direction, density, zeros)
    ]


def summarize(rows: list[Row]) -> dict[str, Any]:
    """Geometric means of the speedups; of auto also the worst, the dense end and what is slower."""
    summary: dict[str, Any] = {}
    for name, (group, direction, _) in SUMMARIES.items():
        summary[name] = {
            str(d): geomean(speedups(rows, name, d)) for d in DENSITIES[group, direction]
        }
    summary["auto_geomean"] = geomean(r["auto_speedup"] for r in rows)
    summary["auto_slower"] = sum(r["auto_speedup"] < SLOWER for r in rows)
    summary["auto_worst"] = min(r["auto_speedup"] for r in rows)
    summary["auto_dense_geomean"] = geomean(r["auto_speedup"] for r in rows if r["density"] >= 0.8)
    return summary


def show(rows: list[Row], summary: dict[str, Any]) -> None:
    """The rows and the summary as tables."""
    table = Table(title="convolutions: dense is torch in the row's format")
    for column in ("layer", "pass", "format", "density", "zeros", "dense ms", "sparse ms",
                   "speedup", "auto ms", "auto", "auto speedup"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("layer", "pass") else "right")
    for r in rows:
        sparse = f"{r['sparse_ms']:.2f}" if r["sparse_ms"] else "-"
        speedup = f"{r['speedup']:.2f}" if r["speedup"] else "-"
        table.add_row(r["layer"], r["pass"], r["format"], f"{r['density']:g}",
                      r["zeros"], f"{r['dense_ms']:.2f}", sparse, speedup, f"{r['auto_ms']:.2f}",
                      r["auto_choice"], f"{r['auto_speedup']:.2f}")  # fmt: skip
    out = Console(width=142)
    out.print(table)
    means = Table(title="geometric mean (worst) of speedup over the best dense format")
    means.add_column("group")
    means.add_column("density", justify="right")
    means.add_column("speedup", justify="right")
    for name, (group, direction, _) in SUMMARIES.items():
        for density in DENSITIES[group, direction]:
            found = speedups(rows, name, density)
            if found:
                means.add_row(name, f"{density:g}", f"{geomean(found):.2f} ({min(found):.2f})")
    means.add_row("auto", "all", f"{summary['auto_geomean']:.2f} ({summary['auto_worst']:.2f})")
    slower = f"{summary['auto_slower']} of {len(rows)}"
    means.add_row(f"auto, rows below {SLOWER}", "all", slower)
    if summary["auto_dense_geomean"] is not None:
        means.add_row("auto", ">= 0.8", f"{summary['auto_dense_geomean']:.3f}")
    out.print(means)


def plot(path: Path, rows: list[Row]) -> None:
    """Speedup over density of every 3x3 layer's backward, with the 1/density limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    groups = {layer.name: layer.group for layer in LAYERS}
    chosen = [r for r in rows
              if groups[r["layer"]] == "3x3" and r["pass"] == "backward"
              and (r["format"], r["zeros"]) == ("channels_last", "uniform")]  # fmt: skip
    for layer in dict.fromkeys(r["layer"] for r in chosen):
        points = sorted((r["density"], r["speedup"]) for r in chosen if r["layer"] == layer)
        axes.plot(*zip(*points, strict=True), marker=".", label=layer)
    densities = sorted({r["density"] for r in chosen})
    axes.plot(densities, [1 / d for d in densities], "k--", label="1 / density")
    axes.axhline(1, color="gray", linewidth=0.5)
    axes.set(xscale="log", yscale="log", xlabel="density of grad_output (nonzeros / elements)",
             ylabel="speedup over torch, full backward",
             title=f"3x3, {rows[0]['dtype']}")  # fmt: skip
    axes.set_xticks(densities, [f"{d:g}" for d in densities])
    axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes.minorticks_off()
    axes.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


@click.command(help=__doc__)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="write the results here")
@click.option("--quick", is_flag=True, help="a dozen layers, under 3 minutes on 2 cores")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="PNG of the speedups")
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(min=7))
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(tuning.DTYPES))
@click.option("--only", default="", help="only layers whose name contains this")
def main(
    json_path: Path | None,
    quick: bool,
    threads: int,
    plot_path: Path | None,
    repeats: int,
    dtype: str,
    only: str,
) -> None:
    """See the module."""
    torch.set_num_threads(threads)
    settle_allocator()
    todo = [c for c in cases(quick) if only in c[0].name]
    if not todo:
        raise click.UsageError(f"conv.py: expected --only to be part of a layer's name, got {only}")
    rows: list[Row] = []
    steps = 5 if quick else 50
    wanted = {c[0] for c in todo if c[3]}
    with progress() as bar:
        task = bar.add_task("training", total=len(todo) + bool(wanted) * (steps + 1))
        grads = record(wanted, steps, lambda: bar.advance(task)) if wanted else {}
        for layer, direction, density, recorded in todo:
            bar.update(task, description=f"{layer.name} {direction} {density:g}")
            grad = grads[layer.name] if recorded else None
            rows += time_layer(layer, direction, density, dtype, grad, threads, repeats)
            bar.advance(task)
    summary = summarize(rows)
    show(rows, summary)
    write_json(json_path, {"machine": machine(threads), "rows": rows, "summary": summary})
    if plot_path is not None:
        plot(plot_path, rows)


if __name__ == "__main__":
    main()

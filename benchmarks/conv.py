"""Times convolutions of the backends `sparse` and `auto` against PyTorch's, layer by layer.

    python benchmarks/conv.py [--quick] [--threads N] [--json FILE] [--plot FILE]

Measures medians of wall-clock time; all calls of a layer run in turn. A forward call has zeros in
x. A backward call computes both gradients and has zeros in dy, at random places. For the layers of
ResNet-18 it also uses gradients that were recorded in training and pruned. Times include all costs
of the sparse call: density estimate, compression, packing and layout conversion.

The baseline of `sparse` is PyTorch in the faster of its two memory formats. The baseline of `auto`
is PyTorch in the same memory format, because `auto` keeps that of its operands.
"""

from collections.abc import Iterator
from functools import partial
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
SLOWER = 0.95  # a smaller speedup of `auto` counts as slower than PyTorch
# Groups of layers for which `sparse` is timed. For the others it is only `dense` and `auto`.
SPARSE_GROUPS = {"3x3", "1x1", "stride2"}
Row = dict[str, Any]


def _sparse(t: Tensor, density: float, generator: torch.Generator) -> Tensor:
    keep = torch.rand(t.shape, generator=generator) < density
    return t * keep if density < 1 else t


class Case:
    """One layer, pass, density and memory format, with operands for every backend.

    Args:
        layer: The shape.
        pass_name: "forward" or "backward".
        density: Density of x ("forward") or dy ("backward").
        format_name: A key of FORMATS.
        dtype: Data type of the operands.
        grad: A recorded gradient dy, float32 [N, K, P, Q], or None for a random one.
    """

    def __init__(
        self,
        layer: Layer,
        pass_name: str,
        density: float,
        format_name: str,
        dtype: torch.dtype,
        grad: Tensor | None,
    ) -> None:
        generator = torch.Generator().manual_seed(1)
        sizes = (layer.batch, layer.inputs, layer.size, layer.size)
        kernel = (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel)
        x, w = torch.randn(sizes, generator=generator), torch.randn(kernel, generator=generator)
        self.layer, self.pass_name = layer, pass_name
        self.density, memory_format = density, FORMATS[format_name]
        if pass_name == "forward":
            x = _sparse(x, density, generator)
        is_backward = pass_name == "backward"
        self.x = x.to(dtype, memory_format=memory_format).requires_grad_(is_backward)
        self.w = w.to(dtype, memory_format=memory_format).requires_grad_(is_backward)
        self.outputs: dict[str, Tensor] = {}
        if is_backward:
            for backend in ("dense", "sparse", "auto"):
                self.outputs[backend] = self._forward(backend)
            y = self.outputs["dense"]
            if grad is None:
                dy = _sparse(torch.randn(y.shape, generator=generator), density, generator)
            else:
                dy = pruned(grad, density)
            self.dy = dy.to(dtype, memory_format=memory_format)

    def _forward(self, backend: str) -> Tensor:
        layer = self.layer
        arguments = (layer.stride, layer.padding, layer.dilation, layer.groups)
        if backend == "dense":
            return torch.nn.functional.conv2d(self.x, self.w, None, *arguments)
        return sparsetrain.conv2d(self.x, self.w, None, *arguments, backend=backend)

    def run(self, backend: str) -> None:
        """Runs the forward pass, or the backward pass of a retained graph."""
        if self.pass_name == "forward":
            self._forward(backend)
        else:
            torch.autograd.grad(self.outputs[backend], (self.x, self.w), self.dy, retain_graph=True)

    def choice(self) -> str:
        """The backend that `auto` runs; "mixed" if it differs between the two gradients."""
        layer = self.layer
        explanation = sparsetrain.explain(
            self.x.shape,
            self.w.shape,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            input_density=self.density,
            grad_density=self.density,
            dtype=self.x.dtype,
        )
        if self.pass_name == "forward":
            return explanation.forward.backend
        chosen = {explanation.grad_input.backend, explanation.grad_weight.backend}
        return chosen.pop() if len(chosen) == 1 else "mixed"


def time_layer(
    layer: Layer,
    pass_name: str,
    density: float,
    dtype: str,
    grad: Tensor | None,
    threads: int,
    repeats: int,
) -> list[Row]:
    """One row for each memory format. All backends and formats are timed in turn."""
    cases = {
        name: Case(layer, pass_name, density, name, getattr(torch, dtype), grad) for name in FORMATS
    }
    backends = ["dense", "auto"] + ["sparse"] * (layer.group in SPARSE_GROUPS)
    keys = [(name, backend) for backend in backends for name in FORMATS]
    calls = [lambda name=name, backend=backend: cases[name].run(backend) for name, backend in keys]
    ms = {key: 1e3 * s for key, s in zip(keys, interleaved(calls, repeats), strict=True)}
    best = min(ms[name, "dense"] for name in FORMATS)
    rows = []
    for name, case in cases.items():
        sparse = ms.get((name, "sparse"))
        rows.append(
            {
                "layer": layer.name,
                "kernel": layer.kernel,
                "stride": layer.stride,
                "pass": pass_name,
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
    """What to time: (layer, pass, density, whether with a recorded gradient)."""
    for layer in LAYERS:
        if quick and layer.name not in QUICK:
            continue
        for pass_name in ("backward", "forward"):
            summarized = DENSITIES.get((layer.group, pass_name), ())
            auto = (0.8, 0.2) if quick else AUTO_DENSITIES
            for density in sorted({*summarized, *auto}, reverse=True):
                yield layer, pass_name, density, False
        if layer.name in RECORDED:
            for density in DENSITIES[layer.group, "backward"]:
                yield layer, "backward", density, True


def speedups(rows: list[Row], name: str, density: float) -> list[float]:
    """The speedups of the layers in a line of the summary, by the name of the line."""
    group, pass_name, zeros = SUMMARIES[name]
    layers = {layer.name for layer in LAYERS if layer.group == group}
    return [
        r["speedup"]
        for r in rows
        if r["layer"] in layers
        and (r["pass"], r["density"], r["zeros"]) == (pass_name, density, zeros)
    ]


def summarize(rows: list[Row]) -> dict[str, Any]:
    """Geometric means of the speedups; for `auto` also the worst, and how many are below SLOWER."""
    summary: dict[str, Any] = {}
    for name, (group, pass_name, _) in SUMMARIES.items():
        summary[name] = {
            str(d): geomean(speedups(rows, name, d)) for d in DENSITIES[group, pass_name]
        }
    summary["auto_geomean"] = geomean(r["auto_speedup"] for r in rows)
    summary["auto_slower"] = sum(r["auto_speedup"] < SLOWER for r in rows)
    summary["auto_worst"] = min(r["auto_speedup"] for r in rows)
    summary["auto_dense_geomean"] = geomean(r["auto_speedup"] for r in rows if r["density"] >= 0.8)
    return summary


def show(rows: list[Row], summary: dict[str, Any]) -> None:
    """Prints the rows and the summary."""
    table = Table(title="convolutions; dense: PyTorch in the memory format of the row")
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
    means = Table(title="speedup over PyTorch's faster memory format: geometric mean (worst)")
    means.add_column("group")
    means.add_column("density", justify="right")
    means.add_column("speedup", justify="right")
    for name, (group, pass_name, _) in SUMMARIES.items():
        for density in DENSITIES[group, pass_name]:
            found = speedups(rows, name, density)
            if found:
                means.add_row(name, f"{density:g}", f"{geomean(found):.2f} ({min(found):.2f})")
    means.add_row(
        "auto over dense, one format",
        "all",
        f"{summary['auto_geomean']:.2f} ({summary['auto_worst']:.2f})",
    )
    slower = f"{summary['auto_slower']} of {len(rows)}"
    means.add_row(f"rows in which that is below {SLOWER}", "all", slower)
    if summary["auto_dense_geomean"] is not None:
        means.add_row(
            "auto over dense, one format", ">= 0.8", f"{summary['auto_dense_geomean']:.3f}"
        )
    out.print(means)


def plot(path: Path, rows: list[Row]) -> None:
    """Draws the speedup of the backward pass of all 3x3 layers against the density of dy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
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
    axes.set(xscale="log", yscale="log",
             xlabel="density of the output's gradient (nonzeros / elements)",
             ylabel="speedup over PyTorch, full backward pass",
             title=f"3x3 convolutions, {rows[0]['dtype']}")  # fmt: skip
    axes.set_xticks(densities, [f"{d:g}" for d in densities])
    axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes.minorticks_off()
    axes.legend(fontsize=6)
    figure.savefig(path, dpi=150)


@click.command(help=__doc__)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the results to this file."
)
@click.option(
    "--quick", is_flag=True, help="Time a dozen layers, in less than 3 minutes on 2 cores."
)
@click.option("--threads", default=2, show_default=True, type=click.IntRange(min=1),
              help="Threads of all operators.")  # fmt: skip
@click.option("--plot", "plot_path", type=click.Path(path_type=Path),
              help="Draw the speedups of 3x3 layers into this PNG or SVG file.")  # fmt: skip
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(min=7),
              help="Least number of timed rounds.")  # fmt: skip
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(tuning.DTYPES),
              help="Data type of the operands.")  # fmt: skip
@click.option("--only", default="", help="Time only layers whose name contains this text.")
def main(
    json_path: Path | None,
    quick: bool,
    threads: int,
    plot_path: Path | None,
    repeats: int,
    dtype: str,
    only: str,
) -> None:
    """Times all layers, prints tables and writes the files that were asked for."""
    torch.set_num_threads(threads)
    settle_allocator()
    todo = [c for c in cases(quick) if only in c[0].name]
    if not todo:
        raise click.UsageError(f"conv.py: expected --only to be part of a layer's name, got {only}")
    rows: list[Row] = []
    steps = 5 if quick else 50
    recorded_layers = {layer for layer, _, _, is_recorded in todo if is_recorded}
    with progress() as bar:
        training_steps = steps + 1 if recorded_layers else 0
        task = bar.add_task("training", total=len(todo) + training_steps)
        advance = partial(bar.advance, task)
        grads = record(recorded_layers, steps, advance) if recorded_layers else {}
        for layer, pass_name, density, is_recorded in todo:
            bar.update(task, description=f"{layer.name} {pass_name} {density:g}")
            grad = grads[layer.name] if is_recorded else None
            rows += time_layer(layer, pass_name, density, dtype, grad, threads, repeats)
            bar.advance(task)
    summary = summarize(rows)
    show(rows, summary)
    write_json(json_path, {"machine": machine(threads), "rows": rows, "summary": summary})
    if plot_path is not None:
        plot(plot_path, rows)


if __name__ == "__main__":
    main()

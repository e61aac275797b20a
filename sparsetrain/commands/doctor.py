"""`python -m sparsetrain doctor`: what is installed, what runs here, and whether it is right."""

import os
import platform
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import sparsetrain
from sparsetrain import accel, ops, reference
from sparsetrain._native import _C
from sparsetrain.pruning import NONZEROS, PruneGrad

REBUILD = "Build again: `make build`, or `pip install --no-build-isolation .` where torch is"
# Unit roundoffs of a sum of up to 9 * 32 products and of its storage, with room.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@click.command()
def doctor() -> None:
    """Versions, instruction set, threads and CUDA, and a test of every operator in a few seconds.

    Exit code 1 when something is wrong, with what to do about it.

    Example: sparsetrain doctor
    """
    out = Console(width=100)
    table = Table(title="this installation", show_header=False)
    for name, value in facts().items():
        table.add_row(name, value)
    out.print(table)
    failures = []
    for name, test in track(TESTS.items(), "testing", console=Console(stderr=True), transient=True):
        message = failure(test)
        if message:
            failures.append(f"{name}: {message}")
    for line in failures:
        click.echo(f"wrong: {line}. {REBUILD}", err=True)
    if failures:
        sys.exit(1)
    out.print(f"all {len(TESTS)} tests of the operators passed")


def facts() -> dict[str, str]:
    """What is installed and what is used, by name."""
    try:
        own = version("sparsetrain")
    except PackageNotFoundError:
        own = "not installed, imported from its folder"
    return {
        "sparsetrain": f"{own}, {os.path.dirname(sparsetrain.__file__)}",
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "compiler": _compiler(),
        "instruction set": _instruction_set(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "CUDA in torch": torch.version.cuda or "none",
        "CUDA in sparsetrain": _cuda(),
        "GPU": _gpu(),
    }


def failure(test: Callable[[], bool]) -> str | None:
    """Why `test` fails, or None."""
    try:
        return None if test() else "expected the result of plain PyTorch, got another"
    except Exception as error:
        return traceback.format_exception_only(error)[-1].strip()


def cuda_built() -> bool:
    """Whether the operators have CUDA kernels; asks no GPU."""
    return torch._C._dispatch_has_kernel_for_dispatch_key("sparsetrain::prune", "CUDA")


def _cuda() -> str:
    if cuda_built():
        return "built"
    if torch.version.cuda is None:
        return "not built: torch was built without CUDA"
    return (
        f"not built: no CUDA {torch.version.cuda.split('.')[0]} toolkit was found. Install it, set "
        "CUDA_HOME and build again"
    )


def _compiler() -> str:
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None:
        return "none found (needed to build, not to run)"
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0] or found


def _instruction_set() -> str:
    forced = os.environ.pop("SPARSETRAIN_ISA", None)
    best = _C.isa()
    if forced is None:
        return f"{best} (found and used)"
    os.environ["SPARSETRAIN_ISA"] = forced
    return f"{_C.isa()} used, as SPARSETRAIN_ISA says; {best} found"


def _gpu() -> str:
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "none" if torch.version.cuda is None else "none that torch can use"


def _convolution(dtype: torch.dtype, layout: torch.memory_format) -> bool:
    """Every pass of the sparse backend against torch's convolution in float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 32, 9, 9), (33, 32, 3, 3), (2, 33, 9, 9))
    x, w, dy = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    x, dy = (t * (torch.rand(t.shape, generator=generator) < 0.3) for t in (x, dy))

    def passes(convolve: Callable[[Tensor, Tensor], Tensor], *given: Tensor) -> list[Tensor]:
        x, w = (t.detach().requires_grad_() for t in given[:2])
        y = convolve(x, w)
        return [y.detach(), *torch.autograd.grad(y, (x, w), given[2])]

    ours = passes(
        lambda a, b: ops.conv2d(a, b, padding=1, backend="sparse"),
        *(t.to(memory_format=layout) for t in (x, w, dy)),
    )
    exact = passes(lambda a, b: F.conv2d(a, b, padding=1), x.double(), w.double(), dy.double())
    return all(
        (a.double() - b).abs().max() <= TOLERANCE[dtype] * b.abs().max()
        for a, b in zip(ours, exact, strict=True)
    )


def _prune(dtype: torch.dtype) -> bool:
    grad = torch.randn(5000, generator=torch.Generator().manual_seed(0)).to(dtype)
    return torch.equal(ops.prune(grad, 0.7, seed=3), reference.prune(grad, 0.7, 3))


def _pruner() -> bool:
    """With history 0 a gradient is pruned by its own mean: some go, the state counts them."""
    pruner = PruneGrad(0.9, history=0, seed=1)
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0)).requires_grad_()
    dy = torch.randn(4096, generator=torch.Generator().manual_seed(1))
    kept = int(torch.autograd.grad(pruner(x), x, dy)[0].count_nonzero())
    return 0.3 < kept / 4096 < 0.6 and kept == pruner.state[NONZEROS]


def _observe() -> bool:
    state = torch.zeros(3, dtype=torch.float64)
    ops.count_nonzeros(torch.tensor([0.0, 1.0, 2.0]), state, 1)
    return state.tolist() == [1, 3, 2]


def _count() -> bool:
    """Forward and grad_weight take at most N K P Q C R S multiplications each."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1))
    with accel.record(model) as recording:
        torch.autograd.grad(model(torch.ones(1, 2, 6, 6)).sum(), list(model.parameters()))
    step = accel.simulate(recording.workload(), accel.sparsetrain168)
    return 0 < step.total.macs <= 2 * 3 * 36 * 2 * 9


LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
TESTS: dict[str, Callable[[], bool]] = {
    **{
        f"conv2d {str(dtype).removeprefix('torch.')} {name}": partial(_convolution, dtype, layout)
        for dtype, (name, layout) in product(TOLERANCE, LAYOUTS.items())
    },
    **{
        f"prune {str(dtype).removeprefix('torch.')}": partial(_prune, dtype)
        for dtype in (torch.float32, torch.float64, torch.bfloat16)
    },
    "PruneGrad": _pruner,
    "count_nonzeros": _observe,
    "accel": _count,
}

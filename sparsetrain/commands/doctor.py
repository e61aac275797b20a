"""`sparsetrain doctor`: what is installed, and a check of every operator, for bug reports."""

import os
import platform
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from sparsetrain import accel, ops, reference, testing
from sparsetrain._native import _C
from sparsetrain.experiments import machine
from sparsetrain.pruning import NONZEROS, PruneGrad
from sparsetrain.version import __version__

WHAT_TO_DO = "Build again: `make build`, or `pip install --no-build-isolation .` where torch is"
Check = Callable[[], str | None]  # returns what is wrong, or None


@click.command()
def doctor() -> None:
    """Print what a bug report needs, and check every operator.

    Prints versions, the processor with the instruction set that the kernels use, and what was built
    for CUDA. Then compares every operator with plain PyTorch, which takes a few seconds. The exit
    code is 1 if a check fails.

    Example: sparsetrain doctor
    """
    console = Console(width=100)
    installation = Table(title="Installation", show_header=False)
    for name, value in facts().items():
        installation.add_row(name, value)
    console.print(installation)

    failures = {}
    results = Table("operator", "result", title="Operators")
    checks = all_checks()
    progress = Console(stderr=True)
    for name, check in track(checks.items(), "checking", console=progress, transient=True):
        failure = failure_of(check)
        if failure:
            failures[name] = failure
        results.add_row(name, f"FAILED: {failure}" if failure else "correct")
    console.print(results)
    for name, failure in failures.items():
        click.echo(f"wrong: {name}: {failure}. {WHAT_TO_DO}", err=True)
    if failures:
        sys.exit(1)
    console.print(f"All {len(checks)} checks passed.")


def facts() -> dict[str, str]:
    """What is installed and what the operators use, by name."""
    here = machine.describe(torch.get_num_threads())
    return {
        "SparseTrain": __version__,
        "compiled module": str(_C.__file__),
        "Python": f"{here['python']}, {sys.executable}",
        "torch": torch.__version__,
        "operating system": platform.platform(),
        "processor": f"{here['processor']}, {here['cores']} cores",
        "instruction set": _instruction_set(),
        "threads": f"{here['threads']} (torch.get_num_threads())",
        "compiler": _compiler(),
        "CUDA in torch": torch.version.cuda or "none",
        "CUDA in SparseTrain": _cuda(),
        "GPU": _gpu(),
    }


def all_checks() -> dict[str, Check]:
    """The check of each operator, by name; those on a GPU only if torch can use one."""
    checks: dict[str, Check] = {}
    for device in ("cpu", "cuda") if cuda_built() and torch.cuda.is_available() else ("cpu",):
        for dtype in testing.DTYPES:
            where = f"{str(dtype).removeprefix('torch.')}, {device}"
            checks[f"conv2d, {where}"] = partial(check_conv2d, dtype, device)
            checks[f"prune, {where}"] = partial(check_prune, dtype, device)
        checks[f"PruneGrad, {device}"] = partial(check_prune_grad, device)
        checks[f"count_nonzeros, {device}"] = partial(check_count_nonzeros, device)
    checks["accelerator model"] = check_accelerator
    return checks


def failure_of(check: Check) -> str | None:
    """What a check returns, or the exception that it raises, in one line."""
    try:
        return check()
    except Exception as error:
        return traceback.format_exception_only(error)[-1].strip()


def check_conv2d(dtype: torch.dtype, device: str) -> str | None:
    """Compares all passes of the sparse backend with torch's convolution in float64."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of one case's padding="same"
        for memory_format in testing.MEMORY_FORMATS:
            for case in testing.CASES:
                sentences = testing.mismatches(
                    partial(ops.conv2d, **case.geometry, backend="sparse"),
                    case, dtype, memory_format=memory_format, device=device,
                )  # fmt: skip
                if sentences:
                    return sentences[0]
    return None


def check_prune(dtype: torch.dtype, device: str) -> str | None:
    """Compares pruning with its implementation in plain PyTorch, bit for bit."""
    grad = torch.randn(5000, generator=torch.Generator().manual_seed(0)).to(dtype)
    pruned = ops.prune(grad.to(device), 0.7, seed=3).cpu()
    wrong = int((pruned != reference.prune(grad, 0.7, 3)).sum())
    return f"{wrong} of 5000 elements differ from plain PyTorch's" if wrong else None


def check_prune_grad(device: str) -> str | None:
    """Prunes a gradient by its own mean (history=0) and compares the density and the state."""
    pruner = PruneGrad(0.9, history=0, seed=1).to(device)
    x = torch.zeros(4096, device=device, requires_grad=True)
    dy = torch.randn(4096, generator=torch.Generator().manual_seed(1)).to(device)
    kept = int(torch.autograd.grad(pruner(x), x, dy)[0].count_nonzero())
    counted = int(pruner.state[NONZEROS])
    if not 0.3 < kept / 4096 < 0.6:
        return f"expected a density in (0.3, 0.6), got {kept / 4096:.3f}"
    return None if kept == counted else f"expected a count of {kept} nonzeros, got {counted}"


def check_count_nonzeros(device: str) -> str | None:
    """Counts the nonzeros of three elements; the state is calls, elements, nonzeros."""
    state = torch.zeros(3, dtype=torch.float64, device=device)
    ops.count_nonzeros(torch.tensor([0.0, 1.0, 2.0], device=device), state, 1)
    counted = state.tolist()
    return None if counted == [1, 3, 2] else f"expected counts [1, 3, 2], got {counted}"


def check_accelerator() -> str | None:
    """Simulates forward and grad_weight of a layer, each of at most N K P Q C R S products."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1))
    with accel.record(model) as recording:
        torch.autograd.grad(model(torch.ones(1, 2, 6, 6)).sum(), list(model.parameters()))
    macs = accel.simulate(recording.workload(), accel.sparsetrain168).total.macs
    most = 2 * 3 * 36 * 2 * 9
    return None if 0 < macs <= most else f"expected 1 to {most} multiplications, got {macs}"


def cuda_built() -> bool:
    """Whether the operators have CUDA kernels. Does not need a GPU."""
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
        return "none found (only needed to build)"
    done = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0] or found


def _instruction_set() -> str:
    best = _C.best_isa()
    if "SPARSETRAIN_ISA" not in os.environ:
        return f"{best}, the best that this processor has"
    return f"{_C.isa()}, set by SPARSETRAIN_ISA; the best that this processor has is {best}"


def _gpu() -> str:
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "none" if torch.version.cuda is None else "none that torch can use"

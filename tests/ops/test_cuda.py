"""Checks of the CUDA build that need no GPU: registers, instructions, fake tensors, choices."""

import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers.nets import small_net
from helpers.paths import ROOT
from test_operators import samples
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sparsetrain import SparseConv2d, convert, explain, stats
from sparsetrain._native import _C
from sparsetrain.commands import doctor
from sparsetrain.nn import LastCall

built = pytest.mark.skipif(not doctor.cuda_built(), reason="built without CUDA")

# Registers per thread: 128 allow two blocks of 256 threads on a multiprocessor.
BUDGETS = {
    "prune_chunks_kernel": 80,
    "product_kernel": 128,
    "add_segments_kernel": 40,
    "count_kernel": 48,
    "count_nonzeros_kernel": 40,
    "record_kernel": 40,
    "total_kernel": 40,
    "mark_kernel": 40,
    "count_rows_kernel": 40,
    "count_columns_kernel": 40,
    "store_entries_kernel": 40,
    "write_rows_kernel": 64,
    "write_columns_kernel": 40,
    "draw_given_kernel": 40,
    "draw_predicted_kernel": 40,
}


@cache
def cuobjdump(option):
    """The output of cuobjdump for the built module."""
    tool = shutil.which("cuobjdump")
    if tool is None and (triton := find_spec("triton")) is not None:
        bundled = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        tool = bundled if bundled.is_file() else None
    if tool is None:
        pytest.skip("no cuobjdump, neither a toolkit's nor Triton's")
    done = subprocess.run([tool, option, _C.__file__], capture_output=True, text=True, check=True)
    return done.stdout


def kernels():
    """Mangled name, registers, local bytes and stack of every kernel of the module."""
    found = re.findall(
        r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)",
        cuobjdump("--dump-resource-usage"),
    )
    return {name: tuple(map(int, numbers)) for name, *numbers in found}


@built
def test_kernels_keep_their_register_budgets_and_spill_nothing():
    seen = set()
    for name, (registers, stack, local) in kernels().items():
        assert stack == local == 0, name
        if name.startswith("_ZN3cub"):  # CUB chooses the registers of its own kernels
            continue
        (kernel,) = [known for known in BUDGETS if known in name]
        seen.add(kernel)
        assert registers <= BUDGETS[kernel], name
    assert seen == set(BUDGETS)


@built
def test_kernels_use_no_atomics_and_no_local_memory_and_load_whole_vectors():
    """Atomics would make sums depend on the order of threads; prune must not use fma."""
    functions = re.split(r"\bFunction : ", cuobjdump("-sass"))[1:]
    assert len(functions) == len(kernels())
    for text in functions:
        name = text.split(None, 1)[0]
        operations = set(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?(\S+)", text, re.M))
        plain = {operation.split(".")[0] for operation in operations}
        assert not plain & {"LDL", "STL", "RED", "REDG", "ATOM", "ATOMG", "ATOMS"}, name
        if "prune_chunks_kernel" in name:
            assert any(re.match(r"LDG\.E\.128", operation) for operation in operations), name
            assert not plain & {"FFMA", "DFMA"}, name
        if "product_kernel" in name:
            assert plain & {"FFMA", "DFMA"}, name


@built
def test_the_module_loads_without_a_gpu():
    program = "import sparsetrain, torch; print(torch.cuda.is_available())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout.strip(), done.returncode) == ("False", 0), done.stderr


def fake(value):
    if not isinstance(value, torch.Tensor):
        return value
    density = value.dtype == torch.float64 and value.dim() == 0
    made = torch.empty_strided(
        value.shape, value.stride(), dtype=value.dtype, device="cpu" if density else "cuda"
    )
    return made.requires_grad_(value.requires_grad)


@pytest.mark.parametrize("name", samples())
def test_fake_cuda_tensors_have_the_shapes_of_cpu_tensors(name):
    operator = getattr(torch.ops.sparsetrain, name)
    for arguments in samples()[name]:
        wanted = torch.utils._pytree.tree_leaves(operator(*arguments))
        with FakeTensorMode():
            got = torch.utils._pytree.tree_leaves(operator(*map(fake, arguments)))
        assert len(got) == len(wanted)
        for ours, theirs in zip(got, wanted, strict=True):
            if theirs is not None:
                assert ours.device.type == "cuda"
                assert (ours.shape, ours.stride(), ours.dtype) == (
                    theirs.shape,
                    theirs.stride(),
                    theirs.dtype,
                )


def test_a_converted_model_runs_forward_on_fake_cuda_tensors():
    """A backward would need a GPU: PyTorch's engine asks the driver for a context."""
    with FakeTensorMode(), torch.device("cuda"):
        model = convert(small_net(), 0.9, history=2, measure_every=1)
        y = model(torch.empty(4, 3, 8, 8, requires_grad=True))
    assert (y.shape, y.device.type, y.requires_grad) == ((4, 5), "cuda", True)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("torch.version.cuda = None", "torch was built without CUDA"),
        ("cpp_extension.CUDA_HOME = None", "no CUDA toolkit was found"),
        ("cpp_extension.CUDA_HOME = folder", "the CUDA toolkit at FOLDER has no headers"),
        (
            "(include := Path(folder, 'include')).mkdir()\n"
            "(include / 'cuda.h').write_text('#define CUDA_VERSION 10020\\n')\n"
            "cpp_extension.CUDA_HOME, torch.version.cuda = folder, '13.2'",
            "the CUDA toolkit is 10.x, torch's is 13.2",
        ),
        (
            "(include := Path(folder, 'include')).mkdir()\n"
            "(include / 'cuda.h').write_text('#define CUDA_VERSION 13000\\n')\n"
            "cpp_extension.CUDA_HOME, torch.version.cuda = folder, '13.2'",
            "the CUDA toolkit at FOLDER has no cusparse.h",
        ),
    ],
)
def test_setup_reports_why_it_builds_for_the_cpu_only(tmp_path, lines, reason):
    program = f"""
import runpy, sys, torch
from pathlib import Path
from torch.utils import cpp_extension
folder = {str(tmp_path)!r}
if torch.version.cuda is None:
    torch.version.cuda = "13.2"
cpp_extension.CUDA_HOME = "/somewhere"
{lines}
sys.argv = ["setup.py", "--version"]
runpy.run_path("setup.py", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    line = f"sparsetrain: building for the CPU only: {reason}".replace("FOLDER", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert line in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("options", "backend", "reason"),
    [
        (dict(backend="sparse"), "sparse", "asked for"),
        (dict(backend="dense"), "dense", "asked for"),
        (
            dict(backend="auto", grad_density=0.01),
            "dense",
            "this kind of GPU was not timed in this precision",
        ),
        (dict(backend="sparse", groups=2), "dense", "groups run dense on CUDA"),
        (dict(backend="sparse", batch=0), "dense", "empty"),
        (dict(backend="sparse", batch=2**22), "dense", "too large for the CUDA kernels' indices"),
    ],
)
def test_explain_reports_what_cuda_runs(options, backend, reason):
    batch, groups = options.pop("batch", 8), options.get("groups", 1)
    weight_shape = (64, 64 // groups, 3, 3)
    explanation = explain((batch, 64, 32, 32), weight_shape, 1, 1, device="cuda", **options)
    for choice in vars(explanation).values():
        assert (choice.backend, choice.reason) == (backend, reason)
        assert choice.dense_ms != choice.dense_ms  # NaN: unknown


def test_explain_reports_what_cusparse_runs():
    """cuSPARSE runs gradients whose matrices have below 2^31 entries."""

    def backends(batch, **options):
        choices = explain((batch, 64, 32, 32), (64, 64, 3, 3), 1, 1, device="cuda", **options)
        return {name: (c.backend, c.reason) for name, c in vars(choices).items()}

    assert backends(8, backend="cusparse") == {
        "forward": ("dense", "cuSPARSE runs gradients only"),
        "grad_input": ("cusparse", "asked for"),
        "grad_weight": ("cusparse", "asked for"),
    }
    assert backends(8192, backend="cusparse") == {
        "forward": ("dense", "cuSPARSE runs gradients only"),
        "grad_input": ("dense", "too large for cuSPARSE's 32-bit indices"),
        "grad_weight": ("cusparse", "asked for"),
    }
    assert "cusparse" not in str(backends(8, backend="auto", grad_density=0.01))


def test_backend_cusparse_works_on_fake_cuda_tensors():
    with FakeTensorMode(), torch.device("cuda"):
        x, w, dy = torch.empty(2, 4, 8, 8), torch.empty(6, 4, 3, 3), torch.empty(2, 6, 8, 8)
        model = convert(small_net(), 0.9, backend="cusparse")
        assert model(torch.empty(4, 3, 8, 8)).shape == (4, 5)
        gradients = torch.ops.sparsetrain.conv2d_backward(
            dy, x, w, (1, 1), (1, 1), (1, 1), 1, [True, True, False], "cusparse"
        )
    assert [g.shape for g in gradients] == [x.shape, w.shape, (0,)]


def test_stats_of_a_cusparse_layer_that_moved_to_the_cpu():
    layer = SparseConv2d(64, 64, 3, padding=1, backend="cusparse")
    layer._last_call = LastCall(torch.Size((8, 64, 32, 32)), torch.float32, (1, 1))
    measured = stats(nn.Sequential(layer))["0"]
    assert (measured.forward, measured.grad_input, measured.grad_weight) == (
        "dense",
        "cusparse",
        "cusparse",
    )


def test_explain_accepts_cpu_and_cuda():
    with pytest.raises(ValueError, match=r"explain: expected device to be one of cpu, cuda, got"):
        explain((8, 64, 32, 32), (64, 64, 3, 3), device="mps")

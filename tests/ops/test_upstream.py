"""Faults of PyTorch 2.15's convolutions on the CPU that our operators must not inherit.

Each fault has a reproduction. If a PyTorch version no longer shows a fault, its test is skipped
with that reason: the workaround in csrc/torch/cpu/aten_conv.cpp can then be removed. Every
reproduction runs in a new process, because some faults corrupt the heap.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT, TESTS
from torch.nn import functional as F

import sparsetrain
from sparsetrain import testing

# Sizes of the operands, and their strides where they matter.
FAULTS = {
    # Gives a wrong weight gradient and sometimes corrupts the heap.
    "grouped channels_last weights, unbatched float64": dict(
        dtype=torch.float64, x=(4, 7, 7), x_strides=(1, 28, 4), w=(6, 2, 3, 3),
        w_strides=(18, 1, 6, 2), groups=2,
    ),
    # Corrupts the heap.
    "1x1 channels_last, unequal strides": dict(
        dtype=torch.bfloat16, x=(1, 7, 4, 127), x_strides=(3556, 1, 889, 7), w=(32, 7, 1, 1),
        w_strides=(7, 1, 7, 7), stride=(2, 1),
    ),
    # Leaves the gradient of taps that only meet padding unwritten.
    "bfloat16 channels_last, taps that meet only padding": dict(
        dtype=torch.bfloat16, x=(2, 5, 14, 2), x_strides=(140, 1, 10, 5), w=(7, 5, 13, 5),
        stride=(1, 3), padding=(3, 4),
    ),
    # Leaves parts of the weight gradient unwritten.
    "bfloat16, dilated groups": dict(
        dtype=torch.bfloat16, x=(1, 16, 13, 64), x_strides=(13312, 1, 1024, 16), w=(32, 1, 3, 5),
        stride=(1, 2), dilation=(3, 1), groups=16,
    ),
    "bfloat16 channels_last, dilated, channels that are no multiple of 16": dict(
        dtype=torch.bfloat16, x=(1, 17, 8, 64), x_strides=(8704, 1, 1088, 17), w=(7, 17, 2, 3),
        w_strides=(102, 1, 51, 17), stride=(1, 2), dilation=(2, 1),
    ),
    # Give a wrong forward.
    "channels_last images of one channel": dict(
        dtype=torch.float32, x=(2, 1, 9, 3), x_strides=(27, 1, 3, 1), w=(65, 1, 13, 13),
        w_strides=(169, 1, 13, 1), stride=(1, 3), padding=(4, 6),
    ),
    "bfloat16, several filters for one channel a group, output one pixel wide": dict(
        dtype=torch.bfloat16, x=(2, 5, 6, 3), w=(10, 1, 3, 3), stride=(1, 5), padding=(2, 0),
        groups=5,
    ),
    "bfloat16, dilated, with AMX": dict(
        dtype=torch.bfloat16, x=(1, 3, 14, 5), w=(4, 3, 5, 5), stride=(1, 3), padding=(0, 3),
        dilation=(1, 2),
    ),
    "grouped channels_last, odd strides of a dimension of size 1": dict(
        dtype=torch.float32, x=(5, 6, 10, 2), x_strides=(120, 1, 12, 6), w=(258, 3, 3, 1),
        w_strides=(9, 1, 3, 7), stride=(5, 3), padding=(0, 3), groups=2,
    ),
    # Raises "slow_conv2d: grad_weight must be contiguous".
    "one filter whose first stride is 0": dict(
        dtype=torch.float64, x=(2, 8, 9, 8), x_strides=(576, 1, 64, 8), w=(1, 8, 3, 3),
        w_strides=(0, 1, 24, 8), padding=(1, 1),
    ),
}  # fmt: skip
GEOMETRY = ("stride", "padding", "dilation", "groups")
# glibc's heap checks, if they are installed.
HEAP = Path("/usr/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")


def operands(fault):
    """x, w, dy and the geometry of a reproduction."""
    g = torch.Generator().manual_seed(0)

    def laid_out(shape, strides):
        values = torch.randn(shape, generator=g, dtype=torch.float64).to(fault["dtype"])
        if strides is None:
            return values
        return torch.empty_strided(shape, strides, dtype=fault["dtype"]).copy_(values)

    x = laid_out(fault["x"], fault.get("x_strides"))
    w = laid_out(fault["w"], fault.get("w_strides"))
    arguments = {name: fault[name] for name in GEOMETRY if name in fault}
    shape = F.conv2d(x.double().contiguous(), w.double().contiguous(), **arguments).shape
    return x, w, laid_out(shape, None), arguments


def is_right(name, convolve):
    """Whether y, dx and dw equal float64 results on contiguous copies, within rounding."""
    torch.set_num_threads(2)  # with two threads, heap corruption shows
    x, w, dy, geometry = operands(FAULTS[name])
    given = testing.Operands(x, w, None, dy)
    for _ in range(100):  # unwritten memory may hold the right value by chance
        results = testing.three_passes(lambda x, w, _: convolve(x, w, **geometry), given)
    for result, exact in zip(results[:3], testing.exact_results(given, **geometry), strict=False):
        # Far above the rounding of 650 products of normal numbers, far below the faults.
        value = exact.value.reshape(result.shape)
        if not torch.allclose(result.double(), value, rtol=0.05, atol=0.5):
            return False
    return True


def wrong(convolution, names):
    """The output of a process that lists the named faults which a convolution shows.

    MALLOC_PERTURB_ fills new memory, so that unwritten elements are not 0.
    """
    right = f"t.is_right(name, t.{convolution})"
    code = f"import test_upstream as t; print([name for name in {names!r} if not {right}])"
    environment = {
        **os.environ, "MALLOC_PERTURB_": "165", "MALLOC_CHECK_": "3",
        "PYTHONPATH": f"{ROOT}:{TESTS}:{TESTS}/ops", "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip
    if HEAP.exists():
        environment["LD_PRELOAD"] = str(HEAP)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr or "a crash"


def torch_itself(*operands, **arguments):
    return F.conv2d(*operands, **arguments)


def sparse(*operands, **arguments):
    return sparsetrain.conv2d(*operands, **arguments, backend="sparse")


def dense(*operands, **arguments):
    return sparsetrain.conv2d(*operands, **arguments, backend="dense")


@pytest.mark.parametrize("backend", ["sparse", "dense"])
def test_our_backends_do_not_have_the_faults(backend):
    assert wrong(backend, list(FAULTS)) == "[]"


@pytest.mark.parametrize("name", FAULTS)
def test_pytorch_still_has_the_fault(name):
    if wrong("torch_itself", [name]) == "[]":
        pytest.skip(f"torch {torch.__version__} does not have this fault on this machine")


def test_the_double_backward_does_not_have_the_fault_of_the_forward():
    """PyTorch computes the derivative of dx with a forward convolution, which has the fault."""
    x, w, dy, arguments = operands(FAULTS["channels_last images of one channel"])

    def derivatives(convolve, dtype, v):
        leaves = [t.detach().to(dtype).requires_grad_() for t in (x, w, dy)]
        dx, _ = torch.autograd.grad(
            convolve(*leaves[:2], **arguments), leaves[:2], leaves[2], create_graph=True
        )
        return torch.autograd.grad(dx, leaves[1:], v.to(dtype))

    ours = derivatives(sparse, torch.float32, x)
    x, w = (t.clone(memory_format=torch.contiguous_format) for t in (x, w))
    for a, b in zip(ours, derivatives(F.conv2d, torch.float64, x), strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_images_without_channels_are_refused(device):
    """PyTorch returns [N, 0, P, Q]: as many output channels as input channels."""
    x, w = torch.ones(2, 0, 5, 5, device=device), torch.ones(4, 0, 3, 3, device=device)
    with pytest.raises(ValueError, match=r"weight to be without an empty dimension, got \[4, 0,"):
        sparsetrain.conv2d(x, w)

"""Scratch memory stays below the formula of docs/kernels.md, and nothing leaks."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from click.testing import CliRunner
from helpers.paths import ROOT, TESTS
from torch.profiler import profile

import sparsetrain

MIB = 2**20


def bound(e, r, s, source_channels, scalar_bytes, threads):
    """The formula of docs/kernels.md: the lists of both gradients plus scratch of each thread."""
    lists = 2 * ((4 + scalar_bytes) * e + e // 2)
    packed = r * s * (source_channels + 80) * 64 * scalar_bytes
    return lists + threads * (packed + MIB) + MIB


# n, c, k, size, kernel, dtype, layout, threads. Scratch blocks are kept and reused, so each case
# needs more than the one before. They run in a new process, in which no block exists yet.
CASES = [
    (4, 33, 65, 17, 3, torch.bfloat16, torch.channels_last, 1),
    (4, 64, 64, 24, 3, torch.float32, torch.contiguous_format, 3),
    (8, 64, 64, 32, 3, torch.float32, torch.channels_last, 1),
    (8, 40, 300, 24, 1, torch.float16, torch.contiguous_format, 2),
    (4, 64, 96, 61, 5, torch.float64, torch.channels_last, 2),
]


def allocated(n, c, k, size, kernel, dtype, layout, threads):
    """Bytes that one backward pass allocates in addition to its results."""
    x = torch.randn(n, c, size, size).to(dtype).to(memory_format=layout)
    w = torch.randn(k, c, kernel, kernel).to(dtype).to(memory_format=layout)
    dy = torch.randn(n, k, size, size).to(dtype).to(memory_format=layout)
    rest = ([1, 1], [kernel // 2] * 2, [1, 1], 1, [True, True, False], "sparse")
    torch.set_num_threads(threads)
    with profile(profile_memory=True) as profiled:
        torch.ops.sparsetrain.conv2d_backward(dy, x, w, *rest)
    taken = sum(e.self_cpu_memory_usage for e in profiled.events() if e.name == "aten::empty")
    return taken - x.nbytes - w.nbytes


def in_new_process(expression):
    """Evaluates `expression` in a new process, where this module is called t."""
    code = f"import json, test_memory as t; print(json.dumps({expression}))"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{TESTS}:{TESTS}/ops"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(done.stdout)


def test_scratch_is_bounded():
    sizes = in_new_process("[t.allocated(*case) for case in t.CASES]")
    for case, taken in zip(CASES, sizes, strict=True):
        n, _, k, size, kernel, dtype, _, threads = case
        scalar_bytes = 8 if dtype == torch.float64 else 4
        most = bound(n * k * size * size, kernel, kernel, k, scalar_bytes, threads)
        assert most / 3 < taken <= most, case  # the bound is tight within a factor of 3


def held_after(*counts):
    """Resident bytes of this process after each of `counts` numbers of training steps."""
    torch.set_num_threads(1)
    model = sparsetrain.convert(
        torch.nn.Sequential(
            torch.nn.Conv2d(8, 32, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(32, 32, 3, padding=1),
        ),
        backend="sparse",
        measure_every=3,
    )
    x, held = torch.randn(4, 8, 16, 16), []
    for count in counts:
        for _ in range(count):
            model(x).square().mean().backward()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        held.append(pages * os.sysconf("SC_PAGE_SIZE"))
    return held


def test_a_thousand_steps_take_no_more_memory_than_a_hundred():
    """Compares resident memory; the peak may come from an earlier test of the process."""
    first, last = in_new_process("t.held_after(100, 900)")
    # A leaked tensor of 32 KB in each step would add 29 MB; the allocator varies by less than 8.
    assert last - first < 8 * MIB


def test_a_step_of_resnet18_takes_no_more_memory_than_the_formula_allows(monkeypatch, tmp_path):
    """Runs benchmarks/memory.py, which reports the bound of docs/kernels.md."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    memory, path = importlib.import_module("memory"), tmp_path / "memory.json"
    result = CliRunner().invoke(memory.main, ["--json", str(path)])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(path.read_text())["rows"]
    largest = 32 * 64 * 32 * 32  # elements of dy at the full size: batch, channels, pixels
    most = 2 * bound(largest, 3, 3, 64, 4, 1) + 4 * largest
    assert row["bound_mib"] * MIB == most
    assert row["extra_mib"] == row["converted_mib"] - row["dense_mib"] < row["bound_mib"]
    assert row["extra_mib"] > row["bound_mib"] / 8  # the bound is tight within a factor of 8

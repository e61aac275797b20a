"""Scratch memory stays below the formula of docs/kernels.md, and nothing grows."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from click.testing import CliRunner
from helpers.paths import ROOT
from torch.profiler import profile

import sparsetrain

MIB = 2**20


def bound(e, r, s, source_channels, scalar_bytes, threads):
    """docs/kernels.md: both kinds of lists, and what each thread has beside them."""
    lists = 2 * ((4 + scalar_bytes) * e + e // 2)
    packed = r * s * (source_channels + 80) * 64 * scalar_bytes
    return lists + threads * (packed + MIB) + MIB


# n, c, k, size, kernel, dtype, layout, threads: each needs more than the one before, since blocks
# are kept; in a process of its own, where no test before has left one.
CASES = [
    (4, 33, 65, 17, 3, torch.bfloat16, torch.channels_last, 1),
    (4, 64, 64, 24, 3, torch.float32, torch.contiguous_format, 3),
    (8, 64, 64, 32, 3, torch.float32, torch.channels_last, 1),
    (8, 40, 300, 24, 1, torch.float16, torch.contiguous_format, 2),
    (4, 64, 96, 61, 5, torch.float64, torch.channels_last, 2),
]


def allocated(n, c, k, size, kernel, dtype, layout, threads):
    """Bytes that one backward pass allocates beside its results."""
    x = torch.randn(n, c, size, size).to(dtype).to(memory_format=layout)
    w = torch.randn(k, c, kernel, kernel).to(dtype).to(memory_format=layout)
    dy = torch.randn(n, k, size, size).to(dtype).to(memory_format=layout)
    rest = ([1, 1], [kernel // 2] * 2, [1, 1], 1, [True, True, False], "sparse")
    torch.set_num_threads(threads)
    with profile(profile_memory=True) as profiled:
        torch.ops.sparsetrain.conv2d_backward(dy, x, w, *rest)
    taken = sum(e.self_cpu_memory_usage for e in profiled.events() if e.name == "aten::empty")
    return taken - x.nbytes - w.nbytes


def in_a_process_of_its_own(expression):
    """What `expression` of this module, t, is where no test before has left memory behind."""
    code = f"import json, test_memory as t; print(json.dumps({expression}))"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(done.stdout)


def test_scratch_is_bounded():
    sizes = in_a_process_of_its_own("[t.allocated(*case) for case in t.CASES]")
    for case, taken in zip(CASES, sizes, strict=True):
        n, _, k, size, kernel, dtype, _, threads = case
        scalar_bytes = 8 if dtype == torch.float64 else 4
        most = bound(n * k * size * size, kernel, kernel, k, scalar_bytes, threads)
        assert most / 3 < taken <= most, case  # a bound that says something


def held_after(*counts):
    """Bytes that this process holds after so many steps each."""
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
    """Not the peak, which an earlier test of the same process may have set."""
    first, last = in_a_process_of_its_own("t.held_after(100, 900)")
    # A leaked tensor of 32 KB a step would be 29 MB; what the allocator needs now and then is not.
    assert last - first < 8 * MIB


def test_a_step_of_resnet18_takes_no_more_memory_than_the_formula_allows(monkeypatch, tmp_path):
    """benchmarks/memory.py, whose own bound is that of docs/kernels.md."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    memory, path = importlib.import_module("memory"), tmp_path / "memory.json"
    result = CliRunner().invoke(memory.main, ["--json", str(path)])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(path.read_text())["rows"]
    largest = 32 * 64 * 32 * 32  # elements of dy at the full size: batch, channels, pixels
    most = 2 * bound(largest, 3, 3, 64, 4, 1) + 4 * largest
    assert row["bound_mib"] * MIB == most
    assert row["extra_mib"] == row["converted_mib"] - row["dense_mib"] < row["bound_mib"]
    assert row["extra_mib"] > row["bound_mib"] / 8  # a bound that says something

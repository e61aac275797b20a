"""Operators that run out of memory or meet Ctrl-C: the next call is right, and so is the state."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from helpers.nets import same
from helpers.paths import TESTS

import sparsetrain
from sparsetrain import PruneGrad, pruning


def child(code, *arguments):
    """Runs `code` in a new process, because limits of memory stay with a process."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


SCRATCH = """
import copy, resource, torch
from torch import nn
from sparsetrain import convert

def run(model, x):
    model.zero_grad()
    model(x).square().sum().backward()
    return [p.grad for p in model.parameters()]

torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(8, 64, 64, 64)
layers = [nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)]
model = convert(nn.Sequential(*layers), 0, backend="sparse")
run(model, x[:1, :, :8, :8].clone())  # loads whatever is only loaded at the first call
twin = copy.deepcopy(model)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for room in range(0, 200, 10):  # MiB; each limit fails at another allocation
    resource.setrlimit(resource.RLIMIT_AS, (used + (room << 20), resource.RLIM_INFINITY))
    try:
        run(model, x)
    except (RuntimeError, MemoryError) as error:
        print("refused", str(error).splitlines()[0])
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert all(torch.equal(a, b) for a, b in zip(run(model, x), run(twin, x)))
print("continues")
"""


def test_a_step_without_memory_is_refused_and_the_next_one_is_right():
    lines = child(SCRATCH).splitlines()
    refused = [line for line in lines if line.startswith("refused")]
    assert len(refused) >= 3 and lines[-1] == "continues"
    for line in refused:
        assert "can't allocate memory" in line or "bad_alloc" in line or "Cannot allocate" in line


@pytest.fixture
def ctrl_c():
    """Makes Ctrl-C raise KeyboardInterrupt, also in a background job, where a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_end_of_the_operator():
    """The pruner's state equals that of a twin that did as many steps without an interrupt."""
    pruner, twin = PruneGrad(0.9, history=2, seed=3), PruneGrad(0.9, history=2, seed=3)
    grad = torch.randn(2**22, generator=torch.Generator().manual_seed(0))

    def step(module):
        x = torch.zeros_like(grad, requires_grad=True)
        module(x).backward(grad)
        return x.grad

    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    step(pruner)  # the first step may take longer than the timer
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        while True:
            step(pruner)
    pushes = int(pruner.state[pruning.PUSHES])
    for _ in range(pushes):
        step(twin)
    assert pushes > 1 and torch.equal(pruner.state, twin.state)
    assert same(step(pruner), step(twin))


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_convolution_leaves_the_next_one_right():
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(*size, generator=generator) for size in ((8, 64, 32, 32), (64, 64, 3, 3)))
    x.relu_()
    before = sparsetrain.conv2d(x, w, padding=1, backend="sparse")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        while True:
            sparsetrain.conv2d(x, w, padding=1, backend="sparse")
    assert torch.equal(before, sparsetrain.conv2d(x, w, padding=1, backend="sparse"))

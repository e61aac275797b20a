"""What stops a step from outside: no memory, no disk, Ctrl-C. Nothing is lost or half done."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from helpers import small_data
from helpers.nets import same
from helpers.paths import TESTS

import sparsetrain
from sparsetrain import PruneGrad, pruning
from sparsetrain.experiments import datasets


def child(code, *arguments):
    """Runs `code` in a process of its own, for limits that cannot be taken back."""
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
run(model, x[:1, :, :8, :8].clone())  # everything that is loaded late is loaded
twin = copy.deepcopy(model)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for room in range(0, 200, 10):  # MiB: out of memory at one place after the other
    resource.setrlimit(resource.RLIMIT_AS, (used + (room << 20), resource.RLIM_INFINITY))
    try:
        run(model, x)
    except (RuntimeError, MemoryError) as error:
        print("refused", str(error).splitlines()[0])
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert all(torch.equal(a, b) for a, b in zip(run(model, x), run(twin, x)))
print("goes on")
"""


def test_no_memory_for_scratch_is_one_sentence_and_the_next_step_is_right():
    lines = child(SCRATCH).splitlines()
    refused = [line for line in lines if line.startswith("refused")]
    assert len(refused) >= 3 and lines[-1] == "goes on"
    for line in refused:
        assert "can't allocate memory" in line or "bad_alloc" in line or "Cannot allocate" in line


@pytest.fixture
def ctrl_c():
    """Ctrl-C is heard even where a shell's & has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_operator_and_leaves_whole_steps():
    """The state after the interrupt is that of a run of as many steps that nothing interrupted."""
    pruner, twin = PruneGrad(0.9, history=2, seed=3), PruneGrad(0.9, history=2, seed=3)
    grad = torch.randn(2**22, generator=torch.Generator().manual_seed(0))

    def step(one):
        x = torch.zeros_like(grad, requires_grad=True)
        one(x).backward(grad)
        return x.grad

    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    step(pruner)  # the first one may take long
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


FULL = """
import resource, signal, sys
from pathlib import Path
from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.files import write_csv, write_json
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer

folder, path = Path(sys.argv[1]), Path(sys.argv[2])
trainer = Trainer(Settings(rate=0.9), datasets.load(data_dir=folder))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
rows = [{"value": i} for i in range(10_000)]
for write in (
    lambda: checkpoint.save(path, trainer),
    lambda: write_json(path, {"rows": rows}),
    lambda: write_csv(path, rows),
):
    try:
        write()
    except OSError as error:
        print(error)
"""


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path):
    """The limit on the size of files fails in the middle of a file, where a full disk does."""
    folder, path = small_data.write(tmp_path / "data"), tmp_path / "runs" / "file"
    path.parent.mkdir()
    path.write_bytes(b"old")
    sentence = (
        f"sparsetrain.experiments.files: expected {path} to be written, got File too large. What was there "
        "before is still there"
    )
    assert child(FULL, folder, path).splitlines() == [sentence] * 3
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("keep", [0, 3, 15, 16, 1000])
def test_a_truncated_data_file_is_one_sentence(tmp_path, zipped, keep):
    folder = small_data.write(tmp_path / "data", zipped=zipped)
    path = next(folder.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"^sparsetrain\.datasets\.load: expected {path} to be"):
        datasets.load(data_dir=folder)

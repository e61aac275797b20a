"""Runs `make test-gpu` and `make bench-gpu`: builds, runs on this GPU, stores the results.

`test` runs tests/gpu and tests/ops/test_cuda.py, then a short list of calls under the four tools of
compute-sanitizer. `bench` runs `tune`, then benchmarks/gpu.py with the fitted costs. Results go to
build/gpu/{test,bench}.{json,txt}; docs/formats.md describes the fields. The exit code is 2, with
one sentence, if there is no GPU, and 1 if a step fails. The script itself needs only torch and the
standard library.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "gpu"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


def refusal():
    """Why this machine cannot run the steps, or None."""
    try:
        import torch
    except ImportError as error:
        return f"a Python with torch, got {error}"
    if not torch.cuda.is_available():
        return "a GPU that torch can use, got none"
    return None


def short_list(device="cuda"):
    """Calls every kernel of the library once or twice, on odd sizes, for the sanitizers."""
    import torch

    from sparsetrain import ops

    state = torch.zeros(16, dtype=torch.float64)
    state[12] = 1.5  # the factor
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        grad = torch.randn(5003, device=device).to(dtype)
        ops.prune(grad, 0.7, seed=1)
        ops.prune(grad[1:], 0.7, seed=1)
        for history in (0, 1):
            ops.prune_step(grad, state[: 15 + history].to(device, copy=True))
        counts = torch.zeros(3, dtype=torch.float64, device=device)
        ops.count_nonzeros(grad, counts, 1, ops.density_slot(counts))
        x = torch.randn(2, 37, 9, 11, device=device).relu().to(dtype).requires_grad_()
        w = torch.randn(70, 37, 3, 2, device=device).to(dtype).requires_grad_()
        bias = torch.randn(70, device=device).to(dtype)
        for backend in ("sparse", "cusparse") if device == "cuda" else ("sparse",):
            y = ops.conv2d(x, w, bias, (2, 1), (1, 2), backend=backend)
            y.backward(torch.randn_like(y).relu())
    if device == "cuda":
        torch.cuda.synchronize()


def steps(what):
    """Name, command and environment of each step; a step whose command is None is skipped."""
    python = sys.executable
    yield "build", [python, "setup.py", "build_ext", "--inplace"], {}
    if what == "bench":
        costs, figures = str(OUT / "costs.json"), str(OUT / "figures")
        yield "tune", [python, "-m", "sparsetrain", "tune", costs, "--device", "cuda"], {}
        results = ["--json", f"{figures}.json", "--text", f"{figures}.txt", "--costs", costs]
        yield "benchmark", [python, "benchmarks/gpu.py", *results], {}
        return
    files = ["tests/gpu", "tests/ops/test_cuda.py"]
    yield "tests", [python, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *files], {}
    sanitizer = shutil.which("compute-sanitizer")
    for tool in TOOLS:
        command = [sanitizer, "--tool", tool, "--error-exitcode", "1", "--kernel-name",
                   "kernel_substring=sparsetrain", python, __file__, "list"]  # fmt: skip
        yield tool, command if sanitizer else None, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def run(what):
    """Runs all steps, also after a failed one, and returns the exit code."""
    OUT.mkdir(parents=True, exist_ok=True)
    results, text = {}, ""
    for name, command, variables in steps(what):
        begin = time.monotonic()
        if command is None:
            results[name] = {"result": "skipped: no compute-sanitizer", "seconds": 0.0}
            print(f"{name}: {results[name]['result']}", flush=True)
            continue
        environment = os.environ | variables | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        passed = "passed" if done.returncode == 0 else f"failed with exit code {done.returncode}"
        results[name] = {"result": passed, "seconds": round(time.monotonic() - begin, 1)}
        text += f"== {name}: {passed}\n{done.stdout}{done.stderr}\n"
        print(f"{name}: {passed} ({results[name]['seconds']} s)", flush=True)
        if name == "build" and done.returncode:
            break
    if what == "bench" and (OUT / "figures.json").is_file():
        results["figures"] = json.loads((OUT / "figures.json").read_text())
        text += (OUT / "figures.txt").read_text()
    (OUT / f"{what}.json").write_text(json.dumps(results, indent=2) + "\n")
    (OUT / f"{what}.txt").write_text(text)
    print(f"written: {OUT / what}.json and .txt")
    steps_run = (r["result"] for name, r in results.items() if name != "figures")
    return int(any(result.startswith("failed") for result in steps_run))


if __name__ == "__main__":
    if reason := refusal():
        print(f"tests/gpu/on_gpu.py: expected {reason}. Nothing was run", file=sys.stderr)
        sys.exit(2)
    if sys.argv[1:] == ["list"]:
        short_list()
    else:
        sys.exit(run(sys.argv[1]))

"""Runs the fuzzer on 2,000 fixed cases, and shows that it finds planted faults."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fuzz
import fuzz_cases
import fuzz_laws
import pytest
import torch
from helpers.paths import ROOT

import sparsetrain
from sparsetrain.testing import ROUNDOFF


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "tests/fuzz/fuzz.py", *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip


def test_two_thousand_cases():
    done = command("--cases", 2000, "--seed", 6)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2000 cases of seed 6: 0 wrong" in done.stdout


def test_a_case_depends_on_its_seed_and_index_only():
    drawn = [fuzz_cases.draw(3, i) for i in range(40)]
    assert drawn == [fuzz_cases.draw(3, i) for i in range(40)]
    assert len({repr(case) for case in drawn}) == 40
    assert drawn[0] != fuzz_cases.draw(4, 0)


def test_drawn_cases_cover_every_kind():
    """3,000 cases cover every dtype, layout, scale, non-finite value, empty batch and refusal."""
    convs = [c for i in range(3000) if isinstance(c := fuzz_cases.draw(0, i), fuzz_cases.Conv)]
    operands = [o for c in convs for o in (c.x, c.w, c.dy)]
    assert {c.dtype for c in convs} == set(ROUNDOFF)
    assert {o.scale for o in operands} == set(fuzz_cases.SCALES)
    assert sum(bool(o.poison) for o in operands) > 100
    assert sum(0 in o.strides for o in operands) > 100
    assert sum(o.offset > 0 for o in operands) > 1000
    assert sum(not c.valid for c in convs) > 20
    assert sum(c.x.shape[0] == 0 for c in convs) > 100
    assert sum(len(c.x.shape) == 3 for c in convs) > 100
    assert len(convs) < 3000


def conv(**changes):
    """A plain convolution with all gradients."""

    def operand(*shape):
        strides = torch.empty(shape, device="meta").stride()
        return fuzz_cases.Operand(shape, strides, 0, 0.5, "normal", (), 1)

    case = fuzz_cases.Conv(
        torch.float32, operand(2, 5, 6, 6), operand(4, 5, 3, 3), operand(4), operand(2, 4, 6, 6),
        (1, 1), (1, 1), (1, 1), 1, (True, True, True), 1, True,
    )  # fmt: skip
    return replace(case, **changes)


def plant(monkeypatch, fault):
    """Replaces the convolution by one whose result passes through `fault(y, options)`."""
    real = sparsetrain.conv2d
    monkeypatch.setattr(sparsetrain, "conv2d", lambda *a, **k: fault(real(*a, **k), k))


def test_a_plain_case_has_no_findings():
    assert fuzz_laws.findings(conv()) == []


@pytest.mark.parametrize("dtype", list(ROUNDOFF))
def test_an_error_of_a_thousand_roundings_is_found(monkeypatch, dtype):
    """The error bound allows at most 74 roundings of products that sum to a few results."""
    error = 1 + 1000 * ROUNDOFF[dtype]
    plant(monkeypatch, lambda y, _: y * error)
    found = fuzz_laws.findings(conv(dtype=dtype))
    assert found and all("wrong" in message for message in found)
    assert {message.split()[0] for message in found} >= {"y", "grad_input", "grad_weight"}


def test_an_infinity_that_met_a_skipped_zero_is_found(monkeypatch):
    """Dense arithmetic gives NaN where a zero meets Inf; from the sparse backend that is wrong."""
    case = conv()
    poisoned = replace(case, w=replace(case.w, poison=(float("inf"),)))
    assert fuzz_laws.findings(poisoned) == []
    real = sparsetrain.conv2d
    monkeypatch.setattr(
        sparsetrain, "conv2d", lambda *a, **k: real(*a, **(k | {"backend": "dense"}))
    )
    assert any("y of sparse" in message for message in fuzz_laws.findings(poisoned))


def test_an_ignored_check_finite_is_found(monkeypatch):
    case = conv()
    poisoned = replace(case, w=replace(case.w, poison=(float("nan"),)))
    real = sparsetrain.conv2d
    monkeypatch.setattr(
        sparsetrain, "conv2d", lambda *a, **k: real(*a, **(k | {"check_finite": False}))
    )
    assert "y of check_finite is not the dense one" in fuzz_laws.findings(poisoned)


def test_a_wrong_dtype_is_found(monkeypatch):
    plant(monkeypatch, lambda y, k: y.double() if k["backend"] == "auto" else y)
    assert any("y of auto" in message for message in fuzz_laws.findings(conv()))


def test_a_changed_operand_is_found(monkeypatch):
    real = sparsetrain.conv2d

    def changes(x, *a, **k):
        y = real(x, *a, **k)
        x.data[0, 0, 0, 0] += 1
        return y

    monkeypatch.setattr(sparsetrain, "conv2d", changes)
    assert "an operand was changed" in fuzz_laws.findings(conv())


def test_a_call_that_only_torch_refuses_is_found(monkeypatch):
    case = conv()
    case = replace(case, valid=False, x=replace(case.x, shape=(2, 5, 0, 6)))
    assert fuzz_laws.findings(case) == []
    monkeypatch.setattr(sparsetrain, "conv2d", lambda x, w, b, **_: x.sum() + w.sum() + b.sum())
    (message,) = fuzz_laws.findings(replace(case, needs_grad=(False, False, False)))
    assert message == "torch refuses this call, sparsetrain does not"


def test_a_wrong_prune_is_found(monkeypatch):
    index = next(i for i in range(100) if isinstance(fuzz_cases.draw(0, i), fuzz_cases.Prune)
                 and 0 not in fuzz_cases.draw(0, i).grad.shape)  # fmt: skip
    case = replace(fuzz_cases.draw(0, index), threshold=1.0)
    assert fuzz_laws.findings(case) == []
    assert fuzz_laws.findings(replace(case, seed=0)) == []
    real = fuzz_laws.reference.prune
    monkeypatch.setattr(fuzz_laws.reference, "prune", lambda g, t, s, o: real(g, t, s + 1, o))
    grad = replace(case.grad, shape=(40,), strides=(1,), density=1.0, scale="normal")
    assert any("bits" in m for m in fuzz_laws.findings(replace(case, grad=grad)))


def judge(seed, index):
    """Replaces the real judge in the next test: cases 3, 205 and 207 are bad."""
    if index == 205:
        os.kill(os.getpid(), signal.SIGSEGV)
    if index == 207:
        time.sleep(60)
    return ["wrong"] if index == 3 else []


def test_wrong_crashing_and_endless_cases_are_found_and_the_others_run():
    seen, found = set(), {}
    for index, message in fuzz.run(judge, 0, range(300), jobs=2, seconds=3):
        if message is None:
            seen.add(index)
        else:
            found[index] = message
    assert seen == set(range(300))
    assert found[3] == "wrong"
    assert found[205].startswith("ends the process (-11), or a case from 200 on did")
    assert found[207].startswith("never ends")
    assert len(found) == 3


def test_a_finding_is_one_line_that_reproduces_it(tmp_path):
    """A convolution that is wrong by a thousandth is found from the command line."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sparsetrain\nreal = sparsetrain.conv2d\n"
        "sparsetrain.conv2d = lambda *a, **k: real(*a, **k) * 1.001\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    arguments = [sys.executable, "tests/fuzz/fuzz.py", "--cases", "8"]
    for _ in range(2):
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 1
        line, *_, total = done.stdout.splitlines()
        assert line.startswith("python tests/fuzz/fuzz.py --seed 0 --first ")
        assert "wrong" in total
        arguments = [sys.executable, *line.split("  # ")[0].split()[1:]]
    assert total.startswith("1 cases of seed 0: 1 wrong")


def descendants(pid):
    """The ids of all descendants of a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*children, *(below for child in children for below in descendants(child))]


def test_ctrl_c_reports_the_cases_done_so_far():
    default_signal = ["env", "--default-signal=INT"]  # a background job of a shell ignores it
    arguments = [
        *default_signal,
        sys.executable,
        "tests/fuzz/fuzz.py",
        "--cases",
        "100000",
        "--seed",
        "6",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    try:
        while len(descendants(process.pid)) < 3:  # resource tracker, fork server, its child
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(2)
        os.killpg(process.pid, signal.SIGINT)  # like a terminal: also to the children
        output, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and "Traceback" not in errors
    assert re.fullmatch(r"\d+ cases of seed 6: 0 wrong, 0 min \d+ s, stopped of 100000\n", output)

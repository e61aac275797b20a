"""`sparsetrain doctor`: its report of a working installation and of broken ones."""

import os

import pytest
import torch
from click.testing import CliRunner
from helpers.instruction_sets import instruction_set

import sparsetrain
from sparsetrain import ops
from sparsetrain.__main__ import main
from sparsetrain.commands import doctor


def run():
    return CliRunner().invoke(main, ["doctor"])


def test_a_working_installation_passes_every_check():
    result = run()
    assert result.exit_code == 0, result.output
    assert "FAILED" not in result.output
    assert result.output.count("correct") == len(doctor.all_checks())
    assert sparsetrain.__version__ in result.output and torch.__version__ in result.output


def test_every_operator_is_checked_in_every_data_type_that_it_takes():
    names = doctor.all_checks()
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        assert {f"conv2d, {dtype}, cpu", f"prune, {dtype}, cpu"} <= names.keys()
    assert {"PruneGrad, cpu", "count_nonzeros, cpu"} <= names.keys()


@pytest.mark.parametrize(
    ("operator", "broken", "message"),
    [
        (
            "conv2d",
            lambda x, w, b, *, backend, **geometry: (
                1.01 * torch.nn.functional.conv2d(x, w, b, **geometry)
            ),
            "wrong: conv2d, float32, cpu: y of 3x3: ",
        ),
        (
            "prune",
            lambda grad, threshold, seed: grad.clone(),
            "elements differ from plain PyTorch's",
        ),
        ("count_nonzeros", lambda *_: None, "expected counts [1, 3, 2], got [0.0, 0.0, 0.0]"),
    ],
)
def test_a_wrong_operator_is_named_with_what_to_do(monkeypatch, operator, broken, message):
    monkeypatch.setattr(ops, operator, broken)
    result = run()
    assert result.exit_code == 1
    assert f"wrong: {operator}" in result.stderr and message in result.stderr
    assert "Build again" in result.stderr
    assert "FAILED" in result.stdout


def test_an_operator_that_raises_is_reported_in_one_line(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(ops, "prune", broken)
    result = run()
    assert result.exit_code == 1
    assert "wrong: prune, float32, cpu: RuntimeError: no such operator. Build" in result.stderr


def test_a_forced_instruction_set_is_reported_beside_the_best_one(monkeypatch):
    monkeypatch.setenv("SPARSETRAIN_ISA", "scalar")
    with instruction_set("scalar"):  # as if the variable had been set before the start
        reported = doctor.facts()["instruction set"]
    assert reported.startswith("scalar, set by SPARSETRAIN_ISA; the best")
    assert os.environ["SPARSETRAIN_ISA"] == "scalar"


def test_a_missing_compiler_is_reported(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert doctor.facts()["compiler"].startswith("none found")


@pytest.mark.parametrize(
    ("built", "version", "reported"),
    [
        (True, "13.2", "built"),
        (False, None, "not built: torch was built without CUDA"),
        (False, "13.2", "not built: no CUDA 13 toolkit was found. Install it, set CUDA_HOME and"),
    ],
)
def test_cuda_is_built_or_the_reason_is_reported(monkeypatch, built, version, reported):
    monkeypatch.setattr(doctor, "cuda_built", lambda: built)
    monkeypatch.setattr(torch.version, "cuda", version)
    assert doctor.facts()["CUDA in SparseTrain"].startswith(reported)

"""`python -m sparsetrain doctor`: what it says of a healthy installation and of broken ones."""

import pytest
import torch
from click.testing import CliRunner

from sparsetrain import ops
from sparsetrain.__main__ import main
from sparsetrain.commands import doctor


def run():
    return CliRunner().invoke(main, ["doctor"])


def test_a_healthy_installation_passes():
    result = run()
    assert result.exit_code == 0, result.output
    assert f"all {len(doctor.TESTS)} tests of the operators passed" in result.output
    assert torch.__version__ in result.output


@pytest.mark.parametrize(
    ("name", "broken", "found"),
    [
        ("conv2d", lambda x, w, **_: torch.nn.functional.conv2d(x, w, padding=1) * 1.01, "conv2d"),
        ("prune", lambda grad, threshold, seed: grad.clone(), "prune float32"),
        ("count_nonzeros", lambda *_: None, "count_nonzeros"),
    ],
)
def test_a_wrong_operator_is_named_with_what_to_do(monkeypatch, name, broken, found):
    monkeypatch.setattr(ops, name, broken)
    result = run()
    assert result.exit_code == 1
    assert f"wrong: {found}" in result.stderr
    assert "expected the result of plain PyTorch, got another. Build again" in result.stderr


def test_an_operator_that_raises_is_told_in_one_line(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(ops, "prune", broken)
    result = run()
    assert result.exit_code == 1
    assert "wrong: prune float32: RuntimeError: no such operator. Build again" in result.stderr


def test_a_forced_instruction_set_is_told(monkeypatch):
    monkeypatch.setenv("SPARSETRAIN_ISA", "scalar")
    told = doctor.facts()["instruction set"]
    assert told.startswith("scalar used, as SPARSETRAIN_ISA says; ") and told.endswith(" found")
    assert doctor.os.environ["SPARSETRAIN_ISA"] == "scalar"


def test_a_missing_compiler_is_told(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert doctor.facts()["compiler"].startswith("none found")


@pytest.mark.parametrize(
    ("built", "version", "told"),
    [
        (True, "13.2", "built"),
        (False, None, "not built: torch was built without CUDA"),
        (False, "13.2", "not built: no CUDA 13 toolkit was found. Install it, set CUDA_HOME and"),
    ],
)
def test_cuda_is_built_or_the_reason_is_told(monkeypatch, built, version, told):
    monkeypatch.setattr(doctor, "cuda_built", lambda: built)
    monkeypatch.setattr(torch.version, "cuda", version)
    assert doctor.facts()["CUDA in sparsetrain"].startswith(told)

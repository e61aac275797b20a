"""README.md: it is short, its Python blocks run in their order, and its commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from helpers import small_data
from helpers.paths import ROOT

from sparsetrain.__main__ import main
from sparsetrain.experiments import datasets

README = ROOT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_python_blocks_run(capsys):
    assert len(BLOCKS) == 2
    names = {}
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), names)
    printed = capsys.readouterr().out
    assert "next is BatchNorm2d" in printed
    assert "dense" in printed


def test_commands_run(tmp_path, monkeypatch):
    """Runs them on a few of the shipped images.

    pip is not run. make only shows what it would do, because `make test` runs this test.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "SHIPPED", small_data.write(tmp_path / "data", train=64))
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    assert ["pip", "install", "--no-build-isolation", "."] in commands
    commands = [command for command in commands if command[0] != "pip"]
    assert [command[:2] for command in commands if command[0] != "make"] == [
        ["sparsetrain", "sweep"],
        ["sparsetrain", "report"],
    ]
    for program, *arguments in commands:
        if program == "make":
            asked = ["make", "--dry-run", "--directory", str(README.parent), *arguments]
            subprocess.run(asked, check=True, capture_output=True)
            continue
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
    assert Path("report.html").exists()


def test_headline_table_is_between_its_marks():
    """benchmarks/results.py writes it there."""
    _, _, rest = README.read_text().partition("<!-- headline -->\n")
    table, mark, _ = rest.partition("<!-- end of headline -->")
    assert mark and table.startswith("|")


def test_its_python_has_types(tmp_path):
    """mypy --strict finds nothing except what PyTorch and torchvision leave without types."""
    script = tmp_path / "script.py"
    script.write_text("\n".join(BLOCKS))
    options = ["--strict", "--no-error-summary", "--config-file=", f"--cache-dir={tmp_path}"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(README.parent)},
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    accepted = ('"torchvision.models"', 'untyped function "backward"')
    errors = [line for line in result.stdout.splitlines() if ": error:" in line]
    assert [line for line in errors if not any(each in line for each in accepted)] == []

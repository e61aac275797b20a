"""The README's Python runs as it stands, one block after the other; so do its commands."""

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


def test_python_blocks_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    printed = capsys.readouterr().out
    assert "next is BatchNorm2d" in printed
    assert "dense" in printed


def test_commands_run(tmp_path, monkeypatch):
    """On a handful of the shipped images; make is only asked what it would do: test this."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "SHIPPED", small_data.write(tmp_path / "data", train=64))
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
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


def test_shells_are_taught_as_it_says():
    found = re.search(r'eval "\$\((\w+)=(\w+) (\w+)\)"', README.read_text())
    assert found is not None and found[3] == "sparsetrain"
    program = "from sparsetrain.__main__ import main; main(prog_name='sparsetrain')"
    script = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, found[1]: found[2]},
        check=True,
    ).stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "complete -o nosort -F _sparsetrain_completion sparsetrain" in script


def test_the_readmes_python_is_typed(tmp_path):
    """Under mypy --strict nothing is found but what torch and torchvision leave untyped."""
    script = tmp_path / "script.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)))
    options = ["--strict", "--no-error-summary", "--config-file=", f"--cache-dir={tmp_path}"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(README.parent)},
        check=False,
    )
    assert result.returncode in (0, 1), result.stderr
    theirs = ('"torchvision.models"', 'untyped function "backward"')
    errors = [line for line in result.stdout.splitlines() if ": error:" in line]
    assert [line for line in errors if not any(each in line for each in theirs)] == []

"""The README's Python runs as it stands, one block after the other."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    printed = capsys.readouterr().out
    assert "next is BatchNorm2d" in printed
    assert "dense" in printed


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

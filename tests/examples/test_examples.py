"""The scripts in examples/: each runs, uses public names only and stays short."""

import ast
import re
import subprocess
import sys

import pytest
from helpers import small_data
from helpers.paths import EXAMPLES

SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return small_data.write(tmp_path_factory.mktemp("data"))


def run(name, *options):
    """What the script prints."""
    command = [sys.executable, EXAMPLES / name, *options]
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_replaced_layers_prune_the_gradients_of_a_plain_script(images):
    printed = run("replace_layers.py", "--epochs", 3, "--data-dir", images)
    assert printed.count("test accuracy") == 3
    densities = [float(text) for text in re.findall(r"pruned gradient ([\d.]+)", printed)]
    assert len(densities) == 2 and max(densities) < 0.5  # the first layer prunes nothing


def test_dense_and_pruned_runs_are_compared_seed_by_seed(images):
    printed = run("compare_seeds.py", "--seeds", 2, "--epochs", 1, "--data-dir", images)
    for rule in ("dense", "rate0.9"):
        for seed in (0, 1):
            assert f"{rule}, seed {seed}, epoch 1: test accuracy" in printed
    assert re.search(r"2 seeds: [+-]\d+\.\d\d percentage points", printed)


def test_the_chip_s_cost_is_reported_for_every_nth_step(images):
    printed = run("chip_cost.py", "--every", 5, "--steps", 11, "--data-dir", images)
    assert re.findall(r"^step (\d+):", printed, re.MULTILINE) == ["0", "5", "10"]
    speedup = re.search(r"speedup over the dense twin: ([\d.]+)x", printed)
    assert speedup is not None and float(speedup[1]) > 1


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_examples_are_short_and_use_public_names_only(path):
    text = path.read_text()
    assert len(text.splitlines()) < 60
    for node in ast.walk(ast.parse(text)):
        names = [each.name for each in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [node.attr] if isinstance(node, ast.Attribute) else []
        assert not any(name.startswith("_") for name in names)
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None and "._" not in node.module

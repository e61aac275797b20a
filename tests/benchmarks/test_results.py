"""benchmarks/results.py: the tables in README and docs are those of the committed results."""

import importlib
import json

import pytest
from helpers import browser
from helpers.paths import ROOT
from PIL import Image

from sparsetrain.experiments import sweep
from sparsetrain.experiments.results import KEYS


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("results")


def test_tables_in_the_documentation_are_those_of_the_committed_results(results):
    for name, parts in results.tables().items():
        text = (ROOT / name).read_text()
        for mark, content in parts.items():
            assert results.between_marks(text, mark, content) == text, f"{mark} of {name}"


def test_each_committed_run_is_one_of_its_sweeps(results):
    """No run is there twice, and each run reached its last epoch or names its failure."""
    assert results.committed()
    for name in results.SWEEPS:
        planned = sweep.plan(sweep.read_toml(ROOT / "benchmarks" / "sweeps" / f"{name}.toml")).runs
        path = results.RESULTS / f"{name}.jsonl"
        found = results.read_results(path) if path.exists() else []
        settings = [results.settings_of(run) for run in found]
        assert set(settings) <= set(planned) and len(set(settings)) == len(settings)
        for run in found:
            assert run["config"]["train_images"] == 60_000 and f"{name}.toml" in run["command"]
            assert run["failure"] or len(run["epochs"]) == run["config"]["epochs"]


def test_an_unfinished_line_is_not_copied(results, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (tmp_path / "one").mkdir()
    line = json.dumps({"run": "a", **dict.fromkeys(sorted(KEYS))}) + "\n"
    (tmp_path / "one" / "results.jsonl").write_text(line + '{"run": "b", "con')
    results.copy_results(tmp_path / "one")
    assert (tmp_path / "one.jsonl").read_text() == line


def test_the_headline_has_the_longest_runs_with_their_processors(results):
    _, _, *rows = results.headline_table(results.committed()).splitlines()
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| `plain` (conv-ReLU), rate 0.9", "AMD Zen 4, 1 thread"],
        ["| `plain` (conv-ReLU), rate 0.99", "AMD Zen 4, 1 thread"],
        ["| `plain` (conv-ReLU), density 0.2", "AMD Zen 4, 1 thread"],
        ["| ResNet-20, rate 0.9", "Intel Emerald Rapids, 1 thread"],
    ]


def test_text_between_marks_is_replaced_and_missing_marks_are_refused(results):
    text = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n"
    new = results.between_marks(text, "x", "new\nlines")
    assert new == "a\n<!-- x -->\nnew\nlines\n<!-- end of x -->\nb\n"
    assert results.between_marks(new, "x", "old") == text
    with pytest.raises(ValueError, match="expected the marks of y, got none"):
        results.between_marks(text, "y", "")


@pytest.mark.parametrize("width", [390, 1400])
def test_a_picture_ends_a_margin_below_the_page(results, tmp_path, width):
    if browser.CHROMIUM is None:
        pytest.skip("no chromium: apt install chromium")
    page = tmp_path / "page.html"
    page.write_text('<body style="margin:0"><div style="height:2345px;background:#123456">')
    results.picture(page, tmp_path / "page.png", width, dark=False)
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (width, 2345 + results.MARGIN)
        assert image.convert("RGB").getpixel((width - 1, 2344)) == (0x12, 0x34, 0x56)

"""What README and docs show of the sweeps is what benchmarks/results.py makes of the results."""

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


def test_tables_are_those_of_the_committed_results(results):
    for name, parts in results.tables().items():
        text = (ROOT / name).read_text()
        for mark, content in parts.items():
            assert results.between_marks(text, mark, content) == text, f"{mark} of {name}"


def test_each_committed_run_is_one_of_its_sweeps(results):
    """And each is there once; rule by rule the lines are whole, or say why they are not."""
    assert results.committed()
    for name in results.SWEEPS:
        planned = sweep.plan(sweep.read_toml(ROOT / "benchmarks" / "sweeps" / f"{name}.toml")).runs
        path = results.RESULTS / f"{name}.jsonl"
        found = results.read_results(path) if path.exists() else []
        settings = [results.settings_of(one) for one in found]
        assert set(settings) <= set(planned) and len(set(settings)) == len(settings)
        for one in found:
            assert one["config"]["train_images"] == 60_000 and f"{name}.toml" in one["command"]
            assert one["failure"] or len(one["epochs"]) == one["config"]["epochs"]


def test_half_a_line_is_not_taken_over(results, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (tmp_path / "one").mkdir()
    line = json.dumps({"run": "a", **dict.fromkeys(sorted(KEYS))}) + "\n"
    (tmp_path / "one" / "results.jsonl").write_text(line + '{"run": "b", "con')
    results.take_over(tmp_path / "one")
    assert (tmp_path / "one.jsonl").read_text() == line


def test_marks_are_kept_and_missed(results):
    text = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n"
    new = results.between_marks(text, "x", "new\nlines")
    assert new == "a\n<!-- x -->\nnew\nlines\n<!-- end of x -->\nb\n"
    assert results.between_marks(new, "x", "old") == text
    with pytest.raises(ValueError, match="expected the marks of y, got none"):
        results.between_marks(text, "y", "")


@pytest.mark.parametrize("width", [390, 1400])
def test_a_picture_is_the_whole_page_and_no_more(results, tmp_path, width):
    if browser.CHROMIUM is None:
        pytest.skip("no chromium: apt install chromium")
    page = tmp_path / "page.html"
    page.write_text('<body style="margin:0"><div style="height:2345px;background:#123456">')
    results.picture(page, tmp_path / "page.png", width, dark=False)
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (width, 2345 + results.MARGIN)
        assert image.convert("RGB").getpixel((width - 1, 2344)) == (0x12, 0x34, 0x56)

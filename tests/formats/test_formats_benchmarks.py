"""docs/formats.md against what the benchmarks write, each run on its smallest work."""

import importlib
import json

import pytest
from click.testing import CliRunner
from helpers import small_data
from helpers.paths import BENCHMARKS
from test_formats import assert_documented

FOLDER = BENCHMARKS
TIMINGS = "## Timings: `conv.py`, `prune.py` and `train_step.py` in `benchmarks`, `--json FILE`"
PAPER = "## Assumptions about the chip: `benchmarks/paper.py --json FILE`"
ERROR = "## Error of the closed form: `benchmarks/model_error.py --json FILE`"
METHOD = "## What pruning does to training: `benchmarks/variance.py --json FILE`"
VARIANCE = ("noise", "thresholds", "forms")
SAMPLING = "## Accuracy with sampled pixels: `benchmarks/sampling.py LOG`"
MEMORY = "## Memory of a step: `benchmarks/memory.py --json FILE`"
GAINS = "## Cost of a step: `python -m sparsetrain estimate MODEL --json FILE --csv FILE`"


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a benchmark by name, as a script would, beside its neighbours."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def written(module, tmp_path, *options):
    path = tmp_path / "result.json"
    result = CliRunner().invoke(module.main, [*map(str, options), "--json", str(path)])
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text())


def assert_timings(content, script, *parts):
    assert list(content) == ["machine", "rows", *parts]
    assert_documented(content["machine"], TIMINGS, "### `machine`")
    assert content["rows"]
    for row in content["rows"]:
        assert_documented(row, TIMINGS, f"### `rows` of `{script}`")
    for part in parts:
        assert_documented(content[part], TIMINGS, f"### `{part}` of `{script}`")


def test_conv_is_as_documented(benchmark, monkeypatch, tmp_path):
    conv = benchmark("conv")
    small = [conv.Layer(name, name, 1, 8, 8, 8, 3, 1, 1) for name in ("3x3", "other")]
    monkeypatch.setattr(conv, "LAYERS", small)
    content = written(conv, tmp_path, "--threads", 1)
    assert_timings(content, "conv.py", "summary")
    assert {row["sparse_ms"] is None for row in content["rows"]} == {True, False}
    assert content["summary"]["backward_3x3"].keys() == {"0.3", "0.2", "0.1", "0.05"}
    assert set(content["summary"]["backward_1x1"].values()) == {None}
    for row in content["rows"]:
        assert row["auto_speedup"] == pytest.approx(row["dense_ms"] / row["auto_ms"])


def test_prune_is_as_documented(benchmark, monkeypatch, tmp_path):
    prune = benchmark("prune")
    monkeypatch.setattr(prune, "ELEMENTS", (1 << 10,))
    content = written(prune, tmp_path, "--threads", 1, "--repeats", 7)
    assert_timings(content, "prune.py", "summary")
    assert list(content["summary"]) == ["float32", "bfloat16", "float16"]
    for row in content["rows"]:
        assert row["share"] == pytest.approx(row["clone_ms"] / row["prune_ms"])
        moved = 2 * row["elements"] * (4 if row["dtype"] == "float32" else 2)
        assert row["clone_gb_per_s"] == pytest.approx(moved / row["clone_ms"] / 1e6)


def test_train_step_is_as_documented(benchmark, monkeypatch, tmp_path):
    train_step = benchmark("train_step")
    monkeypatch.setattr(train_step, "JOBS", (train_step.Job("plain", 32, 2, (0.9, 0.0)),))
    data = small_data.write(tmp_path / "data", train=16)
    content = written(train_step, tmp_path, "--threads", 1, "--steps", 1, "--data-dir", data)
    assert_timings(content, "train_step.py")


def test_memory_is_as_documented(benchmark, tmp_path):
    content = written(benchmark("memory"), tmp_path, "--model", "resnet8")
    assert list(content) == ["machine", "rows"]
    assert_documented(content["machine"], TIMINGS, "### `machine`")
    for row in content["rows"]:
        assert_documented(row, MEMORY, "### `rows` of `memory.py`")


def test_variance_is_as_documented(benchmark, monkeypatch, tmp_path):
    variance = benchmark("variance")
    monkeypatch.setattr(variance, "MODELS", ("plain", "resnet8"))
    monkeypatch.setattr(variance, "BATCH", 8)
    monkeypatch.setattr(variance, "RULES", ({"rate": 0.9}, {"density": 0.3}))
    data = small_data.write(tmp_path / "data", train=64)
    options = ["--steps", 40, "--draws", 2, "--data-dir", data, "--plot", tmp_path / "a.png"]
    content = written(variance, tmp_path, *options)
    assert list(content) == ["machine", *VARIANCE]
    for part in VARIANCE:
        assert content[part]
        for row in content[part]:
            assert_documented(row, METHOD, f"### `{part}`")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_sampling_is_as_documented_and_goes_on_where_it_stopped(benchmark, monkeypatch, tmp_path):
    sampling, variance = benchmark("sampling"), benchmark("variance")
    monkeypatch.setattr(sampling, "STEPS", 2)
    monkeypatch.setattr(sampling, "DRAWS", 2)
    monkeypatch.setattr(variance, "BATCH", 4)
    log, data = tmp_path / "log.jsonl", small_data.write(tmp_path / "data", train=128)
    options = [log, "--data-dir", data, "--images", 128, "--epochs", 1, "--variant", "weight .16"]

    def lines(*more):
        result = CliRunner().invoke(sampling.main, [*map(str, options), *map(str, more)])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in log.read_text().splitlines()]

    found = lines("--seeds", 1)
    assert [line["variant"] for line in found] == ["weight .16", "dense", "weight .16"]
    assert_documented(found[0], SAMPLING, "### noise")
    assert all(ratio > 0 for ratio in found[0]["noise"])
    for run in found[1:]:
        assert_documented(run, SAMPLING, "### runs")
    more = lines("--seeds", 2, "--variant", "rate .9")
    assert more[:3] == found
    assert [(line.get("seed"), line["variant"]) for line in more[3:]] == [
        (None, "rate .9"),
        (0, "rate .9"),
        (1, "dense"),
        (1, "rate .9"),
        (1, "weight .16"),
    ]


def test_paper_is_as_documented(benchmark, monkeypatch, tmp_path):
    pytest.importorskip("torchvision")
    paper = benchmark("paper")
    monkeypatch.setattr(paper, "NETWORKS", ("alexnet",))
    content = written(paper, tmp_path)
    assert list(content) == ["networks", "assumptions"]
    assert list(content["networks"]) == ["alexnet CIFAR", "alexnet ImageNet"]
    for network in content["networks"].values():
        assert_documented(network, PAPER, "### `networks`")
        for gain in network["gains"]:
            assert_documented(gain, GAINS, "### `gains`")
    assert content["assumptions"]["default"]
    row = {"speedup": 2.65, "a energy_gain": 2.24, "a energy_gain_chip": 3.1}
    said = paper.findings({"one": row, "two": {**row, "speedup": 4.04}})
    assert "2.7x: one (2.65)." in said and "2.2x: one, a energy_gain (2.24)." in said
    assert "2.6x to 4.0x speed, 2.2x to 3.1x energy" in said
    for assumption in content["assumptions"].values():
        assert_documented(assumption, PAPER, "### `assumptions`")


def test_model_error_is_as_documented(benchmark, tmp_path):
    options = ("--model", "plain", "--steps", 20, "--batch-size", 2)
    content = written(benchmark("model_error"), tmp_path, *options)
    assert_documented(content, ERROR)
    assert list(content["recorded"]) == ["step 20, pruned at 0.9", "step 20, pruned at 0.0"]
    for recorded in content["recorded"].values():
        assert_documented(recorded, ERROR, "### `recorded`")
        for given in ("maps", "densities"):
            assert_documented(recorded[given], ERROR, "### `maps` and `densities`")

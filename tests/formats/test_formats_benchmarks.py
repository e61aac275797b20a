"""Benchmarks write files that the models of their formats accept; each runs on its least work."""

import importlib
import json

import pytest
from click.testing import CliRunner
from helpers import small_data
from helpers.formats import read_valid_json, validated
from helpers.paths import BENCHMARKS

from sparsetrain.experiments.formats import (
    ConvBenchmark,
    MemoryBenchmark,
    ModelErrorBenchmark,
    PaperBenchmark,
    PruneBenchmark,
    SamplingNoise,
    SamplingRun,
    TrainStepBenchmark,
    VarianceBenchmark,
)


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a benchmark by name, as a script would, beside its neighbors."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def written(module, model, tmp_path, *options):
    """The valid content that a benchmark writes."""
    path = tmp_path / "result.json"
    result = CliRunner().invoke(module.main, [*map(str, options), "--json", str(path)])
    assert result.exit_code == 0, result.output
    return read_valid_json(model, path)


def test_files_of_conv_are_valid(benchmark, monkeypatch, tmp_path):
    conv = benchmark("conv")
    small = [conv.Layer(name, name, 1, 8, 8, 8, 3, 1, 1) for name in ("3x3", "other")]
    monkeypatch.setattr(conv, "LAYERS", small)
    content = written(conv, ConvBenchmark, tmp_path, "--threads", 1)
    assert {row["sparse_ms"] is None for row in content["rows"]} == {True, False}
    assert content["summary"]["backward_3x3"].keys() == {"0.3", "0.2", "0.1", "0.05"}
    assert set(content["summary"]["backward_1x1"].values()) == {None}
    for row in content["rows"]:
        assert row["auto_speedup"] == pytest.approx(row["dense_ms"] / row["auto_ms"])


def test_files_of_prune_are_valid(benchmark, monkeypatch, tmp_path):
    prune = benchmark("prune")
    monkeypatch.setattr(prune, "ELEMENTS", (1 << 10,))
    content = written(prune, PruneBenchmark, tmp_path, "--threads", 1, "--repeats", 7)
    assert list(content["summary"]) == ["float32", "bfloat16", "float16"]
    for row in content["rows"]:
        assert row["share"] == pytest.approx(row["clone_ms"] / row["prune_ms"])
        moved = 2 * row["elements"] * (4 if row["dtype"] == "float32" else 2)
        assert row["clone_gb_per_s"] == pytest.approx(moved / row["clone_ms"] / 1e6)


def test_files_of_train_step_are_valid(benchmark, monkeypatch, tmp_path):
    train_step = benchmark("train_step")
    monkeypatch.setattr(train_step, "JOBS", (train_step.Job("plain", 32, 2, (0.9, 0.0)),))
    data = small_data.write(tmp_path / "data", train=16)
    options = ["--threads", 1, "--steps", 1, "--data-dir", data]
    content = written(train_step, TrainStepBenchmark, tmp_path, *options)
    assert [row["rate"] for row in content["rows"]] == [0.9, 0.0]


def test_files_of_memory_are_valid(benchmark, tmp_path):
    content = written(benchmark("memory"), MemoryBenchmark, tmp_path, "--model", "resnet8")
    (row,) = content["rows"]
    assert row["extra_mib"] == pytest.approx(row["converted_mib"] - row["dense_mib"])
    assert row["extra_mib"] <= row["bound_mib"]


def test_files_of_variance_are_valid(benchmark, monkeypatch, tmp_path):
    variance = benchmark("variance")
    monkeypatch.setattr(variance, "MODELS", ("plain", "resnet8"))
    monkeypatch.setattr(variance, "BATCH", 8)
    monkeypatch.setattr(variance, "RULES", ({"rate": 0.9}, {"density": 0.3}))
    data = small_data.write(tmp_path / "data", train=64)
    options = ["--steps", 40, "--draws", 2, "--data-dir", data, "--plot", tmp_path / "a.png"]
    content = written(variance, VarianceBenchmark, tmp_path, *options)
    assert all(content[part] for part in ("noise", "thresholds", "forms"))
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_lines_of_sampling_are_valid_and_no_run_is_repeated(benchmark, monkeypatch, tmp_path):
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
    validated(SamplingNoise, found[0])
    assert all(ratio > 0 for ratio in found[0]["noise"])
    for run in found[1:]:
        validated(SamplingRun, run)
    more = lines("--seeds", 2, "--variant", "rate .9")
    assert more[:3] == found
    assert [(line.get("seed"), line["variant"]) for line in more[3:]] == [
        (None, "rate .9"),
        (0, "rate .9"),
        (1, "dense"),
        (1, "rate .9"),
        (1, "weight .16"),
    ]


def test_files_of_paper_are_valid(benchmark, monkeypatch, tmp_path):
    pytest.importorskip("torchvision")
    paper = benchmark("paper")
    monkeypatch.setattr(paper, "NETWORKS", ("alexnet",))
    content = written(paper, PaperBenchmark, tmp_path)
    assert list(content["networks"]) == ["alexnet CIFAR", "alexnet ImageNet"]
    assert content["assumptions"]["default"]
    row = {"speedup": 2.65, "a energy_gain": 2.24, "a energy_gain_chip": 3.1}
    said = paper.findings({"one": row, "two": {**row, "speedup": 4.04}})
    assert "2.7x: one (2.65)." in said and "2.2x: one, a energy_gain (2.24)." in said
    assert "2.6x to 4.0x speed, 2.2x to 3.1x energy" in said


def test_files_of_model_error_are_valid(benchmark, tmp_path):
    options = ("--model", "plain", "--steps", 20, "--batch-size", 2)
    content = written(benchmark("model_error"), ModelErrorBenchmark, tmp_path, *options)
    assert list(content["recorded"]) == ["step 20, pruned at 0.9", "step 20, pruned at 0.0"]


def test_the_committed_file_of_variance_is_valid():
    """It was written by an earlier version, of which its field `machine` is."""
    read_valid_json(VarianceBenchmark, BENCHMARKS / "results" / "variance.json")


def test_lines_of_the_committed_log_of_sampling_are_valid(benchmark):
    for line in benchmark("sampling").read(BENCHMARKS / "results" / "sampling.jsonl"):
        validated(SamplingNoise if "noise" in line else SamplingRun, line)

"""Files of results: what each kind gives, also from earlier versions, and what is refused."""

import json

import pytest
import torch
from helpers import small_data
from helpers.paths import BENCHMARKS
from helpers.runs import TINY, exhaust

from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.older_files import with_current_names
from sparsetrain.experiments.results import KEYS, read_results, run_results
from sparsetrain.experiments.training import Trainer

OLDER_NAMES = {
    "density_log": "history",
    "reason": "rule",
    "grad_density_unpruned": "grad_density_before",
    "normalize": "normalise",
}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory) -> Trainer:
    """A run in its second epoch."""
    trainer = Trainer(TINY, datasets.load(data_dir=small_data.write(tmp_path_factory.mktemp("d"))))
    exhaust(zip(range(12), trainer.run(), strict=False))
    return trainer


@pytest.fixture(scope="module")
def results(trainer):
    """Results as JSON gives them back; `parts` stands for those of a finished run."""
    parts = {"sparse": 1.0, "normalize": 2.0}
    return json.loads(json.dumps({"run": "a", **run_results(trainer), "parts": parts}))


def older(content):
    """`content` with the names of fields that earlier versions wrote."""
    if isinstance(content, dict):
        return {OLDER_NAMES.get(key, key): older(value) for key, value in content.items()}
    return [older(value) for value in content] if isinstance(content, list) else content


def test_older_names_differ_from_current_ones(results):
    text = json.dumps(older(results))
    assert all(f'"{name}"' in text for name in OLDER_NAMES.values())
    assert not any(f'"{name}"' in text for name in OLDER_NAMES)


@pytest.mark.parametrize("change", [lambda content: content, older], ids=["current", "older"])
def test_a_file_of_one_run_is_read_with_current_names(tmp_path, results, change):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(change(results), indent=2))
    assert read_results(path) == [results]
    assert list(read_results(path)[0]) == list(results)


@pytest.mark.parametrize("change", [lambda content: content, older], ids=["current", "older"])
def test_a_sweep_is_read_with_current_names(tmp_path, results, change):
    lines = [json.dumps(change({**results, "run": run})) for run in "ab"]
    (tmp_path / "results.jsonl").write_text("\n".join([*lines, '{"run": "c", "conf']))
    expected = [{**results, "run": run} for run in "ab"]
    assert read_results(tmp_path) == read_results(tmp_path / "results.jsonl") == expected


def test_a_checkpoint_of_version_3_is_continued(tmp_path, trainer):
    path = tmp_path / "run.pt"
    checkpoint.save(path, trainer)
    content = torch.load(path, weights_only=True)
    assert content["sparsetrain_checkpoint"] == checkpoint.VERSION
    version_3 = {
        {"epochs": "records", "density_log": "history"}.get(key, key): value
        for key, value in content.items()
    }
    version_3 |= {key: older(content[key]) for key in ("layers", "parts")}
    version_3 |= {"history": older(content["density_log"]), "records": older(content["epochs"])}
    torch.save({**version_3, "sparsetrain_checkpoint": 3}, path)
    resumed = checkpoint.restore(path, checkpoint.load(path), trainer.data)
    assert (resumed.epoch, resumed.step) == (trainer.epoch, trainer.step) == (1, 2)
    assert resumed.results() == trainer.results()


def test_committed_results_are_read_with_current_names():
    found = read_results(BENCHMARKS / "results" / "plain-short.jsonl")
    for result in found:
        assert result.keys() >= KEYS
        for layer in result["layers"]:
            assert "reason" in layer and "grad_density_unpruned" in layer


def test_content_of_other_types_is_left_to_the_caller():
    strange = {"layers": [3, None], "epochs": "none", "parts": 1}
    assert with_current_names(strange) == strange


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("results.jsonl", "not json\n", "a line of JSON for each run, got: Expecting value"),
        ("results.jsonl", "[1]\n", "the results of runs, got something else in line 1"),
        ("results.jsonl", '{"run": "a"}\n', "the results of runs, got something else in line 1"),
        ("run.json", "{", "JSON, got: Expecting property name"),
        ("run.json", "{}", "the results of a run, got something else"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_results(path)
    where = f"sparsetrain.experiments.results.read_results: expected {path} to be "
    assert str(error.value).startswith(where + message)


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.jsonl", tmp_path / "none.json"):
        with pytest.raises(FileNotFoundError, match="to be a results file, got none"):
            read_results(path)

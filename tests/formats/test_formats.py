"""docs/formats.md against the files that are really written: every field, no other, its type."""

import json
import re
from typing import Any

import pytest
import torch
from helpers import small_data
from helpers.paths import ROOT

from sparsetrain.experiments import checkpoint, datasets, sweep
from sparsetrain.experiments.files import write_json
from sparsetrain.experiments.settings import TYPES as SETTINGS
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer

DOCUMENT = ROOT / "docs" / "formats.md"
RUN = "## Results of a run: `sparsetrain train --json FILE`"
LISTS = ("epochs", "layers", "passes", "density_log")
TYPES: dict[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "tensor": lambda value: isinstance(value, torch.Tensor),
    "list of integers": lambda value: all(isinstance(item, int) for item in value),
    "list of numbers": lambda value: all(isinstance(item, int | float) for item in value),
    "list of objects": lambda value: all(isinstance(item, dict) for item in value),
}


def documented(*headings: str) -> dict[str, str]:
    """{field: type} of the table under the last of `headings`, looked for under those before it."""
    text = "\n" + DOCUMENT.read_text()
    for heading in headings:
        level = heading.index(" ")
        text = text.split(f"\n{heading}\n", 1)[1]
        text = re.split(rf"^#{{1,{level}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    section = re.split(r"^#", text, maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `([\w ]+)` \| ([\w ]+?) \|", section, re.MULTILINE))


def field_of(name: str, fields: dict[str, str]) -> str | None:
    """The documented field that `name` is; capitals in a field stand for anything."""
    if name in fields:
        return name
    patterns = {field: re.sub("[A-Z]+", ".+", field) for field in fields}
    return next((f for f in fields if f != patterns[f] and re.fullmatch(patterns[f], name)), None)


def assert_documented(content: dict[str, Any], *headings: str, ordered: bool = True) -> None:
    fields = documented(*headings)
    found = {name: field_of(name, fields) for name in content}
    order = list(dict.fromkeys(found.values()))
    assert order == list(fields) if ordered else set(order) == set(fields)
    for name, field in found.items():
        kinds = fields[field].split(" or ")
        assert any(TYPES[kind](content[name]) for kind in kinds), (name, kinds)


@pytest.fixture(
    scope="module",
    params=[{"rate": 0.9}, {"density": 0.2, "model": "plain"}, {"dense": True}],
    ids=["rate", "density", "dense"],
)
def trainer(request, tmp_path_factory) -> Trainer:
    """A finished run of one epoch of two steps."""
    data = datasets.load(data_dir=small_data.write(tmp_path_factory.mktemp("data"), train=32))
    settings = Settings(**{"epochs": 1, "batch_size": 16, "threads": 1, **request.param})
    trainer = Trainer(settings, data)
    for _ in trainer.run():
        pass
    return trainer


def test_results_are_as_documented(trainer, tmp_path):
    write_json(tmp_path / "run.json", trainer.results())
    results = json.loads((tmp_path / "run.json").read_text())
    assert list(results) == ["config", *LISTS, "parts"]
    assert_documented(results["config"], "### `config`")
    assert_documented(results["parts"], RUN, "### `parts`")
    for part in LISTS:
        assert results[part]
        for record in results[part]:
            assert_documented(record, RUN, f"### `{part}`")


def test_lines_of_a_sweep_are_as_documented(trainer, tmp_path):
    folder = sweep.Folder(tmp_path)
    for _ in sweep.work(folder, [trainer.settings], trainer.data):
        pass
    (result,) = folder.finished()
    assert_documented(result, "## Results of a sweep: `sparsetrain sweep FOLDER`")
    assert_documented(result["machine"], "### `machine`")


def test_values_have_their_units(trainer):
    results = trainer.results()
    for record in [*results["epochs"], *results["layers"]]:
        densities = [value for name, value in record.items() if "density" in name]
        assert all(value is None or 0 <= value <= 1 for value in densities)
        assert record["cycles"] > 0 and record["energy_pj"] > 0
    for total in ("cycles", "dense_cycles", "energy_pj", "dense_energy_pj"):
        parts = sum(layer[total] for layer in results["layers"])
        assert results["epochs"][0][total] == pytest.approx(parts)


def test_checkpoints_are_as_documented(trainer, tmp_path):
    checkpoint.save(tmp_path / "run.pt", trainer)
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    heading = "## Checkpoints of a run: `sparsetrain train --checkpoint FILE`"
    assert_documented(content, heading)
    for rank in content["ranks"]:
        assert_documented(rank, heading, "### `ranks`")
    assert list(content["settings"]) == list(documented("### `config`"))[: len(SETTINGS)]

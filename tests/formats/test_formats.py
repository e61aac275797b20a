"""docs/formats.md is what the models render, and runs write what the models accept."""

import re

import pytest
import torch
from helpers import small_data
from helpers.formats import field_names, read_valid_json, validated
from helpers.paths import ROOT
from pydantic import ValidationError

from sparsetrain.__main__ import main
from sparsetrain.experiments import checkpoint, datasets, sweep
from sparsetrain.experiments.files import write_json
from sparsetrain.experiments.formats import (
    Checkpoint,
    ChipFile,
    RunResults,
    SweepPlan,
    SweepResult,
    catalog,
    fields,
    page,
    runs,
)
from sparsetrain.experiments.results import read_results, run_results
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer


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


def test_the_page_is_what_the_models_render():
    """Run `python -m sparsetrain.experiments.formats > docs/formats.md` after a change."""
    rendered = page.render(catalog.FORMATS, catalog.old_names())
    assert (ROOT / "docs" / "formats.md").read_text() == rendered


def test_results_of_a_run_are_valid(trainer, tmp_path):
    write_json(tmp_path / "run.json", run_results(trainer))
    results = read_valid_json(RunResults, tmp_path / "run.json")
    assert list(results) == field_names(RunResults)
    assert all(results[name] for name in ("epochs", "layers", "passes", "density_log", "parts"))


def test_results_of_a_run_before_its_first_epoch_are_valid(trainer):
    fresh = Trainer(trainer.settings, trainer.data)
    assert validated(RunResults, run_results(fresh))["epochs"] == []


def test_lines_of_a_sweep_are_valid(trainer, tmp_path):
    folder = sweep.Folder(tmp_path)
    for _ in sweep.work(folder, [trainer.settings], trainer.data):
        pass
    (result,) = folder.finished()
    assert list(validated(SweepResult, result)) == field_names(SweepResult)


def test_costs_of_a_step_are_sums_over_the_layers(trainer):
    results = trainer.results()
    for total in ("cycles", "dense_cycles", "energy_pj", "dense_energy_pj"):
        parts = sum(layer[total] for layer in results["layers"])
        assert results["epochs"][0][total] == pytest.approx(parts)


def test_checkpoints_are_valid(trainer, tmp_path):
    checkpoint.save(tmp_path / "run.pt", trainer)
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    assert set(validated(Checkpoint, content)) == set(field_names(Checkpoint))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "sweeps").glob("*.toml")), ids=lambda path: path.stem
)
def test_committed_sweeps_and_their_results_are_valid(path):
    """Results of earlier versions lack the profile's `compress`."""
    validated(SweepPlan, sweep.read_toml(path))
    for result in read_results(ROOT / "benchmarks" / "results" / f"{path.stem}.jsonl"):
        validated(SweepResult, {**result, "parts": {}})


def test_unknown_missing_and_impossible_values_are_refused(trainer):
    content = run_results(trainer)
    config = content["config"]
    for wrong in (
        {**content, "other": 1},
        {name: content[name] for name in content if name != "passes"},
        {**content, "config": {**config, "rate": 1.0}},
        {**content, "config": {**config, "epochs": "1"}},
        {**content, "config": {**config, "epochs": True}},
        {**content, "config": {**config, "backend": "cusparse"}},
        {**content, "config": {**config, "learning_rate": float("inf")}},
    ):
        with pytest.raises(ValidationError):
            RunResults.model_validate(wrong)


def test_chip_files_may_leave_out_numbers_of_chips_and_no_price():
    prices = dict.fromkeys(("mac_pj", "register_pj", "buffer_read_pj", "buffer_write_pj"), 1.0)
    validated(ChipFile, {"chips": {"mine": {"pe_groups": 28}}})
    validated(ChipFile, {"prices": {"mine": {**prices, "dram_pj": 128}}})
    for wrong in ({"chips": {"mine": {"pe_group": 28}}}, {"prices": {"mine": prices}}):
        with pytest.raises(ValidationError):
            ChipFile.model_validate(wrong)


def test_fields_of_dataclasses_have_units_and_bounds():
    epoch = page.table(runs.EpochRecord)
    assert "| `step_seconds` | number | seconds | ≥ 0 | Mean wall-clock time" in epoch
    assert "| `test_accuracy` | number | | [0, 1] | Share of correctly" in epoch


def test_every_field_has_a_description():
    for each in catalog.FORMATS:
        for root in each.models:
            for model in page.reached(root):
                assert model.__doc__ and model.__doc__ != fields.Record.__doc__
                for name, info in model.model_fields.items():
                    assert info.description or name == "root", (model.__name__, name)


def test_every_option_that_writes_a_file_is_in_the_catalog():
    commands = " ".join(command for each in catalog.FORMATS for command in each.made_by)
    options = {
        f"sparsetrain {name} ": {flag for parameter in command.params for flag in parameter.opts}
        for name, command in main.commands.items()
    }
    for file in (ROOT / "benchmarks").glob("*.py"):
        options[f"benchmarks/{file.name} "] = set(re.findall(r'"(--\w+)"', file.read_text()))
    for program, flags in options.items():
        for flag in flags & {"--json", "--csv", "--checkpoint"}:
            assert re.search(rf"{re.escape(program)}[^`]*{flag}", commands), (program, flag)

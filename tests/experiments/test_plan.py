"""Sweeps without training: the runs that are planned, their names, and the folder's file."""

from dataclasses import replace

import pytest
from helpers import small_data

from sparsetrain.experiments import datasets, sweep
from sparsetrain.experiments.results import KEYS
from sparsetrain.experiments.settings import SHARED, Settings

TWO_RULES = {"models": ["resnet8", "plain"], "rules": ["dense", "rate 0.9"]}


def test_all_models_and_rules_run_with_one_seed_before_the_next():
    planned = sweep.plan({**TWO_RULES, "seeds": 2, "epochs": 3})
    assert [(run.seed, run.model, run.rule) for run in planned.runs] == [
        (seed, model, rule)
        for seed in (0, 1)
        for model in ("resnet8", "plain")
        for rule in ("dense", "rate0.9")
    ]
    assert {run.epochs for run in planned.runs} == {3}
    assert planned.data_dir is None


def test_equal_runs_are_planned_once():
    content = {"models": ["plain"] * 2, "rules": ["rate 0.9", "rate .9"], "seeds": [4]}
    assert sweep.plan(content).runs == (Settings(model="plain", rate=0.9, seed=4),)


def test_every_shared_setting_is_a_key():
    run = Settings(dense=True)
    content = {name: getattr(run, name) for name in SHARED}
    planned = sweep.plan({"models": ["resnet8"], "rules": ["dense"], **content})
    assert planned.runs == (run,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": "plain"}, "models to be a list of at least one str, got 'plain'"),
        ({"models": []}, "models to be a list of at least one str, got []"),
        ({"models": ["resnet8", "resnet9"]}, "name to be one of resnet8"),
        ({"seeds": [0.5]}, "seeds to be a list of at least one int, got [0.5]"),
        ({"seeds": 0}, "seeds to be a list of at least one int, got []"),
        ({"rules": ["0.9"]}, "a rule to be dense, rate R or density D, got '0.9'"),
        ({"rules": ["rate 1..2"]}, "a rule to be dense, rate R or density D, got 'rate 1..2'"),
        ({"rules": ["rate 1.5"]}, "rate to be in [0, 1), got 1.5"),
        ({"backend": "spares"}, "backend to be one of auto, sparse, dense, got 'spares'"),
        ({"data_dir": 3}, "data_dir to be of type str, got 3"),
    ],
    ids=str,
)
def test_an_impossible_plan_is_refused_before_any_run(change, message):
    with pytest.raises(ValueError) as error:
        sweep.plan({**TWO_RULES, **change})
    assert str(error.value).startswith("sparsetrain.experiments.") and message in str(error.value)


def test_names_differ_for_different_runs_and_data(tmp_path):
    data = datasets.load(data_dir=small_data.write(tmp_path / "a"))
    other_data = datasets.load(data_dir=small_data.write(tmp_path / "b", train=168))
    run = Settings(rate=0.9)
    runs = [run, replace(run, epochs=6), replace(run, seed=1), replace(run, rate=0.8)]
    names = {sweep.name(each, data) for each in runs} | {sweep.name(run, other_data)}
    assert len(names) == 5
    assert sweep.name(Settings(rate=0.9), data) in names


def test_an_incomplete_line_of_a_killed_process_is_replaced(tmp_path):
    folder = sweep.Folder(tmp_path)
    result = {"run": "a", **dict.fromkeys(sorted(KEYS))}
    folder.append(result)
    with folder.results.open("ab") as file:
        file.write(b'{"run": "b", "conf')
    assert folder.finished() == [result]
    folder.append({**result, "run": "c"})
    assert folder.names() == {"a", "c"}
    assert len(folder.results.read_text().splitlines()) == 2


def test_a_run_is_claimed_by_one_holder_and_until_it_is_finished(tmp_path):
    folder = sweep.Folder(tmp_path)
    with folder.claim("a") as first, sweep.Folder(tmp_path).claim("a") as second:
        assert first and not second
    with folder.claim("a") as is_mine:
        assert is_mine
    folder.append({"run": "a", **dict.fromkeys(sorted(KEYS))})
    with folder.claim("a") as is_mine:
        assert not is_mine

"""Settings: each is checked as it is declared, and they name what a run prunes."""

import math
from dataclasses import replace

import pytest

from sparsetrain.experiments.settings import METADATA, SHARED, TYPES, Settings

DENSE = Settings(dense=True)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epochs", 0, "epochs to be of type int, at least 1, got 0"),
        ("epochs", 1.5, "epochs to be of type int, at least 1, got 1.5"),
        ("epochs", True, "epochs to be of type int, at least 1, got True"),
        ("model", 8, "model to be of type str, got 8"),
        ("dense", 1, "dense to be of type bool, got 1"),
        ("learning_rate", 0, "learning_rate to be of type float, above 0 and at most 3e+38, got 0"),
        ("learning_rate", math.nan, "at most 3e+38, got nan"),
        ("seed", -1, "seed to be of type int, at least 0 and at most 9223372036854775807, got -1"),
        ("threads", 2000, "threads to be of type int, at least 1 and at most 1024, got 2000"),
        ("dataset", "mnist", "dataset to be one of fashion-mnist, cifar10, got 'mnist'"),
        ("backend", "cusparse", "backend to be one of auto, sparse, dense, got 'cusparse'"),
        ("rate", "0.9", "rate to be of type float or None, got '0.9'"),
        ("rate", 0.9, "exactly one of rate, density and dense, got rate 0.9"),
        ("dense", False, "exactly one of rate, density and dense, got rate None"),
    ],
)
def test_a_value_that_is_not_as_declared_is_refused(setting, value, message):
    with pytest.raises(ValueError) as error:
        replace(DENSE, **{setting: value})
    assert str(error.value).startswith("sparsetrain.experiments.settings.Settings: expected ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"rate": 1.0}, "expected rate to be in [0, 1), got 1.0"),
        ({"density": 0.0}, "expected density to be in (0, 1], got 0.0"),
        ({"density": 1e-320}, "expected density to be in (0, 1], got 1e-320"),
    ],
)
def test_an_impossible_rule_is_refused(rule, message):
    with pytest.raises(ValueError) as error:
        Settings(**rule)
    assert message in str(error.value)


def test_an_int_is_converted_where_a_float_is_declared():
    settings = Settings(rate=0, learning_rate=1)
    assert type(settings.rate) is float and type(settings.learning_rate) is float
    assert settings == Settings(rate=0.0, learning_rate=1.0)


@pytest.mark.parametrize(
    ("rule", "word"),
    [({"dense": True}, "dense"), ({"rate": 0.9}, "rate0.9"), ({"density": 0.2}, "density0.2")],
)
def test_the_rule_is_one_word(rule, word):
    assert Settings(**rule).rule == word


def test_every_setting_is_described():
    assert list(METADATA) == list(TYPES)
    for name, metadata in METADATA.items():
        assert metadata["help"].endswith("."), name


def test_runs_of_a_sweep_differ_in_model_rule_and_seed_only():
    assert set(TYPES) - set(SHARED) == {"model", "rate", "density", "dense", "seed"}

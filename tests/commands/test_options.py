"""Options of `train` and `sweep` follow from the declaration of the settings."""

import click
import pytest
from click.testing import CliRunner

from sparsetrain.__main__ import main
from sparsetrain.commands.options import setting_help, setting_options
from sparsetrain.experiments.settings import METADATA, SHARED, TYPES, Settings


def options(command):
    return {option.name: option for option in main.commands[command].params}


@pytest.mark.parametrize(("command", "settings"), [("train", tuple(TYPES)), ("sweep", SHARED)])
def test_every_setting_is_an_option_with_its_help(command, settings):
    found = options(command)
    for name in settings:
        assert found[name].opts == [f"--{name.replace('_', '-')}"]
        assert found[name].help == setting_help(name)
    assert "data_dir" in found


@pytest.mark.parametrize("name", TYPES)
def test_a_help_text_states_default_range_and_choices(name):
    text, default = setting_help(name), getattr(Settings, name)
    assert text.startswith(METADATA[name]["help"])
    has_default = default is not None and default is not False
    assert (f"default: {default}]" in text) == has_default
    choices = METADATA[name]["choices"]
    if choices:
        shown = CliRunner().invoke(main, ["train", "--help"], terminal_width=200).output
        assert f"[{'|'.join(choices)}]" in shown


def test_ranges_are_shown_unless_the_limit_is_huge():
    assert "at least 1 and at most 1024" in setting_help("threads")
    assert "at least 1;" in setting_help("epochs")
    assert "[default: 0]" in setting_help("seed")


def test_an_option_that_is_not_given_is_none():
    received = {}

    @click.command()
    @setting_options(*TYPES)
    def command(**values):
        received.update(values)

    CliRunner().invoke(command, [], catch_exceptions=False)
    assert received == dict.fromkeys([*TYPES, "data_dir"])
    arguments = ["--dense", "--epochs", "3", "--learning-rate", "1"]
    CliRunner().invoke(command, arguments, catch_exceptions=False)
    given = {name: value for name, value in received.items() if value is not None}
    assert given == {"dense": True, "epochs": 3, "learning_rate": 1.0}

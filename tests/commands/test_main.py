"""The command line: an example in every help text, completion, and logging."""

import logging
import os
import re
import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner
from helpers.nets import small_net
from helpers.paths import ROOT

from sparsetrain import convert
from sparsetrain.__main__ import main


def test_the_help_of_the_group_shows_an_example_that_parses():
    shown = CliRunner().invoke(main, ["--help"], terminal_width=200).output
    example = re.search(r"Example: (.*)", shown)
    assert example, shown
    for each in example[1].split(" && "):
        program, command, *arguments = shlex.split(each)
        assert program == "sparsetrain"
        main.commands[command].make_context(command, arguments)


@pytest.mark.parametrize("name", main.commands)
def test_every_help_shows_an_example_that_parses(name):
    shown = CliRunner().invoke(main, [name, "--help"], terminal_width=200).output
    example = re.search(r"Example: sparsetrain (.*)", shown)
    assert example, shown
    command, *arguments = shlex.split(example[1])
    assert command == name
    main.commands[name].make_context(name, arguments)  # raises for an unknown option


def test_every_file_of_commands_with_a_command_is_a_subcommand():
    """A command that nobody adds to the group would be missed by every other test here."""
    for path in sorted((ROOT / "sparsetrain" / "commands").glob("*.py")):
        if "@click.command(" in path.read_text():
            assert path.stem in main.commands


def test_shells_complete_subcommands():
    environment = {**os.environ, "_SPARSETRAIN_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    environment["COMP_WORDS"] = "sparsetrain s"
    program = "import sys; sys.argv = ['sparsetrain']; from sparsetrain.__main__ import main; "
    done = subprocess.run(
        [sys.executable, "-c", program + "main(prog_name='sparsetrain')"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.stdout.split() == ["plain,sweep"]


def test_log_messages_have_the_name_of_their_module(caplog):
    with caplog.at_level(logging.DEBUG, "sparsetrain"):
        convert(small_net(), 0.9)
    assert {record.name for record in caplog.records} == {"sparsetrain.conversion"}
    assert caplog.records[-1].getMessage() == "4 convolutions of Sequential converted"
    assert "0: prunes none" in caplog.records[0].getMessage()


def test_verbose_shows_what_is_logged(tmp_path):
    command = [sys.executable, "-m", "sparsetrain", "-v", "sweep", str(tmp_path)]
    small = ["--epochs", "1", "--batch-size", "5000", "--rule", "rate 0.5", "--model", "none"]
    done = subprocess.run([*command, *small], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "networks.build: expected name" in done.stderr

"""The one command line: an example in every help, completion, and what is logged."""

import importlib
import logging
import os
import re
import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner
from helpers.nets import small_net
from helpers.paths import EXAMPLES

from sparsetrain import convert
from sparsetrain.__main__ import main


def test_the_help_of_all_shows_an_example_that_parses():
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
    main.commands[name].make_context(name, arguments)  # raises for an option that there is not


def test_the_example_s_help_does_so_too(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    train = importlib.import_module("train").train
    shown = CliRunner().invoke(train, ["--help"], terminal_width=200).output
    example = re.search(r"Example: python examples/train.py (.*)", shown)
    assert example, shown
    train.make_context("train", shlex.split(example[1]))


def test_all_subcommands_are_there():
    wanted = {"doctor", "tune", "estimate", "disasm", "explore", "sweep", "report"}
    assert set(main.commands) == wanted


def test_shells_are_told_the_subcommands():
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


def test_what_the_library_says_has_its_module_s_name(caplog):
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

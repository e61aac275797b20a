"""Pages of the documentation: Python blocks run, links lead somewhere, the site has all pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT
from sources import tracked_files

import sparsetrain
from sparsetrain import accel

PAGES = [name for name in tracked_files() if name.endswith(".md")]
SITE = [name for name in PAGES if name.startswith("docs/")]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
WITH_CODE = [name for name in SITE if BLOCK.search((ROOT / name).read_text())]


@pytest.mark.parametrize("name", WITH_CODE)
def test_python_blocks_run_in_their_order(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in BLOCK.findall((ROOT / name).read_text()):
        exec(compile(block, name, "exec"), names)


def test_the_pages_with_code_are_found():
    assert set(WITH_CODE) >= {"docs/tutorial.md", "docs/chips.md", "docs/accelerator.md"}


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_lead_to_tracked_files(name):
    tracked = {ROOT / each for each in tracked_files()}
    folders = {parent for path in tracked for parent in path.parents}
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and target != "genindex":
            path = (ROOT / name).parent.joinpath(target).resolve()
            assert path in tracked | folders, target


@pytest.mark.parametrize("name", PAGES)
def test_links_to_headings_lead_to_headings(name):
    for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", (ROOT / name).read_text()):
        page = (ROOT / name).parent / target if target else ROOT / name
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
        assert anchor in {slug(heading) for heading in headings}, f"{target}#{anchor}"


def slug(heading):
    """The anchor that GitHub and the site give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_in_the_site():
    """Sphinx would warn about a missing page; this fails sooner."""
    entries = set()
    for index in ("docs/index.md", "docs/api/index.md"):
        for block in re.findall(r"```{toctree}\n(.*?)```", (ROOT / index).read_text(), re.DOTALL):
            lines = [line for line in block.splitlines() if line and not line.startswith(":")]
            entries |= {str(Path(index).parent / f"{line}.md") for line in lines}
    assert entries | {"docs/index.md"} == set(SITE)


def test_every_picture_is_shown_on_a_page():
    pictures = [Path(name).name for name in tracked_files() if name.endswith(".png")]
    text = "".join((ROOT / name).read_text() for name in PAGES)
    assert [name for name in pictures if name not in text] == []


@pytest.mark.parametrize(("package", "page"), [(sparsetrain, "library"), (accel, "accel")])
def test_every_public_name_is_in_the_reference(package, page):
    text = (ROOT / "docs" / "api" / f"{page}.md").read_text()
    documented = set(re.findall(r"^\.\. auto(?:function|class|data):: (\w+)$", text, re.M))
    assert documented == set(package.__all__)


def test_the_shell_completion_of_the_usage_page_works():
    page = (ROOT / "docs" / "usage.md").read_text()
    variable, value, program = re.search(r'eval "\$\((\w+)=(\w+) (\w+)\)"', page).groups()
    assert program == "sparsetrain"
    run = "from sparsetrain.__main__ import main; main(prog_name='sparsetrain')"
    environment = {**os.environ, variable: value}
    command = [sys.executable, "-c", run]
    script = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=True
    ).stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "complete -o nosort -F _sparsetrain_completion sparsetrain" in script

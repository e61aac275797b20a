"""Files that other tools read: hosted CI, issue templates, commit hooks, citation, changelog."""

import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT

from sparsetrain.version import __version__

SCHEMAS = {
    ".github/workflows/ci.yml": "vendor.github-workflows",
    ".github/ISSUE_TEMPLATE/bug.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
    "CITATION.cff": "vendor.citation-file-format",
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_files_keep_their_schema(name):
    check = ["check_jsonschema", "--builtin-schema", SCHEMAS[name], str(ROOT / name)]
    done = subprocess.run(
        [sys.executable, "-m", *check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_hosted_ci_runs_the_local_ci():
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()
    local = (ROOT / ".ci/run").read_text()
    assert all(f"make {target}" in local for target in ("lint", "docs", "test"))


def test_bug_reports_ask_for_the_doctor():
    assert "`sparsetrain doctor`" in (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()


def test_hooks_run_the_linters_of_make_lint():
    """Each command of `make lint` is a hook, except stubtest, which takes too long for a commit."""
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    commands = re.findall(r"^\t\$\(BIN\)/(\S+(?: check| format)?)", lint, re.M)
    entries = re.findall(
        r"entry: \.venv/bin/(\S+(?: check| format)?)",
        (ROOT / ".pre-commit-config.yaml").read_text(),
    )
    assert set(entries) == {command for command in commands if command != "python"}


def test_citation_and_changelog_have_the_version():
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert __version__ in (ROOT / "CHANGELOG.md").read_text()

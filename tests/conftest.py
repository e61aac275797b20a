"""Settings of every test: the same generated cases on every run, one thread unless a test asks."""

import re
from collections import Counter

import torch
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fixed")
torch.set_num_threads(1)  # several test processes share the cores


def pytest_terminal_summary(terminalreporter):
    """One line for all tests that wait for a GPU, one for those that want a tool."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [re.search(r"no (\w+): apt install", str(report.longrepr)) for report in skipped]
    tools = Counter(reason[1] for reason in reasons if reason)
    if tools:
        named = ", ".join(f"{tool} ({count})" for tool, count in sorted(tools.items()))
        terminalreporter.write_line(f"{tools.total()} tests skipped for want of {named}: README.md")
    count = sum("test_gpu" in report.nodeid for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests of a GPU skipped: tests/test_gpu*.py")

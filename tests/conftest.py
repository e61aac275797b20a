"""Settings of all tests: fixed generated cases, one thread, a summary of skipped tests."""

import re
from collections import Counter

import torch
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fixed")
torch.set_num_threads(1)  # several test processes share the cores; a test may set another number


def pytest_terminal_summary(terminalreporter):
    """Prints one line for tests that need a GPU and one for tests that need a missing tool."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [re.search(r"no (\w+): apt install", str(report.longrepr)) for report in skipped]
    tools = Counter(reason[1] for reason in reasons if reason)
    if tools:
        named = ", ".join(f"{tool} ({count})" for tool, count in sorted(tools.items()))
        line = f"{tools.total()} tests need missing tools and were skipped: {named}"
        terminalreporter.write_line(line)
    count = sum("test_gpu" in report.nodeid for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests need a GPU and were skipped: tests/gpu")

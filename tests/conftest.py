"""Settings of every test: the same generated cases on every run, one thread unless a test asks."""

import torch
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fixed")
torch.set_num_threads(1)  # several test processes share the cores


def pytest_terminal_summary(terminalreporter):
    """One line for all tests that wait for a GPU."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("test_gpu" in report.nodeid for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests of a GPU skipped: tests/test_gpu*.py")

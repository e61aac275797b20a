"""Interleaved timing, JSON files and a progress bar, for all benchmarks."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sparsetrain.experiments import files
from sparsetrain.experiments.machine import describe as machine

__all__ = ["geomean", "interleaved", "machine", "progress", "settle_allocator", "write_json"]
MOST_ROUNDS, ENOUGH_SECONDS = 51, 0.5
LARGEST_KEPT_BYTES = 32_000_000  # glibc always returns larger blocks to the system


def settle_allocator() -> None:
    """Brings glibc's allocator into its state in a long run, in which it reuses large blocks.

    It begins to reuse blocks of up to 32 MB when the first large block is freed. Before that, the
    system maps and clears every result, which takes longer than the arithmetic of a small call.
    """
    torch.empty(LARGEST_KEPT_BYTES, dtype=torch.uint8).fill_(1)


def interleaved(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Times calls in turn, so that other load on the machine affects all of them equally.

    Every other round runs in reverse order, so that the caches do not always come from the same
    call. Short calls get more rounds, because noise matters more for them.

    Args:
        calls: The functions to time.
        repeats: The least number of rounds after one that warms up; at least 7.

    Returns:
        The median wall-clock time of each call in seconds.

    Raises:
        ValueError: `repeats` is below 7.
    """
    if repeats < 7:
        raise ValueError(f"interleaved: expected repeats to be 7 or more, got {repeats}")
    seconds: list[list[float]] = [[] for _ in calls]
    turns = list(zip(calls, seconds, strict=True))
    begin = time.perf_counter()
    for call in calls:
        call()
    round_seconds = time.perf_counter() - begin
    for i in range(max(repeats, min(MOST_ROUNDS, int(ENOUGH_SECONDS / round_seconds)))):
        for call, times in turns if i % 2 else reversed(turns):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
    return [statistics.median(times) for times in seconds]


def geomean(values: Iterable[float]) -> float | None:
    """The geometric mean, or None without values."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Writes `content` to `path`, unless that is None."""
    if path is not None:
        files.write_json(path, content)


def progress() -> Progress:
    """A progress bar on stderr, so that stdout can be piped."""
    return Progress(
        TextColumn("{task.description:32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )

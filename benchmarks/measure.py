"""What every benchmark needs: fair timing, the machine's description, JSON, a progress bar."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sparsetrain.experiments import files
from sparsetrain.experiments.machine import describe as machine

MOST_ROUNDS, ENOUGH_SECONDS = 51, 0.5
__all__ = ["geomean", "interleaved", "machine", "progress", "settle_allocator", "write_json"]
LARGEST_KEPT_BYTES = 32_000_000  # glibc gives back larger blocks whatever happened before


def settle_allocator() -> None:
    """Bring glibc into the state it has in a long run: blocks below 32 MB are reused.

    It learns that from the first large block freed; until then every result is mapped and cleared
    anew, which costs either side several times its arithmetic.
    """
    torch.empty(LARGEST_KEPT_BYTES, dtype=torch.uint8).fill_(1)


def interleaved(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each call: all in turn, `repeats` (at least 7) rounds after a warm-up.

    Turns share what the machine does meanwhile, and every other round goes backwards, so that no
    call always finds the caches as the same one left them. Short calls get more rounds: noise
    weighs more there and they cost little.
    """
    if repeats < 7:
        raise ValueError(f"interleaved: expected repeats to be 7 or more, got {repeats}")
    seconds: list[list[float]] = [[] for _ in calls]
    turns = list(zip(calls, seconds, strict=True))
    begin = time.perf_counter()
    for call in calls:
        call()
    a_round = time.perf_counter() - begin
    for i in range(max(repeats, min(MOST_ROUNDS, int(ENOUGH_SECONDS / a_round)))):
        for call, times in turns if i % 2 else reversed(turns):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
    return [statistics.median(times) for times in seconds]


def geomean(values: Iterable[float]) -> float | None:
    """The geometric mean; None of nothing."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write `content` to `path`; nothing without a path."""
    if path is not None:
        files.write_json(path, content)


def progress() -> Progress:
    """A bar with description, count and remaining time, on stderr so that stdout can be piped."""
    from rich.console import Console

    return Progress(
        TextColumn("{task.description:32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )

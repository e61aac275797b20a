"""The processes of a run that torchrun started; without it a run is one process alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist


def grouped() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def rank_and_world() -> tuple[int, int]:
    """Rank and world size: the process group's, or what a launcher left in the environment."""
    if grouped():
        return dist.get_rank(), dist.get_world_size()
    rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if rank.isdecimal() and world.isdecimal():
        return int(rank), int(world)
    return 0, 1


@contextmanager
def joined() -> Iterator[None]:
    """Inside, what torchrun started is one gloo group; a process that it did not start is alone."""
    if grouped() or not (dist.is_available() and dist.is_torchelastic_launched()):
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(value: Any) -> list[Any]:
    """Everyone's `value`, which must pickle, in the order of ranks; all processes call it."""
    if not grouped():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values

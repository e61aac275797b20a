"""The processes of a run that torchrun started; without it a run is one process alone."""

import os

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

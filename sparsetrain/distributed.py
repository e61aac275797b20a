"""Rank and world size of this process, for per-rank random numbers and checkpoints."""

import os

import torch.distributed as dist


def has_process_group() -> bool:
    """Whether this process belongs to an initialized process group."""
    return dist.is_available() and dist.is_initialized()


def rank_and_world() -> tuple[int, int]:
    """Rank and world size of the process group.

    Before the group is initialized, they are what a launcher such as torchrun left in the
    environment; without a launcher they are 0 and 1.
    """
    if has_process_group():
        return dist.get_rank(), dist.get_world_size()
    rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if rank.isdecimal() and world.isdecimal():
        return int(rank), int(world)
    return 0, 1

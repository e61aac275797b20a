"""Communication between the processes of a training run under torchrun."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from sparsetrain.distributed import has_process_group


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that torchrun started into a gloo group while the context is active.

    Does nothing in a process that torchrun did not start, or that already has a group.
    """
    if has_process_group() or not (dist.is_available() and dist.is_torchelastic_launched()):
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(value: Any) -> list[Any]:
    """Returns the `value` of every process, in the order of ranks.

    All processes must call this function together. `value` must be picklable. Without a process
    group the result is [value].
    """
    if not has_process_group():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values

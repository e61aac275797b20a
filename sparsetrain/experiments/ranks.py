"""What the processes of a run under torchrun do together; without it a run is one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from sparsetrain.distributed import has_process_group


@contextmanager
def joined() -> Iterator[None]:
    """Inside, what torchrun started is one gloo group; a process that it did not start is alone."""
    if has_process_group() or not (dist.is_available() and dist.is_torchelastic_launched()):
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(value: Any) -> list[Any]:
    """Everyone's `value`, which must pickle, in the order of ranks; all processes call it."""
    if not has_process_group():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values

"""Turns Ctrl-C into a request that `train` and `sweep` answer between two steps."""

import signal
from types import FrameType


class Interrupt:
    """A context in which the first Ctrl-C or SIGTERM only sets `number`.

    The second one raises KeyboardInterrupt. Leaving the context restores the signal handlers.

    Attributes:
        number: The number of the first signal, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __enter__(self) -> "Interrupt":
        self._previous = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, signal.default_int_handler)

"""Ctrl-C as a request: a step in progress ends first."""

import signal
from types import FrameType


class Interrupt:
    """Notes the first Ctrl-C or SIGTERM, so that a step in progress ends; a second one stops it."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __enter__(self) -> "Interrupt":
        self.old = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, signal.default_int_handler)

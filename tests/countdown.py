"""A signal that seems to arrive at a chosen moment, for tests that stop and resume."""

from __future__ import annotations

import signal

from halobench.training.checkpoint import Signals


class Countdown(Signals):
    """A signal that seems to arrive the n-th time that it is checked for."""

    def __init__(self, count: int):
        self.count = count

    @property
    def received(self) -> int | None:
        self.count -= 1
        return signal.SIGTERM if self.count < 0 else None

"""Wait for what happens on its own, in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(happened: Callable[[], bool], *, every_s: float = 0.01, at_most_s: float = 50) -> None:
    deadline = time.monotonic() + at_most_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(every_s)

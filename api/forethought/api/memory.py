"""What starting up does with memory: nothing is collected while it lasts, and its waste is freed
before the first request.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

YOUNG_OBJECTS: Final = 10_000
"""So many new objects make the collector look for cycles among them. Python's 700 are what a few
requests under way hold: it looked all the time, and what requests leave behind has no cycles."""


def start() -> None:
    """Collect nothing until ``settle``.

    Nearly all that is loaded stays, so that there is little to find; looking through it again and
    again took 5 to 10% of the start.
    """
    gc.disable()


def settle() -> None:
    """Give back what only starting needed, and leave what stays out of later collections.

    glibc keeps freed pages for itself (some 20 MB after reading price lists and models); it is
    asked to give them back. What lives now lives as long as the server, so that the collector
    need not look through it again while requests wait. Nor does it now, after ``start``: that would
    take a tenth of a second, and the cycles that starting leaves fill no page of their own.
    """
    if gc.isenabled():  # a process that has done more than to start this server
        gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    gc.enable()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries have none
        if trim is not None:
            trim(0)

"""What starting up does with memory: nothing is collected while it lasts, and its waste is freed
before the first request.
"""

from __future__ import annotations

import ctypes
import gc
import sys


def start() -> None:
    """Collect nothing until ``settle``.

    Nearly all that is loaded stays, so that there is little to find; looking through it again and
    again took 5 to 10% of the start.
    """
    gc.disable()


def settle() -> None:
    """Free what only starting needed, and leave what stays out of later collections.

    glibc keeps freed pages for itself (some 20 MB after reading price lists and models); it is
    asked to give them back. What lives now lives as long as the server, so that the collector
    need not look through it again while requests wait.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries have none
        if trim is not None:
            trim(0)

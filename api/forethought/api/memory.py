"""What starting up leaves behind, given back before the first request."""

from __future__ import annotations

import ctypes
import gc
import sys


def settle() -> None:
    """Free what only starting needed, and leave what stays out of later collections.

    glibc keeps freed pages for itself (some 20 MB after reading price lists and models); it is
    asked to give them back. What lives now lives as long as the server, so that the collector
    need not look through it again while requests wait.
    """
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries have none
        if trim is not None:
            trim(0)

"""The embedded model's process: llama.cpp's server, alive as long as its parent.

Run by ``forethought.router.upstream.llamacpp`` as ``python -m ...llamacpp_child``. It reads
its settings as one JSON line on standard input, so that the key never shows in a process
list, and writes its address as one JSON line to the file descriptor named there. Standard
input then stays open: its end means that the parent is gone, and this process ends too.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from typing import Any, Final, TypedDict

EXIT_CANNOT_LOAD: Final = 3
"""The exit status that says the weights could not be loaded."""

EXIT_NOT_INSTALLED: Final = 4
"""The exit status that says xllamacpp cannot be imported."""

_LOG_ERRORS_ONLY: Final = 1
_PR_SET_PDEATHSIG: Final = 1


class ChildSettings(TypedDict):
    """What the parent tells its child."""

    weights: str
    alias: str
    n_ctx: int
    parallel: int
    threads: int
    port: int
    api_key: str
    cache_ram_mib: int
    ready_fd: int
    parent_pid: int


def main() -> int:
    """Serve until the parent closes standard input, or is gone."""
    settings: ChildSettings = json.loads(sys.stdin.buffer.readline())
    _die_with(settings["parent_pid"])
    # A second watch besides the kernel's: it also works where there is no such signal.
    watch = threading.Thread(target=_exit_at_end_of_input, name="parent-watch", daemon=True)
    watch.start()
    try:
        # Slow, and of use in this process only. It has no types.
        xllamacpp: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        print(f"xllamacpp cannot be imported: {error}", file=sys.stderr, flush=True)
        return EXIT_NOT_INSTALLED
    try:
        server = xllamacpp.Server(_params(xllamacpp.CommonParams(), settings))
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_CANNOT_LOAD
    with os.fdopen(settings["ready_fd"], "w") as ready:
        json.dump({"address": server.listening_address}, ready)
    watch.join()
    return 0


def _params(params: Any, settings: ChildSettings) -> Any:
    params.model.path = settings["weights"]
    params.model_alias = {settings["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = settings["port"]
    params.api_keys = [settings["api_key"]]
    params.n_ctx = settings["n_ctx"]
    params.n_parallel = settings["parallel"]
    # One pool of n_ctx cells for all slots: a lone long request may use all of it.
    params.kv_unified = True
    params.cache_ram_mib = settings["cache_ram_mib"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    # Waiting threads sleep instead of spinning: the proxy shares these cores.
    params.cpuparams.poll = 0
    params.cpuparams_batch.poll = 0
    params.verbosity = _LOG_ERRORS_ONLY
    params.ui = False
    params.endpoint_slots = False
    return params


def _die_with(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the request above
            os._exit(0)


def _exit_at_end_of_input() -> None:
    # Not sys.stdin: its lock, held here, would abort the interpreter's own end.
    while os.read(0, 1):
        pass
    # Not sys.exit: the model's threads may be in the middle of a long computation.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

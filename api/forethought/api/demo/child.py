"""The demo's server process: `forethought serve` that ends when the demo does, however it ends.

Standard input is a pipe from the demo. Its end means that the demo is gone, also by a signal
that let it clean up nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from forethought.api.cli import main


def serve() -> None:
    """Serve as `forethought serve` does, with the settings of the environment."""
    threading.Thread(target=_stop_at_end_of_input, name="demo-watch", daemon=True).start()
    sys.argv[1:] = ["serve"]
    main()


def _stop_at_end_of_input() -> None:
    # Not sys.stdin: its lock, held here, would abort the interpreter's own end.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve()

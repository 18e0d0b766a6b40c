"""Importing does nothing but define: each package is imported in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.packages import PACKAGES

# Imports every module of a package and prints what that left behind. Modules that only run as
# scripts (`__main__`) are left out; migrations are loaded by Alembic, not imported.
_IMPORT_ALL = """
import importlib, json, os, pkgutil, sys, threading

def open_sockets():
    links = (os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd"))
    return [target for link in links if os.path.islink(link)
            for target in [os.readlink(link)] if target.startswith("socket:")]

before = open_sockets()
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    parts = module.name.split(".")
    if "__main__" not in parts and "migrations" not in parts:
        importlib.import_module(module.name)
print(json.dumps({
    "threads": [t.name for t in threading.enumerate() if t is not threading.main_thread()],
    "sockets": [s for s in open_sockets() if s not in before],
    "modules": sorted(sys.modules),
}))
"""

# Starts the server as `forethought serve` does, short of the socket, and says what that loaded.
_SERVE = """
import asyncio, json, sys
import forethought.api.cli, forethought.api.commands.serve
from forethought.api.server import create_app, lifespan
from forethought.api.settings_sources import load_settings

upstream = {"upstream_base_url": "http://127.0.0.1:1/v1", "model": "m"}
app = create_app(load_settings(data_dir=sys.argv[1], sleep="off", **upstream))

async def serve():
    async with lifespan(app):
        print(json.dumps(sorted(sys.modules)))

asyncio.run(serve())
"""

# Stands in for an environment where only the base install's dependencies exist.
_BLOCK_SERVER_DEPENDENCIES = """
import importlib, sys

class Blocked:
    names = set(sys.argv[2:])
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocked())
importlib.import_module(sys.argv[1])
"""


def _run(code: str, *args: str, home: Path) -> str:
    redirected = {"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=home,
        env=os.environ | redirected,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _import_all(package: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        home = Path(folder)
        report: dict[str, Any] = json.loads(_run(_IMPORT_ALL, package, home=home).splitlines()[-1])
        return report | {"files": [str(path) for path in home.rglob("*")]}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="lists open sockets by /proc")
@pytest.mark.parametrize("package", PACKAGES)
def test_importing_leaves_no_thread_socket_or_file(package: str) -> None:
    left = _import_all(package)
    assert left["threads"] == []
    assert left["sockets"] == []
    assert left["files"] == []


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        pytest.param("forethought.api", "mlflow", id="serving needs no mlflow"),
        pytest.param("forethought.api", "forethought.training", id="serving needs no training"),
        pytest.param("forethought.api", "lightgbm", id="serving fits nothing"),
        pytest.param("forethought.api", "pandas", id="serving has no tables"),
        pytest.param("forethought.api", "sklearn", id="serving predicts by trees alone"),
        pytest.param("forethought.router", "fastapi", id="the router knows nothing of HTTP routes"),
        pytest.param("forethought.models", "sqlalchemy", id="the models know nothing of the store"),
        pytest.param("forethought.client", "fastapi", id="the client needs no server"),
    ],
)
def test_importing_stays_light(package: str, unwanted: str) -> None:
    assert unwanted not in _import_all(package)["modules"]


@cache
def _served() -> set[str]:
    with TemporaryDirectory() as folder:
        said = _run(_SERVE, f"{folder}/data", home=Path(folder))
        return set(json.loads(said.splitlines()[-1]))


@pytest.mark.parametrize(
    "unwanted",
    [
        pytest.param("dbos", id="only sleep needs it, and no request waits for sleep"),
        pytest.param("alembic", id="a new store has the newest tables"),
        pytest.param("psycopg", id="the store is SQLite"),
        pytest.param("sqlalchemy.dialects.postgresql", id="and its driver too"),
        pytest.param("anthropic", id="the upstream is OpenAI's"),
        pytest.param("rich", id="no weights are fetched"),
    ],
)
def test_starting_to_serve_stays_light(unwanted: str) -> None:
    assert unwanted not in _served()


def test_the_client_imports_without_the_servers_dependencies(isolated_state: Path) -> None:
    blocked = (
        "alembic anthropic dbos fastapi genai_prices httpx lightgbm mlflow numpy pandas "
        "prometheus_client pyarrow pydantic_settings rich scipy sklearn sqlalchemy "
        "starlette typer uvicorn wordllama xllamacpp"
    ).split()
    _run(_BLOCK_SERVER_DEPENDENCIES, "forethought.client", *blocked, home=isolated_state)

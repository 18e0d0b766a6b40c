"""Every test's state goes to its own temporary folder; only the model cache is shared, and read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Read before any test redirects HOME: weights are large, verified by hash and only ever read.
_MODEL_CACHE = os.environ.get("FORETHOUGHT_CACHE") or str(
    Path.home() / ".cache" / "forethought" / "models"
)
# Would steer the clients under test, or the libraries below them, from outside.
_FOREIGN_PREFIXES = ("FORETHOUGHT_", "OPENAI_", "ANTHROPIC_", "MLFLOW_", "DBOS_")


@pytest.fixture(autouse=True)
def isolated_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Redirect HOME, the working folder and every setting from outside; returns the new HOME."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN_PREFIXES):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    work = tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))
    monkeypatch.setenv("FORETHOUGHT_CACHE", _MODEL_CACHE)
    monkeypatch.chdir(work)
    return home

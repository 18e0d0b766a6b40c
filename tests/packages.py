"""The packages of the namespace, as the tests that hold for all of them need them."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("models", "router", "training", "api")
PORTIONS = tuple(REPOSITORY / folder / "forethought" for folder in FOLDERS)
PACKAGES = (
    "forethought.api",
    "forethought.client",
    "forethought.models",
    "forethought.router",
    "forethought.training",
)

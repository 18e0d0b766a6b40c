"""Each package's public surface is its ``__all__``: nothing hidden, nothing extra.

(ruff keeps it in order.)
"""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from tests.packages import PACKAGES


def _bound_here(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "annotations" and not isinstance(value, ModuleType)
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_exported(package: str) -> None:
    module = importlib.import_module(package)
    assert _bound_here(module) <= set(getattr(module, "__all__", ()))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_resolves(package: str) -> None:
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None

"""`forethought` is a PEP 420 namespace: one stray __init__.py would hide every other portion."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.packages import PACKAGES, PORTIONS


@pytest.mark.parametrize("portion", PORTIONS, ids=lambda portion: portion.parent.name)
def test_no_portion_has_an_init_file_or_modules_of_its_own(portion: Path) -> None:
    assert portion.is_dir()
    assert [path.name for path in portion.iterdir() if path.is_file()] == []


def test_the_namespace_spans_all_portions() -> None:
    namespace = importlib.import_module("forethought")
    assert namespace.__file__ is None
    assert {Path(path).resolve() for path in namespace.__path__} >= set(PORTIONS)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_typed(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert (Path(module.__file__).parent / "py.typed").is_file()

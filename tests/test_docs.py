"""The documentation names what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from forethought.api.settings import Settings

CONFIGURATION = Path(__file__).parent.parent / "docs" / "configuration.md"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_each_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in CONFIGURATION.read_text(encoding="utf-8")

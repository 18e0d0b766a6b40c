"""``forethought models``."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from forethought.api.commands.models import app
from forethought.router import catalogue
from forethought.router.errors import NotFound

WIDE = {"COLUMNS": "200"}


def test_list_shows_every_model_its_licence_and_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORETHOUGHT_CACHE", str(tmp_path / "cache"))
    result = CliRunner().invoke(app, ["list"], env=WIDE)
    assert result.exit_code == 0
    for name in catalogue.MODELS:
        assert name in result.output
    assert result.output.count("Apache-2.0") == len(catalogue.MODELS)
    assert str(tmp_path / "cache") in result.output


@pytest.mark.model
def test_fetch_prints_where_the_file_is_and_nothing_else() -> None:
    result = CliRunner().invoke(app, ["fetch", "smollm2-135m"], env=WIDE)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(catalogue.model_path("smollm2-135m"))


def test_unknown_model_is_an_error_that_names_the_known_ones() -> None:
    result = CliRunner().invoke(app, ["fetch", "gpt-4"], env=WIDE)
    assert isinstance(result.exception, NotFound)
    assert "smollm2-135m" in str(result.exception)

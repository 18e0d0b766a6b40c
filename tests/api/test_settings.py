from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forethought.api.settings import Settings
from forethought.api.settings_sources import load_settings
from forethought.router.errors import ConfigError
from forethought.router.pricing import Prices


def test_the_defaults_need_nothing() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.embedded) == ("127.0.0.1", 8300, True)
    assert settings.store_url == str(Path(".forethought/forethought.sqlite"))


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('port = 1\nmodel = "file"\nseed = 3\n[prices.m]\ninput = 1\noutput = 2\n')
    monkeypatch.setenv("FORETHOUGHT_PORT", "2")
    monkeypatch.setenv("FORETHOUGHT_MODEL", "environment")
    settings = load_settings(config, port=4, model=None)
    assert (settings.port, settings.model, settings.seed) == (4, "environment", 3)
    assert settings.prices["m"].as_prices() == Prices(input=1, cached_input=1, output=2)


def test_what_clients_read_is_not_for_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETHOUGHT_BASE_URL", "http://127.0.0.1:8300/v1")
    monkeypatch.setenv("FORETHOUGHT_API_KEY", "a-clients-key")
    assert load_settings().embedded


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("port = ", "config.toml is not TOML", id="not TOML"),
        pytest.param("port = 70000", "'port' cannot be used", id="out of range"),
        pytest.param("prot = 80", "'prot' is not a setting", id="a misspelt name"),
        pytest.param('trust = "much"', "'trust' cannot be used", id="not a number"),
        pytest.param("[prices.m]\ninput = 1", "'prices.m.output' cannot be used", id="in a table"),
        pytest.param("[api_keys]", "'api_keys' cannot be used", id="no keys"),
        pytest.param('sleep_levels = ["k3"]', "'sleep_levels' cannot be used", id="no level"),
        pytest.param('sleep_levels = ["k11r1"]', "go up to 10", id="too high a level"),
        pytest.param("sleep_levels = []", "'sleep_levels' cannot be used", id="no levels"),
        pytest.param("[sleep_tiers]\nflex = -1", "'sleep_tiers.flex'", id="negative wait"),
    ],
)
def test_a_wrong_config_file_is_named_with_its_field(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(config)
    assert said in str(caught.value)
    assert str(config) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        pytest.param("FORETHOUGHT_PORT", "many", "FORETHOUGHT_PORT", id="not a number"),
        pytest.param("FORETHOUGHT_API_KEYS", "sk-secret", "environment", id="not JSON"),
    ],
)
def test_a_wrong_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unreadable_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml cannot be read"):
        load_settings(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"upstream_api_key": "sk-secret"}, id="the upstream's key"),
        pytest.param({"api_keys": {"sk-secret": "acme"}}, id="clients' keys"),
        pytest.param({"database_url": "postgresql://u:sk-secret@h/d"}, id="the database's"),
    ],
)
def test_secrets_are_not_shown(given: dict[str, Any]) -> None:
    settings = Settings(**given)
    assert "sk-secret" not in repr(settings) + str(settings) + settings.shown_store


def test_the_levels_that_sleep_chooses_from_are_in_order_and_once() -> None:
    found = load_settings(sleep_levels=("k10r1", "k1r1", "k1r1"), sleep_tiers={"flex": 600})
    assert [level.name for level in found.auto_levels] == ["k1r1", "k10r1"]
    assert found.sleep_tiers == {"flex": 600.0}
    assert [level.name for level in load_settings().auto_levels] == ["k1r1", "k3r1", "k10r1"]

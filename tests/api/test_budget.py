"""The three modes over HTTP: a budget that ends, resumes and steers; a floor; a value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI, RateLimitError

from forethought.api.metrics import Metrics
from forethought.api.services import opened
from forethought.api.settings_sources import load_settings
from forethought.models.bundle import PolicyBundle
from forethought.router.allocation import Preferences
from forethought.router.errors import ConfigError
from forethought.router.registry import Registry
from tests.api.conftest import Serve
from tests.api.server import KEY, ApiServer
from tests.fake_upstream import FakeUpstreamServer

PRICES = {"fake": {"input": 1000.0, "output": 1000.0}}  # a tenth of a cent a word
YEAR_S = 365 * 86_400.0
"""A period that does not end while a test runs."""

ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
QUESTION: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "The shop sells 12 eggs for 3 dollars each. " * 8},
        {"role": "user", "content": "How many dollars?"},
    ],
    "max_tokens": 50,
}


def budget_of(server: ApiServer) -> dict[str, Any]:
    reply = server.http.get("/v1/budget", headers={"authorization": f"Bearer {KEY}"})
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    return found


def spend(server: ApiServer) -> int:
    """Ask until a request is refused; how many were answered."""
    for answered in range(1000):
        if server.chat(ASKED).status_code == 429:
            return answered
    raise AssertionError("the budget never ended")


def test_a_spent_budget_is_a_429_that_is_not_to_be_repeated(serve: Serve) -> None:
    server = serve(budget_usd=0.2, budget_period_s=YEAR_S, prices=PRICES)
    assert spend(server) > 3
    reply = server.chat(ASKED)
    assert (reply.status_code, reply.headers["x-should-retry"]) == (429, "false")
    error = reply.json()["error"]
    assert (error["type"], error["param"], error["code"]) == (
        "insufficient_quota",
        "budget_usd",
        "budget_spent",
    )
    assert "next period begins at" in error["message"]
    # Whoever asks in Anthropic's language gets its shape, and the same advice.
    said = server.post("/v1/messages", {"model": "fake", **ASKED})
    assert (said.status_code, said.json()["error"]["type"]) == (429, "rate_limit_error")
    assert said.headers["x-should-retry"] == "false"


def test_the_openai_sdk_does_not_repeat_what_the_budget_refused(
    serve: Serve, fake: FakeUpstreamServer
) -> None:
    server = serve(budget_usd=0.001, budget_period_s=YEAR_S, prices=PRICES)
    client = OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=3)
    with client, pytest.raises(RateLimitError):
        client.chat.completions.create(model="fake", **ASKED)
    assert budget_of(server)["refused"] == 1
    assert not fake.requests


def test_the_spending_is_what_the_log_says_and_never_above_the_budget(serve: Serve) -> None:
    server = serve(budget_usd=0.25, budget_period_s=YEAR_S, prices=PRICES)
    answered = spend(server)
    shown = budget_of(server)
    logged = [d.outcome for d in server.services.reader.logged_decisions() if d.outcome]
    assert len(logged) == answered
    assert shown["spent_usd"] == pytest.approx(sum(o.cost_usd or 0.0 for o in logged))
    assert 0 < shown["spent_usd"] <= shown["budget_usd"] == 0.25
    assert shown["reserved_usd"] == 0
    text = server.http.get("/metrics").text
    assert "forethought_budget_usd 0.25" in text
    assert "forethought_budget_refused 1.0" in text
    assert f"forethought_budget_spent_usd {shown['spent_usd']}" in text


def test_a_stream_is_counted_and_one_that_breaks_off_holds_nothing_back(serve: Serve) -> None:
    server = serve(budget_usd=100.0, budget_period_s=YEAR_S, prices=PRICES)
    for model in ("fake", "fake:drop", "fake:status=500"):
        server.chat({**ASKED, "model": "fake", "stream": True}, x_fake=model.partition(":")[2])
    shown = budget_of(server)
    assert shown["reserved_usd"] == 0
    assert shown["spent_usd"] > 0


def test_a_restarted_server_goes_on_where_the_log_ends(serve: Serve) -> None:
    settings: dict[str, Any] = {
        "budget_usd": 1.0, "budget_period_s": YEAR_S, "prices": PRICES,
    }  # fmt: skip
    server = serve(**settings)
    for _ in range(5):
        server.chat(ASKED)
    before = budget_of(server)
    server.__exit__(None, None, None)
    after = budget_of(serve(**settings))
    assert after["spent_usd"] == pytest.approx(before["spent_usd"])
    assert after["multiplier"] == pytest.approx(before["multiplier"], rel=1e-3)
    assert after["spent_usd"] > 0


def test_the_multiplier_enters_the_utilities(
    serve: Serve, tmp_path: Path, bundles: tuple[PolicyBundle, PolicyBundle]
) -> None:
    registry = Registry(tmp_path / "data")
    registry.save(bundles[0])
    registry.promote(bundles[0].version)
    server = serve(
        budget_usd=1e6, budget_period_s=YEAR_S, prices=PRICES, exploration=0.0, quality_margin=1.0
    )
    for multiplier in (0.5, 2.0):
        server.services.decider.preferences = Preferences(
            cost_multiplier=multiplier, latency_usd_per_s=0.0
        )
        shown = server.post("/v1/route", {"model": "fake", **QUESTION}).json()
        seen = [c for c in shown["candidates"] if c["utility"] is not None]
        assert len(seen) >= 2
        for c in seen:
            worth = 0.002 * c["quality"] - multiplier * c["cost_usd"]
            assert c["utility"] == pytest.approx(worth)
    before = server.services.decider.preferences.cost_multiplier
    server.chat(QUESTION)
    assert server.services.decider.preferences.cost_multiplier != before


def test_a_floor_takes_the_cheapest_that_holds_it(
    serve: Serve, tmp_path: Path, bundles: tuple[PolicyBundle, PolicyBundle]
) -> None:
    registry = Registry(tmp_path / "data")
    registry.save(bundles[0])
    registry.promote(bundles[0].version)
    server = serve(quality_floor=0.0, prices=PRICES, exploration=0.0, latency_usd_per_s=0.0)
    shown = server.post("/v1/route", {"model": "fake", **QUESTION}).json()
    costs = {c["strategy"]: c["cost_usd"] for c in shown["candidates"] if c["cost_usd"]}
    assert len(costs) >= 2
    assert costs[shown["strategy"]] == min(costs.values())
    assert budget_of(server) == {"object": "budget", "mode": "quality_floor", "quality_floor": 0.0}


def test_by_default_a_value_configures_the_policy(server: ApiServer) -> None:
    assert budget_of(server) == {"object": "budget", "mode": "value_usd", "value_usd": 0.002}


async def test_a_budget_without_prices_is_refused_at_the_start(
    fake: FakeUpstreamServer, tmp_path: Path
) -> None:
    settings = load_settings(
        data_dir=tmp_path,
        upstream_base_url=fake.base_url,
        model="fake",
        sleep="off",
        budget_usd=1.0,
    )
    with pytest.raises(ConfigError, match="needs prices, and none of 'fake' is known") as caught:
        async with opened(settings, Metrics()):
            pass
    assert caught.value.param == "budget_usd"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param(
            {"value_usd": 0.1, "budget_usd": 1.0}, "value_usd and budget_usd", id="a value"
        ),
        pytest.param(
            {"quality_floor": 0.0, "budget_usd": 1.0}, "quality_floor and budget_usd", id="a floor"
        ),
        pytest.param(
            {"value_usd": 0.1, "quality_floor": 0.9, "budget_usd": 1.0},
            "value_usd and quality_floor and budget_usd",
            id="all three",
        ),
    ],
)
def test_two_modes_are_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"{named} exclude each other") as caught:
        load_settings(**given)
    assert caught.value.param == named.replace(" and ", ", ")


def test_the_sources_of_settings_are_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("quality_floor = 0.8\n")
    assert load_settings(config).mode == "quality_floor"
    monkeypatch.setenv("FORETHOUGHT_BUDGET_USD", "10")
    with pytest.raises(ConfigError, match="quality_floor and budget_usd"):
        load_settings(config)


def test_each_mode_has_its_preferences() -> None:
    default = load_settings().preferences
    assert default == Preferences()
    floor = load_settings(quality_floor=0.9).preferences
    assert (floor.value_usd, floor.quality_floor, floor.quality_margin) == (0.0, 0.9, 1.0)
    budget = load_settings(budget_usd=1.0).preferences
    assert (budget.value_usd, budget.quality_margin) == (default.value_usd, 1.0)
    assert load_settings(budget_usd=1.0, quality_margin=0.1).preferences.quality_margin == 0.1

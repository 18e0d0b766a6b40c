"""Costs: what is known, from where, and never a made-up zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.router import catalogue
from forethought.router.pricing import Prices, PriceTable, cost, reference_prices
from forethought.router.records import Usage

PRICES = Prices(input=2.0, cached_input=0.5, output=8.0)
WRITING = Prices(input=2.0, cached_input=0.5, output=8.0, cache_write=2.5, cache_write_1h=4.0)
counts = st.integers(min_value=0, max_value=10_000_000)
usages = st.builds(
    lambda fresh, read, short, long, output: Usage(
        input_tokens=fresh + read + short + long,
        cached_tokens=read,
        cache_write_tokens=short + long,
        cache_write_1h_tokens=long,
        output_tokens=output,
    ),
    *[counts] * 5,
)


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return PriceTable({"gpt-4o": PRICES})


@pytest.mark.parametrize(
    ("model", "url", "source"),
    [
        pytest.param("gpt-4o", None, "configured", id="override-first"),
        pytest.param("gpt-4o-mini", None, "genai-prices:openai", id="list-by-name"),
        pytest.param(
            "gpt-4o-mini", "https://api.openai.com/v1", "genai-prices:openai", id="list-by-url"
        ),
        pytest.param(
            "gpt-4o-mini", "http://gateway.local/v1", "genai-prices:openai", id="behind-a-gateway"
        ),
        pytest.param("qwen2.5-coder-1.5b", "http://127.0.0.1:1/v1", "reference", id="embedded"),
    ],
)
def test_prices_come_from_the_first_source_that_knows(
    table: PriceTable, model: str, url: str | None, source: str
) -> None:
    prices = table.lookup(model, url)
    assert prices is not None
    assert prices.source == source
    assert 0 < prices.cached_input <= prices.input < prices.output


def test_an_unknown_model_has_no_price_and_no_cost(table: PriceTable) -> None:
    prices = table.lookup("my-own-model")
    assert prices is None
    assert cost(Usage(input_tokens=5), prices) is None


def test_every_embedded_model_has_a_reference_price() -> None:
    for name in catalogue.MODELS:
        assert reference_prices(name) is not None


def test_the_reference_price_is_the_rent_of_the_time_it_takes() -> None:
    an_hour_of_output = Usage(output_tokens=16 * 3600)
    prices = reference_prices("qwen2.5-coder-1.5b")
    assert cost(an_hour_of_output, prices) == pytest.approx(0.08)


def test_cached_input_is_charged_at_its_own_price() -> None:
    usage = Usage(
        input_tokens=1_000_000, cached_tokens=400_000, output_tokens=100_000, reasoning_tokens=50
    )
    assert cost(usage, PRICES) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5 + 0.1 * 8.0)


def test_cache_writes_are_charged_at_their_own_price() -> None:
    usage = Usage(
        input_tokens=1_000_000,
        cached_tokens=400_000,
        cache_write_tokens=300_000,
        cache_write_1h_tokens=100_000,
    )
    expected = 0.3 * 2.0 + 0.4 * 0.5 + 0.2 * 2.5 + 0.1 * 4.0
    assert cost(usage, WRITING) == pytest.approx(expected)
    # Who has no price for writing charges it as input.
    assert cost(usage, PRICES) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5)


def test_the_list_knows_cache_writes_and_long_requests(table: PriceTable) -> None:
    prices = table.lookup("claude-sonnet-4-5", "https://api.anthropic.com")
    assert prices is not None
    shares = (prices.cached_input, prices.cache_write, prices.cache_write_1h)
    assert shares == pytest.approx(tuple(prices.input * share for share in (0.1, 1.25, 2.0)))
    (start, longer), *_ = prices.longer
    for tokens, per_million in ((start, prices.input), (start + 1, longer.input)):
        spent = cost(Usage(input_tokens=tokens), prices)
        assert spent == pytest.approx(tokens * per_million / 1e6)
    assert longer.input > prices.input


@pytest.mark.parametrize(
    ("model", "tier", "times"),
    [
        pytest.param("gpt-5", "default", 1, id="default"),
        pytest.param("gpt-5", "on_demand", 1, id="another word for it"),
        pytest.param("gpt-5", "flex", 0.5, id="flex of the list"),
        pytest.param("gpt-5", "priority", 2, id="priority of the list"),
        pytest.param("claude-haiku-4-5", "batch", 0.5, id="batch of the list"),
        pytest.param("claude-opus-4-8", "fast", 2, id="a speed of the list"),
        pytest.param("o1-mini", "flex", 0.5, id="flex by its multiplier"),
        pytest.param("gpt-4o", "batch", 0.5, id="batch of configured prices"),
        pytest.param("claude-haiku-4-5", "priority", None, id="a matter of contract"),
        pytest.param("gpt-4o", "priority", None, id="no price of a configured model's tier"),
        pytest.param("gpt-5", "some-new-tier", None, id="unknown"),
        pytest.param("my-own-model", "flex", None, id="unknown model"),
    ],
)
def test_a_tier_has_its_own_price_or_none(
    table: PriceTable, model: str, tier: str, times: float | None
) -> None:
    standard, found = table.lookup(model), table.lookup(model, None, tier)
    if times is None:
        assert found is None
        return
    assert standard is not None
    assert found is not None
    assert found.output == pytest.approx(standard.output * times)


def test_a_configured_multiplier_comes_before_the_list() -> None:
    table = PriceTable({"own": WRITING}, {"priority": 3.0})
    for model in ("own", "gpt-5"):
        standard, found = table.lookup(model), table.lookup(model, None, "priority")
        assert standard is not None
        assert found is not None
        assert found.input == pytest.approx(3 * standard.input)
        assert "priority configured" in found.source
    assert cost(Usage(input_tokens=5, cache_write_tokens=5), table.lookup("own", None, "priority"))


@given(usages, usages)
def test_cost_is_additive_and_never_negative(one: Usage, two: Usage) -> None:
    both, first, second = (cost(u, WRITING) for u in (one + two, one, two))
    assert both is not None
    assert first is not None
    assert second is not None
    assert both == pytest.approx(first + second)
    assert both >= 0


def test_made_up_names_do_not_fill_the_memory(table: PriceTable) -> None:
    for i in range(3000):
        table.lookup(f"made-up-{i}")
    assert len(table._found) <= 1024

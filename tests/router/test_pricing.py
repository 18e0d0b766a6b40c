"""Costs: what is known, from where, and never a made-up zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.router import catalogue
from forethought.router.pricing import Prices, PriceTable, cost, reference_prices
from forethought.router.records import Usage

PRICES = Prices(input=2.0, cached_input=0.5, output=8.0)
counts = st.integers(min_value=0, max_value=10_000_000)
usages = st.builds(
    lambda uncached, cached, output: Usage(
        input_tokens=uncached + cached, cached_tokens=cached, output_tokens=output
    ),
    counts,
    counts,
    counts,
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


@given(usages, usages)
def test_cost_is_additive_and_never_negative(one: Usage, two: Usage) -> None:
    both, first, second = (cost(u, PRICES) for u in (one + two, one, two))
    assert both is not None
    assert first is not None
    assert second is not None
    assert both == pytest.approx(first + second)
    assert both >= 0


def test_made_up_names_do_not_fill_the_memory(table: PriceTable) -> None:
    for i in range(3000):
        table.lookup(f"made-up-{i}")
    assert len(table._found) <= 1024

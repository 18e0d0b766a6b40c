"""What tokens cost, in USD, by model and upstream.

Three sources, in order: the user's own prices, the published list prices that the package
genai-prices keeps, and reference prices for the catalogue's embedded models. A model that
none of them knows has no price: None, never 0.

The reference prices stand for renting the machine that computes the tokens: 2 vCPU at 0.08
USD an hour (a general-purpose cloud machine on demand), divided by the catalogue's tokens
per second of one request. For the 1.5B that is 0.35 USD per million input tokens (64
tokens/s) and 1.39 per million output tokens (16 tokens/s). Requests computed in parallel
cost less than this, an idle machine costs more. Cached input needs almost no computation
but holds memory; it is set to a tenth of the input price, as hosted providers charge.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from forethought.router import catalogue
from forethought.router.records import Usage

MILLION: Final = 1_000_000
RENT_USD_PER_HOUR: Final = 0.08
"""2 vCPU, on demand: see the module's docstring."""

CACHED_SHARE_OF_INPUT_PRICE: Final = 0.1
"""What OpenAI and Anthropic charge for cached input, as a share of the input price."""

MAX_REMEMBERED_LOOKUPS: Final = 1024
"""Clients choose model names freely; the memory for them must not grow with that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """USD per million tokens. ``source`` says where the prices come from.

    Reasoning tokens are output tokens, here as in the providers' bills.
    """

    input: float
    cached_input: float
    output: float
    source: str = "configured"


class PriceTable:
    """Prices by model name, with the user's ``overrides`` first.

    Building it loads the list prices (some 0.3 s), so that no request has to wait for them.
    """

    def __init__(self, overrides: Mapping[str, Prices] | None = None) -> None:
        self._overrides = dict(overrides or {})
        self._list_prices = importlib.import_module("genai_prices.data_snapshot").get_snapshot()
        self._found: dict[tuple[str, str | None], Prices | None] = {}

    def lookup(self, model: str, provider_url: str | None = None) -> Prices | None:
        """Return the prices of ``model`` at the server ``provider_url``; None if unknown.

        At an address that the list does not know (a gateway, a server of one's own), the
        list price of the model's name counts.
        """
        key = (model, provider_url)
        if key not in self._found:
            if len(self._found) >= MAX_REMEMBERED_LOOKUPS:
                self._found.clear()
            self._found[key] = (
                self._overrides.get(model)
                or self._listed(model, provider_url)
                or reference_prices(model)
            )
        return self._found[key]

    def _listed(self, model: str, provider_url: str | None) -> Prices | None:
        for url in (provider_url, None) if provider_url else (None,):
            try:
                provider, found = self._list_prices.find_provider_model(model, None, None, url)
            except LookupError:
                continue
            return _from_list(found.get_prices(datetime.now(UTC)), f"genai-prices:{provider.id}")
        return None


def reference_prices(model: str) -> Prices | None:
    """Return what the catalogue's ``model`` costs on a rented machine; None for others."""
    known = catalogue.MODELS.get(model)
    if known is None:
        return None
    usd_per_s = RENT_USD_PER_HOUR / 3600
    price_in = usd_per_s / known.prefill_tokens_per_s * MILLION
    return Prices(
        input=price_in,
        cached_input=price_in * CACHED_SHARE_OF_INPUT_PRICE,
        output=usd_per_s / known.decode_tokens_per_s * MILLION,
        source="reference",
    )


def cost(usage: Usage, prices: Prices | None) -> float | None:
    """Return the cost of ``usage`` in USD; None where the prices are unknown.

    ``usage.input_tokens`` includes the cached ones, ``usage.output_tokens`` the reasoning.
    """
    if prices is None:
        return None
    cached = min(usage.cached_tokens, usage.input_tokens)
    return (
        (usage.input_tokens - cached) * prices.input
        + cached * prices.cached_input
        + usage.output_tokens * prices.output
    ) / MILLION


def _from_list(listed: Any, source: str) -> Prices | None:
    price_in = _base_price(getattr(listed, "input_mtok", None))
    price_out = _base_price(getattr(listed, "output_mtok", None))
    if price_in is None or price_out is None:
        return None
    cached = _base_price(getattr(listed, "cache_read_mtok", None))
    return Prices(
        input=price_in,
        cached_input=price_in if cached is None else cached,
        output=price_out,
        source=source,
    )


def _base_price(price: Any) -> float | None:
    """Return a price as a number; of prices in tiers by length, the first tier's."""
    if price is None:
        return None
    return float(getattr(price, "base", price))

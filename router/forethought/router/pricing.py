"""What tokens cost, in USD, by model, upstream and service tier.

Three sources, in order: the user's own prices, the published list prices that the package
genai-prices keeps, and reference prices for the catalogue's embedded models. A model that
none of them knows has no price: None, never 0.

A tier other than the standard one has, in order: the user's multiplier of the standard
prices, list prices of its own, the multiplier of ``TIER_MULTIPLIERS``. A tier that none of
them knows has no price either.

The reference prices stand for renting the machine that computes the tokens: 2 vCPU at 0.08
USD an hour (a general-purpose cloud machine on demand), divided by the catalogue's tokens
per second of one request. For the 1.5B that is 0.35 USD per million input tokens (64
tokens/s) and 1.39 per million output tokens (16 tokens/s). Requests computed in parallel
cost less than this, an idle machine costs more. Cached input needs almost no computation
but holds memory; it is set to a tenth of the input price, as hosted providers charge.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from forethought.router import catalogue
from forethought.router.model_names import placed
from forethought.router.records import Usage

MILLION: Final = 1_000_000
RENT_USD_PER_HOUR: Final = 0.08
"""2 vCPU, on demand: see the module's docstring."""

CACHED_SHARE_OF_INPUT_PRICE: Final = 0.1
"""What OpenAI and Anthropic charge for cached input, as a share of the input price."""

MAX_REMEMBERED_LOOKUPS: Final = 1024
"""Clients choose model names freely; the memory for them must not grow with that."""

STANDARD_TIERS: Final = frozenset({"auto", "default", "on_demand", "standard", "standard_only"})
"""What OpenAI, Anthropic and Groq call the tier that the standard prices are for."""

TIER_MULTIPLIERS: Final[Mapping[str, float]] = MappingProxyType({"batch": 0.5, "flex": 0.5})
"""Of the standard prices. OpenAI, Anthropic, Google and Mistral sell batches at half price, and
OpenAI flex at the price of batches. A priority tier's price is a matter of model or contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """USD per million tokens. ``source`` says where the prices come from.

    Reasoning tokens are output tokens, here as in the providers' bills. Input that is written
    to a prompt cache costs ``cache_write``, for an hour ``cache_write_1h``; None is the input
    price, the price of those who charge nothing for it. ``longer``: the prices of requests
    with more input tokens than the number beside them, in rising order.
    """

    input: float
    cached_input: float
    output: float
    cache_write: float | None = None
    cache_write_1h: float | None = None
    longer: tuple[tuple[int, Prices], ...] = ()
    source: str = "configured"

    def times(self, multiplier: float, why: str) -> Prices:
        """These prices, each times ``multiplier``."""
        write, write_1h = self.cache_write, self.cache_write_1h
        return Prices(
            input=self.input * multiplier,
            cached_input=self.cached_input * multiplier,
            output=self.output * multiplier,
            cache_write=None if write is None else write * multiplier,
            cache_write_1h=None if write_1h is None else write_1h * multiplier,
            longer=tuple((start, p.times(multiplier, why)) for start, p in self.longer),
            source=f"{self.source}, {why}",
        )


class PriceTable:
    """Prices by model name, with the user's ``overrides`` first.

    Building it loads the list prices (some 0.3 s), so that no request has to wait for them.

    Args:
        overrides: The standard prices by model.
        tier_multipliers: Prices by service tier, as multiples of the standard prices.
        upstreams: The addresses of upstreams by whose names their models begin.
    """

    def __init__(
        self,
        overrides: Mapping[str, Prices] | None = None,
        tier_multipliers: Mapping[str, float] | None = None,
        upstreams: Mapping[str, str] | None = None,
    ) -> None:
        self._overrides = dict(overrides or {})
        self._multipliers = dict(tier_multipliers or {})
        self._upstreams = dict(upstreams or {})
        self._list_prices = importlib.import_module("genai_prices.data_snapshot").get_snapshot()
        self._found: dict[tuple[str, str | None, str | None], Prices | None] = {}

    def lookup(
        self, model: str, provider_url: str | None = None, tier: str | None = None
    ) -> Prices | None:
        """Return the prices of ``model`` at the server ``provider_url``; None if unknown.

        At an address that the list does not know (a gateway, a server of one's own), the
        list price of the model's name counts. ``tier`` is the service tier in the provider's
        word, such as ``flex``; None is the standard one. A model whose name begins with that of
        an upstream has the prices there, whatever ``provider_url`` says.
        """
        key = (model, provider_url, None if tier in STANDARD_TIERS else tier)
        if key not in self._found:
            if len(self._found) >= MAX_REMEMBERED_LOOKUPS:
                self._found.clear()
            self._found[key] = self._look_up(*key)
        return self._found[key]

    def _look_up(self, model: str, url: str | None, tier: str | None) -> Prices | None:
        own = self._overrides.get(model)
        name, model = placed(model, self._upstreams)
        url = self._upstreams.get(name, url)
        standard = own or self._listed(model, url, None) or reference_prices(model)
        if tier is None or standard is None:
            return standard
        if tier in self._multipliers:
            return standard.times(self._multipliers[tier], f"{tier} configured")
        listed = None if own else self._listed(model, url, tier)
        if listed is not None or tier not in TIER_MULTIPLIERS:
            return listed
        return standard.times(TIER_MULTIPLIERS[tier], tier)

    def _listed(self, model: str, provider_url: str | None, tier: str | None) -> Prices | None:
        now = datetime.now(UTC)
        for url in (provider_url, None) if provider_url else (None,):
            try:
                provider, found = self._list_prices.find_provider_model(model, None, None, url)
            except LookupError:
                continue
            asked = _asked(tier)
            if tier is not None and not _has_variant(found, asked, now):
                return None
            source = f"genai-prices:{provider.id}"
            named = source if tier is None else f"{source}, {tier}"
            return _from_list(found.get_prices(now, asked), named)
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


def cost(usage: Usage, prices: Prices | None, *, output_tokens: int | None = None) -> float | None:
    """Return the cost of one call's ``usage`` in USD; None where the prices are unknown.

    ``usage.input_tokens`` includes the tokens read from and written to a cache,
    ``usage.output_tokens`` the reasoning; ``output_tokens`` stands in their place if given.
    """
    if prices is None:
        return None
    for start, longer in prices.longer:
        if usage.input_tokens > start:
            prices = replace(longer, longer=())
    read = min(usage.cached_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - read)
    for_an_hour = min(usage.cache_write_1h_tokens, written)
    write = prices.input if prices.cache_write is None else prices.cache_write
    write_1h = write if prices.cache_write_1h is None else prices.cache_write_1h
    return (
        (usage.input_tokens - read - written) * prices.input
        + read * prices.cached_input
        + (written - for_an_hour) * write
        + for_an_hour * write_1h
        + (usage.output_tokens if output_tokens is None else output_tokens) * prices.output
    ) / MILLION


def _asked(tier: str | None) -> dict[str, str]:
    """What the price list calls ``tier``: a batch is processing, Anthropic's fast a speed."""
    if tier is None:
        return {}
    return {"processing": tier} if tier == "batch" else {"service_tier": tier, "speed": tier}


def _has_variant(model: Any, asked: Mapping[str, str], now: datetime) -> bool:
    return any(
        all(asked.get(name) == value for name, value in variant.when.items())
        and (variant.constraint is None or variant.constraint.active(now))
        for variant in model.price_variants or ()
    )


def _from_list(listed: Any, source: str) -> Prices | None:
    """The list's prices; each may rise with the length of the input."""
    lengths = {
        tier.start for price in vars(listed).values() for tier in getattr(price, "tiers", ())
    }
    base = _at(listed, 0, source)
    if base is None:
        return None
    return replace(base, longer=tuple(_longer(listed, sorted(lengths), source)))


def _longer(listed: Any, lengths: Iterable[int], source: str) -> Iterable[tuple[int, Prices]]:
    for start in lengths:
        prices = _at(listed, start + 1, source)
        if prices is not None:
            yield start, prices


def _at(listed: Any, input_tokens: int, source: str) -> Prices | None:
    price_in = _price(listed, "input_mtok", input_tokens)
    price_out = _price(listed, "output_mtok", input_tokens)
    if price_in is None or price_out is None:
        return None
    cached = _price(listed, "cache_read_mtok", input_tokens)
    return Prices(
        input=price_in,
        cached_input=price_in if cached is None else cached,
        output=price_out,
        cache_write=_price(listed, "cache_write_mtok", input_tokens),
        cache_write_1h=_price(listed, "cache_write_1h_mtok", input_tokens),
        source=source,
    )


def _price(listed: Any, name: str, input_tokens: int) -> float | None:
    price = getattr(listed, name, None)
    if price is None:
        return None
    reached = [tier.price for tier in getattr(price, "tiers", ()) if input_tokens > tier.start]
    return float(reached[-1] if reached else getattr(price, "base", price))

"""What is served: the settings, and what the upstream says of its models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import httpx2

from forethought.api.settings import Settings
from forethought.api.upstream_settings import NamedUpstreamSettings
from forethought.api.upstreams import model_alias
from forethought.router.errors import ConfigError, UpstreamError
from forethought.router.incoming import AUTO
from forethought.router.serving import NamedUpstream, Serving
from forethought.router.upstream import Upstream
from forethought.router.upstream.several import upstream_for

log = logging.getLogger(__name__)

LIST_PATIENCE_S: Final = 5.0
"""The start waits no longer to see whether an alias hides a model."""


async def serving_of(settings: Settings, upstream: Upstream) -> Serving:
    """What ``settings`` ask for, before ``upstream``, which has started.

    Raises:
        ConfigError: An alias or a fallback names what cannot be.
    """
    serving = Serving(
        model=None if settings.model is None else settings.resolved(settings.model),
        aliases={name: settings.resolved(name) for name in settings.model_aliases},
        fallbacks=_fallbacks(settings),
        upstreams={name: _named(one) for name, one in settings.upstreams.items()},
        default=settings.default_upstream,
        speaks_anthropic=settings.speaks_anthropic,
        native_effort=settings.native_effort,
        native_responses=settings.native_responses,
        log_text=settings.log_text,
        ask_usage=settings.stream_usage,
        recall=settings.recall,
    )
    if settings.embedded:
        return _embedded(settings, serving)
    serving = replace(serving, provider_url=upstream.base_url)
    if serving.speaks_anthropic and serving.native_effort is None:
        serving = replace(serving, native_effort=True)  # the translation knows each model's way
    if serving.aliases:
        await _say_what_is_hidden(serving, upstream)
    if serving.model is not None:
        return serving
    only = await _only_model(upstream_for(upstream)[0])
    return replace(serving, model=None if only is None else settings.placed(only))


def _named(settings: NamedUpstreamSettings) -> NamedUpstream:
    anthropic = settings.speaks_anthropic
    return NamedUpstream(
        speaks_anthropic=anthropic,
        native_effort=True if anthropic and settings.native_effort is None
        else settings.native_effort,
        native_responses=settings.native_responses,
    )  # fmt: skip


def _fallbacks(settings: Settings) -> tuple[str, ...]:
    models = tuple(settings.resolved(name) for name in settings.fallbacks)
    if len(set(models)) < len(models):
        raise ConfigError(
            f"The setting 'fallbacks' names a model twice: {', '.join(models)}.",
            param="fallbacks",
            remedy="Name each once; aliases count as what they stand for.",
        )
    if AUTO in models:
        raise ConfigError(
            f"The setting 'fallbacks' leads to {AUTO} by an alias.",
            param="fallbacks",
            remedy="Name a model of an upstream.",
        )
    if models and settings.embedded:
        raise ConfigError(
            "The embedded upstream has but one model, so none can stand in for it.",
            param="fallbacks",
            remedy="Leave 'fallbacks' out, or name upstreams by upstream_base_url or upstreams.",
        )
    return models


def _embedded(settings: Settings, serving: Serving) -> Serving:
    only = model_alias(settings)
    for name, target in serving.aliases.items():
        if target not in {only, AUTO}:
            raise ConfigError(
                f"The alias {name!r} stands for {target!r}, but {only!r} is all that is served.",
                param=f"model_aliases.{name}",
                remedy=f"Let it stand for {only!r}, or leave it out.",
            )
    return replace(serving, model=only, models=frozenset({only}))


async def _say_what_is_hidden(serving: Serving, upstream: Upstream) -> None:
    try:
        async with asyncio.timeout(LIST_PATIENCE_S):
            listed = await _listed(upstream)
    except TimeoutError:
        listed = None
    if listed is None:
        log.warning("the upstream does not list its models: an alias may hide one")
        return
    for name in sorted(set(listed) & set(serving.aliases)):
        log.warning(
            "the alias %r hides the upstream's model of that name: its requests go to %r",
            name,
            serving.aliases[name],
        )


async def _only_model(upstream: Upstream) -> str | None:
    """The upstream's model, if it has but one: of several, the user has to choose."""
    names = await _listed(upstream) or []
    return names[0] if len(names) == 1 else None


async def _listed(upstream: Upstream) -> Sequence[str] | None:
    """The names of the upstream's models; None where it does not tell them."""
    try:
        data = httpx2.Response(200, content=(await upstream.models()).body).json()["data"]
        return [str(model["id"]) for model in data]
    except (UpstreamError, ValueError, KeyError, TypeError):
        return None

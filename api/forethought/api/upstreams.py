"""Who answers: the upstreams that the settings ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from forethought.api.settings import DEFAULT_MODEL, Settings
from forethought.api.upstream_settings import NamedUpstreamSettings
from forethought.router import catalogue
from forethought.router.upstream import Upstream
from forethought.router.upstream.anthropic import AnthropicUpstream
from forethought.router.upstream.llamacpp import EmbeddedUpstream
from forethought.router.upstream.openai import OpenAIUpstream
from forethought.router.upstream.patience import Timeouts
from forethought.router.upstream.several import SeveralUpstreams


def model_alias(settings: Settings) -> str:
    """The embedded model's name for clients: the catalogue's, or that of its file."""
    name = settings.model or DEFAULT_MODEL
    return name if name in catalogue.MODELS else Path(name).stem


def upstream_of(settings: Settings) -> Upstream:
    """The upstream that ``settings`` ask for, not yet started; several of them as one."""
    if not settings.upstreams:
        return _unnamed(settings)
    members = {name: _named(name, one, settings) for name, one in settings.upstreams.items()}
    if settings.upstream_base_url is not None:
        members = {"": _unnamed(settings), **members}
    return SeveralUpstreams(members, settings.default_upstream)


def _unnamed(settings: Settings) -> Upstream:
    if settings.upstream_base_url is not None:
        return _remote(
            settings.upstream_base_url,
            settings.upstream_api_key,
            anthropic=settings.speaks_anthropic,
            timeouts=_timeouts(settings),
            max_retries=settings.upstream_max_retries,
            mark_prefix=settings.upstream_cache_prefix,
        )
    return EmbeddedUpstream(
        catalogue.resolve(settings.model or DEFAULT_MODEL),
        alias=model_alias(settings),
        n_ctx=settings.n_ctx,
        parallel=settings.parallel,
        threads=settings.threads,
        log_path=settings.data_dir / "llamacpp.log",
        timeouts=_timeouts(settings),
    )


def _named(name: str, own: NamedUpstreamSettings, settings: Settings) -> Upstream:
    common = _timeouts(settings)
    retries = own.max_retries
    return _remote(
        own.base_url,
        own.api_key,
        anthropic=own.speaks_anthropic,
        name=name,
        timeouts=replace(
            common,
            connect_s=own.connect_timeout_s or common.connect_s,
            first_token_s=own.first_token_timeout_s or common.first_token_s,
            between_tokens_s=own.between_tokens_timeout_s or common.between_tokens_s,
            total_s=own.timeout_s or common.total_s,
        ),
        max_retries=settings.upstream_max_retries if retries is None else retries,
        mark_prefix=own.cache_prefix,
    )


def _remote(
    base_url: str,
    api_key: SecretStr | None,
    *,
    anthropic: bool,
    timeouts: Timeouts,
    max_retries: int,
    mark_prefix: bool,
    name: str | None = None,
) -> Upstream:
    key = None if api_key is None else api_key.get_secret_value()
    if not anthropic:
        return OpenAIUpstream(
            base_url, key, name=name or "openai", timeouts=timeouts, max_retries=max_retries
        )
    return AnthropicUpstream(
        base_url,
        key,
        name=name or "anthropic",
        timeouts=timeouts,
        max_retries=max_retries,
        mark_prefix=mark_prefix,
    )


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        connect_s=settings.upstream_connect_timeout_s,
        first_token_s=settings.upstream_first_token_timeout_s,
        between_tokens_s=settings.upstream_between_tokens_timeout_s,
        total_s=settings.upstream_timeout_s,
    )

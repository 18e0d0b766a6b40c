"""Who answers: the upstream that the settings ask for."""

from __future__ import annotations

from pathlib import Path

from forethought.api.settings import DEFAULT_MODEL, Settings
from forethought.router import catalogue
from forethought.router.upstream import Upstream
from forethought.router.upstream.anthropic import AnthropicUpstream
from forethought.router.upstream.llamacpp import EmbeddedUpstream
from forethought.router.upstream.openai import OpenAIUpstream
from forethought.router.upstream.patience import Timeouts


def model_alias(settings: Settings) -> str:
    """The embedded model's name for clients: the catalogue's, or that of its file."""
    name = settings.model or DEFAULT_MODEL
    return name if name in catalogue.MODELS else Path(name).stem


def upstream_of(settings: Settings) -> Upstream:
    """The upstream that ``settings`` ask for, not yet started."""
    timeouts = Timeouts(
        connect_s=settings.upstream_connect_timeout_s,
        first_token_s=settings.upstream_first_token_timeout_s,
        between_tokens_s=settings.upstream_between_tokens_timeout_s,
        total_s=settings.upstream_timeout_s,
    )
    if settings.upstream_base_url is not None:
        secret = settings.upstream_api_key
        key = None if secret is None else secret.get_secret_value()
        if settings.speaks_anthropic:
            return AnthropicUpstream(
                settings.upstream_base_url,
                key,
                timeouts=timeouts,
                max_retries=settings.upstream_max_retries,
                mark_prefix=settings.upstream_cache_prefix,
            )
        return OpenAIUpstream(
            settings.upstream_base_url,
            key,
            timeouts=timeouts,
            max_retries=settings.upstream_max_retries,
        )
    return EmbeddedUpstream(
        catalogue.resolve(settings.model or DEFAULT_MODEL),
        alias=model_alias(settings),
        n_ctx=settings.n_ctx,
        parallel=settings.parallel,
        threads=settings.threads,
        log_path=settings.data_dir / "llamacpp.log",
        timeouts=timeouts,
    )

"""The settings of upstreams: what of them follows from their addresses, and those with a name."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, SecretStr

Api = Literal["openai", "anthropic"]

MAX_RETRIES: Final = 10

_OPENAIS_OWN: Final = re.compile(r"https?://api\.openai\.com(?:[:/]|$)", re.IGNORECASE)
_ANTHROPICS_OWN: Final = re.compile(r"https?://api\.anthropic\.com(?:[:/]|$)", re.IGNORECASE)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_TAKEN: Final = ("default", "forethought")
"""``forethought/auto`` is no model of an upstream, and "default" is the one without a name."""


def speaks_anthropic(base_url: str, api: Api | None) -> bool:
    """Whether the upstream is asked by Anthropic's Messages API."""
    return api == "anthropic" if api else _ANTHROPICS_OWN.match(base_url) is not None


def keeps_responses(base_url: str, responses: bool | None) -> bool:
    """Whether requests that have to be remembered pass on to the upstream."""
    return _OPENAIS_OWN.match(base_url) is not None if responses is None else responses


def _an_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        message = "it is no address such as http://127.0.0.1:8080/v1"
        raise ValueError(message)
    return url


def _a_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name in _TAKEN:
        message = (
            "an upstream's name is made of small letters, digits, - and _, "
            f"and is not {' or '.join(_TAKEN)}"
        )
        raise ValueError(message)
    return name


UpstreamName = Annotated[str, AfterValidator(_a_name)]


class NamedUpstreamSettings(BaseModel):
    """An upstream by whose name its models begin. What is None here the server's settings say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: Annotated[str, AfterValidator(_an_address)]
    api_key: SecretStr | None = None
    api: Api | None = None
    """What it speaks; None: Anthropic's API at its own address, OpenAI's elsewhere."""
    responses: bool | None = None
    """Whether it keeps responses; None: at OpenAI's own address."""
    native_effort: bool | None = None
    """Whether its models take reasoning_effort; None: by their names."""
    cache_prefix: bool = False
    """Anthropic: mark the stable prefix for its prompt cache where the client did not."""
    connect_timeout_s: PositiveFloat | None = None
    first_token_timeout_s: PositiveFloat | None = None
    between_tokens_timeout_s: PositiveFloat | None = None
    timeout_s: PositiveFloat | None = None
    max_retries: int | None = Field(default=None, ge=0, le=MAX_RETRIES)

    @property
    def speaks_anthropic(self) -> bool:
        return speaks_anthropic(self.base_url, self.api)

    @property
    def native_responses(self) -> bool:
        return keeps_responses(self.base_url, self.responses)

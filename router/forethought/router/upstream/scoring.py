"""Surprisal: how unlikely a language model finds a query after its context, where it can be asked.

The mean negative log probability of the query's tokens given the context, in nats a token, as in
the paper (arXiv 2504.13171, section 5.3). No chat template: a chat model is asked about the user's
words as about any text that goes on.

Two kinds of server can say it:

- with ``echo`` and ``logprobs`` on ``/completions``, OpenAI's form of old (vLLM, SGLang): one call
  that reads context and query and writes one token;
- llama.cpp's, which gives log probabilities of what it writes alone: a grammar of token ids makes
  it write the query, whose probabilities it reports as they are without the grammar.

OpenAI and Anthropic answer neither.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx2

from forethought.router.errors import UpstreamError
from forethought.router.upstream.base import PassesOn, Upstream, UpstreamReply
from forethought.router.upstream.llamacpp import EmbeddedUpstream

SEPARATOR: Final = "\n\n"
"""Between the context and the query."""

MAX_TOKENS: Final = 256
"""llama.cpp writes the tokens one by one: of a longer query only the first are scored."""

_TOKENIZE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Surprisal:
    """The mean negative log probability of ``n_tokens`` tokens of a query, in nats a token."""

    nats_per_token: float
    n_tokens: int


class Scorer(Protocol):
    """A language model that says how unlikely a query is."""

    @property
    def model(self) -> str: ...

    async def score(self, context: str, query: str) -> Surprisal:
        """The surprisal of ``query`` after ``context``.

        Raises:
            UpstreamError: It cannot be asked now, or not at all (``CannotScore``).
        """
        ...


class CannotScore(UpstreamError):
    """The upstream answers, but without the log probabilities: asking again is of no use."""


def scorer_of(upstream: Upstream, model: str) -> Scorer | None:
    """Who scores for ``upstream``; None where nothing of it could."""
    if isinstance(upstream, EmbeddedUpstream):
        return LlamaCppScorer(upstream, model)
    return EchoScorer(upstream, model) if isinstance(upstream, PassesOn) else None


class EchoScorer:
    """Asks ``/completions`` to echo the prompt with its log probabilities."""

    def __init__(self, upstream: PassesOn, model: str) -> None:
        self._upstream = upstream
        self.model = model

    async def score(self, context: str, query: str) -> Surprisal:
        prefix = context + SEPARATOR
        body = {
            "model": self.model, "prompt": prefix + query, "echo": True, "logprobs": 1,
            "max_tokens": 1, "temperature": 0,
        }  # fmt: skip
        said = _choice(await self._upstream.send("POST", "/completions", body, {}), self.model)
        try:
            found = said["logprobs"]
            pairs = zip(found["text_offset"], found["token_logprobs"], strict=True)
            # The first token of all has no probability; what was written comes after the prompt.
            own = [p for at, p in pairs if len(prefix) <= at < len(prefix) + len(query)]
        except (KeyError, TypeError, ValueError):
            own = []
        return _mean(own, self.model)


class LlamaCppScorer:
    """Makes llama.cpp's server write the query, and reads what it thought of each token."""

    def __init__(self, upstream: EmbeddedUpstream, model: str) -> None:
        self._upstream = upstream
        self.model = model

    async def score(self, context: str, query: str) -> Surprisal:
        tokens = (await self._tokens(query))[:MAX_TOKENS]
        if not tokens:
            raise CannotScore("An empty query has no surprisal.", param="query")
        body = {
            "model": self.model, "prompt": context + SEPARATOR, "max_tokens": len(tokens),
            "logprobs": 1, "temperature": 0, "samplers": [], "cache_prompt": True,
            "grammar": "root ::= " + " ".join(f"<[{token}]>" for token in tokens),
        }  # fmt: skip
        said = _choice(await self._upstream.send("POST", "/completions", body, {}), self.model)
        try:
            written = said["logprobs"]["content"]
            own = [one["logprob"] for one in written]
            if [one["id"] for one in written] != tokens:
                own = []
        except (KeyError, TypeError):
            own = []
        return _mean(own, self.model)

    async def _tokens(self, text: str) -> list[int]:
        # Not below /v1, where the upstream's own calls go.
        address = self._upstream.base_url.removesuffix("/v1") + "/tokenize"
        headers = {"authorization": f"Bearer {self._upstream.api_key}"}
        sent = {"content": text, "parse_special": False}
        try:
            async with httpx2.AsyncClient(timeout=_TOKENIZE_TIMEOUT_S, trust_env=False) as client:
                reply = await client.post(address, json=sent, headers=headers)
                found = reply.raise_for_status().json()["tokens"]
        except (httpx2.HTTPError, httpx2.InvalidURL, KeyError, ValueError) as error:
            message = f"The embedded model's tokenizer cannot be asked ({error})."
            raise UpstreamError(message, param=self.model) from error
        return [int(token) for token in found]


def _choice(reply: UpstreamReply, model: str) -> Mapping[str, Any]:
    if reply.status >= httpx2.codes.INTERNAL_SERVER_ERROR or reply.status in {
        httpx2.codes.TOO_MANY_REQUESTS,
        httpx2.codes.REQUEST_TIMEOUT,
    }:
        message = f"{model} could not score a query (HTTP status {reply.status})."
        raise UpstreamError(message, param=model)
    try:
        choice = json.loads(reply.body)["choices"][0]
    except (ValueError, LookupError, TypeError):
        choice = None
    if not isinstance(choice, dict):
        message = f"{model} cannot score queries (HTTP status {reply.status})."
        raise CannotScore(message, param=model)
    return choice


def _mean(log_probabilities: Sequence[Any], model: str) -> Surprisal:
    known = [p for p in log_probabilities if isinstance(p, float | int) and math.isfinite(p)]
    if not known or len(known) != len(log_probabilities):
        message = f"{model} gives no log probabilities of a prompt."
        raise CannotScore(message, param=model)
    return Surprisal(-math.fsum(known) / len(known), len(known))

"""Servers that answer the requests: OpenAI-compatible, Anthropic's, or an embedded llama.cpp."""

from __future__ import annotations

from forethought.router.upstream.base import (
    Forwards,
    PassesOn,
    SpeaksMessages,
    Upstream,
    UpstreamReply,
    UpstreamStream,
)

__all__ = ["Forwards", "PassesOn", "SpeaksMessages", "Upstream", "UpstreamReply", "UpstreamStream"]

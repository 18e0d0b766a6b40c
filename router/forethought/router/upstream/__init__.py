"""Servers that answer the requests: OpenAI-compatible, Anthropic's, or an embedded llama.cpp."""

from __future__ import annotations

from forethought.router.upstream.base import (
    PassesOn,
    SpeaksMessages,
    Upstream,
    UpstreamReply,
    UpstreamStream,
)

__all__ = ["PassesOn", "SpeaksMessages", "Upstream", "UpstreamReply", "UpstreamStream"]

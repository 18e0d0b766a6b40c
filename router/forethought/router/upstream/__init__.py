"""Servers that answer the requests: any OpenAI-compatible one, or an embedded llama.cpp."""

from __future__ import annotations

from forethought.router.upstream.base import Upstream, UpstreamReply, UpstreamStream

__all__ = ["Upstream", "UpstreamReply", "UpstreamStream"]

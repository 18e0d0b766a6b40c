"""Requests, contexts and learned contexts, as the tests of the router's core need them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from forethought.router.context import Sightings, Split, message_hashes, split
from forethought.router.records import Context, LearnedContext, Message, Note, Usage
from forethought.router.strategies import Request

DOCUMENT = " ".join(f"Clause {n}: the tenant pays {n} dollars." for n in range(1, 9))
"""Long enough to be a document."""

QUESTION = "How much is clause 3?"


def message(role: str, content: Any, **more: Any) -> Message:
    return {"role": role, "content": content, **more}


def user(content: Any) -> Message:
    return message("user", content)


def system(content: Any) -> Message:
    return message("system", content)


def chat(*messages: Message, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), **fields}


def cut(
    body: dict[str, Any],
    *,
    known: Collection[str] = (),
    seen: Sightings | None = None,
    tenant: str = "acme",
) -> Split:
    """Split as the router does: what the tenant knows, then what it sent before."""
    whole = message_hashes(body)[-1]
    sightings = seen or Sightings()
    found = split(
        body,
        known=lambda h: h in known,
        shared=lambda h: sightings.shared(tenant, h, whole),
    )
    sightings.add(tenant, found.boundaries, whole)
    return found


def make_learned(text: str = "Notes: clause 3 costs 3 dollars.", **changes: Any) -> LearnedContext:
    values: dict[str, Any] = {
        "id": "lc_1",
        "context_id": "ctx_1",
        "version": 1,
        "level": "k3r1",
        "model": "m",
        "notes": (
            Note(
                kind="question",
                text="How much is clause 3?",
                answer="3",
                confidence=1.0,
                verified=True,
            ),
        ),
        "text": text,
        "tokens": 10,
        "usage": Usage(),
        "cost_usd": 0.001,
        "created_at": 5.0,
    }
    return LearnedContext(**(values | changes))


def make_request(
    body: dict[str, Any], *, learned: LearnedContext | None = None, native_effort: bool = False
) -> Request:
    return Request(body=body, split=cut(body), learned=learned, native_effort=native_effort)


def make_context(body: dict[str, Any], **changes: Any) -> Context:
    found = cut(body)
    values: dict[str, Any] = {
        "id": "ctx_1",
        "tenant": "acme",
        "hash": found.hash or "",
        "messages": found.context_messages,
        "text": found.context_text,
        "created_at": 10.0,
    }
    return Context(**(values | changes))

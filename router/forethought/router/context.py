"""Find the context in a request: the stable prefix that many queries share.

A request can end its context after any message but the last, or, inside the last user
message, after any paragraph ("document, blank line, question") or in front of a line that is
labelled as the question ("Question: ..."). Each such place is a *boundary* with a hash of all that
precedes it. The context of a request is, in this order:

1. the longest boundary that is a known context of the tenant; of a conversation that began with
   document and question in one message also one inside that message;
2. the longest boundary that an earlier, different request of the tenant also had. A boundary inside
   an earlier message is none of these: the turns of one conversation show no sharing;
3. on first sight: the messages before the last user message; or, for a lone user message, its text
   before the question where that is long enough to be a document. The question is what is labelled
   so, else the last paragraph.

The hash of a prefix that is one piece of text depends on that text alone, not on its role,
so a document registered by ``POST /v1/contexts`` is found again whether the client sends it as
its first message, in any role, or in front of its question. Tools are part of a context.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final

from forethought.router.errors import InvalidRequest
from forethought.router.records import Message

MIN_TEXT_PREFIX: Final = 200
"""Characters from which a paragraph boundary can end a context: shorter ones are phrases."""

MAX_TEXT_BOUNDARIES: Final = 64
"""A message has at most so many paragraph boundaries (the last ones): bounds the hashing."""

_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
"""Made once: json.dumps would make one for each message."""

_PARAGRAPH: Final = re.compile(r"\n[ \t\r]*\n\s*")

_LABEL: Final = re.compile(
    r"[#* \t]*(?P<label>(?:user(?:'s)? )?(?:question|query)\**:|<(?:user_)?(?:question|query)>)",
    re.IGNORECASE,
)
"""How RAG prompts name the question, at the beginning of a line: LangChain's, LlamaIndex',
Haystack's; XML tags."""

_LABEL_STEMS: Final = ("uestion", "uery")
_LABEL_BEGINS: Final = 24
"""Characters of a line before the stem at most: marks, blanks and "User's q"."""

_Place = tuple[int, int]
"""Where a context ends in a text, and what follows it begins."""

_Label = tuple[int, int]
"""Where a line that is labelled as the question begins, and where its label does."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place where the context can end: before message ``index``, or ``offset`` into it."""

    index: int
    offset: int | None
    hash: str
    size: int
    """Characters of the context, roughly: what a learned context would save re-reading of."""
    earlier: bool = False
    """Inside a message before the last user's: only a known context ends there."""


@dataclass(frozen=True, slots=True)
class Split:
    """A request cut into context and query. ``boundary`` is None where there is no context."""

    boundary: Boundary | None
    context_messages: tuple[Message, ...]
    context_text: str
    query: str
    boundaries: tuple[Boundary, ...]

    @property
    def hash(self) -> str | None:
        return None if self.boundary is None else self.boundary.hash


class Sightings:
    """Boundaries seen in earlier requests, by tenant: bounded, least recently seen out first."""

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._seen: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = Lock()

    def shared(self, tenant: str, boundary: str, request: str) -> bool:
        """Whether another request than ``request`` (a hash of it whole) had this boundary."""
        first = self._seen.get((tenant, boundary))
        return first is not None and first != request

    def add(self, tenant: str, boundaries: Sequence[Boundary], request: str) -> None:
        """Remember that ``request`` had these boundaries, those inside earlier turns left out."""
        with self._lock:
            for boundary in boundaries:
                if boundary.earlier:
                    continue
                key = (tenant, boundary.hash)
                self._seen.setdefault(key, request)
                self._seen.move_to_end(key)
            while len(self._seen) > self._limit:
                self._seen.popitem(last=False)


def text_of(content: Any) -> str:
    """The plain text of a message's ``content``: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p.get("text", "") for p in content if isinstance(p, Mapping)]
        return "\n".join(p for p in parts if isinstance(p, str) and p)
    return ""


def context_hash(messages: Sequence[Message], tools: Any = None) -> str:
    """Identity of a context. One message of text without tools counts by its text alone."""
    sole = _sole_text_hash(messages[0], tools) if len(messages) == 1 else None
    return sole or _chain(messages, tools)[-1]


def message_hashes(body: Mapping[str, Any]) -> list[str]:
    """The hash of a request's conversation after each of its messages.

    The last is the identity of the whole: repeats of it say nothing about sharing.
    """
    return _chain(body["messages"], body.get("tools"))


def split(
    body: Mapping[str, Any],
    *,
    known: Callable[[str], bool],
    shared: Callable[[str], bool],
    boundaries: Sequence[Boundary] | None = None,
) -> Split:
    """Cut a chat-completion request into context and query.

    Args:
        body: The request; ``messages`` has been checked by ``check_messages``.
        known: Whether a hash is a context of this tenant.
        shared: Whether a hash was a boundary of an earlier, different request.
        boundaries: What ``boundaries_of`` found in the body, if that is at hand.
    """
    messages: list[Message] = body["messages"]
    last = _last_user(messages)
    if boundaries is None:
        boundaries = boundaries_of(body, message_hashes(body))
    chosen = next((b for b in reversed(boundaries) if known(b.hash)), None)
    if chosen is None:
        chosen = next((b for b in reversed(boundaries) if not b.earlier and shared(b.hash)), None)
    if chosen is None:
        chosen = _first_sight(boundaries, messages[last], last)
    return _cut(messages, chosen, last, tuple(boundaries))


def boundaries_of(body: Mapping[str, Any], hashes: Sequence[str]) -> list[Boundary]:
    """Every place up to the last user message where the context can end, in order.

    ``hashes`` are the body's ``message_hashes``.
    """
    messages, tools = body["messages"], body.get("tools")
    last = _last_user(messages)
    found: list[Boundary] = []
    size, left = 0, MAX_TEXT_BOUNDARIES
    alone = _chain((), tools)[-1] if tools else None
    for i, message in enumerate(messages[: last + 1]):
        before = hashes[i - 1] if i else alone
        content = message.get("content")
        if isinstance(content, str) and (i == last or message["role"] == "user"):
            most = MAX_TEXT_BOUNDARIES if i == last else left
            places = _places(content, _labels(content))
            inside = _text_boundaries(content, places, i, size, before, most)
            left -= len(inside)
            found += inside if i == last else [replace(b, earlier=True) for b in inside]
        if i < last:
            size += len(text_of(content))
            sole = _sole_text_hash(messages[0], tools) if i == 0 else None
            found.append(Boundary(i + 1, None, sole or hashes[i], size))
    return found


def check_messages(body: Mapping[str, Any]) -> None:
    """Raise InvalidRequest where ``messages`` is not a list of chat messages."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest(
            "'messages' has to be a list of at least one message.",
            param="messages",
            remedy='Send for instance [{"role": "user", "content": "Hello"}].',
        )
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(
                f"'messages[{i}]' has to be an object with a 'role'.",
                param=f"messages[{i}].role",
                remedy="Use one of system, developer, user, assistant, tool.",
            )
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise InvalidRequest(
                f"'messages[{i}].content' has to be a string or a list of parts.",
                param=f"messages[{i}].content",
            )


def plain_text(messages: Sequence[Message]) -> str:
    """Messages as one text, for features and sleep. Roles are named where there are several."""
    if len(messages) == 1:
        return text_of(messages[0].get("content")).strip()
    return "\n\n".join(f"{m['role']}: {text_of(m.get('content'))}".strip() for m in messages)


def _sole_text_hash(message: Message, tools: Any) -> str | None:
    """The hash of the text of a lone message that holds nothing else; None for any other.

    What shows no text (an image, a tool call) has to count: else all images were one context.
    """
    if tools or message.get("tool_calls"):
        return None
    content = message.get("content")
    if isinstance(content, list) and not all(map(_is_text_part, content)):
        return None
    text = text_of(content).strip()
    return hashlib.sha256(b"text\0" + text.encode(errors="replace")).hexdigest() if text else None


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and part.get("type", "text") == "text"
        and isinstance(part.get("text"), str)
    )


def _last_user(messages: Sequence[Message]) -> int:
    return next(
        (i for i in range(len(messages) - 1, -1, -1) if messages[i]["role"] == "user"),
        len(messages) - 1,
    )


def _text_boundaries(
    text: str,
    places: Sequence[_Place],
    index: int,
    before: int,
    chain: str | None,
    most: int,
) -> list[Boundary]:
    begin, stop = len(text) - len(text.lstrip()), len(text.rstrip())
    places = [
        (start, end) for start, end in places if start - begin >= MIN_TEXT_PREFIX and end < stop
    ]
    if not most or not places:
        return []
    digest = hashlib.sha256(b"text\0" if chain is None else f"{chain}\0".encode())
    done = begin
    found = []
    for start, offset in places[-most:]:
        end = start  # what is registered is hashed without the blanks around it
        while text[end - 1].isspace():
            end -= 1
        digest.update(text[done:end].encode(errors="replace"))
        done = end
        found.append(Boundary(index, offset, digest.copy().hexdigest(), before + end - begin))
    return found


def _places(text: str, labels: Sequence[_Label]) -> list[_Place]:
    """Where a paragraph ends and the next begins, and the line breaks before labelled questions."""
    found = [match.span() for match in _PARAGRAPH.finditer(text)]
    lines = [line for line, _ in labels if line]
    if not lines:
        return found
    places: list[_Place] = []
    for start, end in sorted([*found, *((line - 1, line) for line in lines)]):
        if not places or start >= places[-1][1]:  # else the label begins a paragraph
            places.append((start, end))
    return places


def _labels(text: str) -> list[_Label]:
    """The lines that are labelled as a question.

    The words are looked for before the lines: a document has many lines, and few such words.
    """
    found = set()
    for stem in _LABEL_STEMS:
        at = text.find(stem)
        while at >= 0:
            line = text.rfind("\n", max(0, at - _LABEL_BEGINS), at) + 1
            if (line or at <= _LABEL_BEGINS) and (match := _LABEL.match(text, line)):
                found.add((line, match.start("label")))
            at = text.find(stem, at + 1)
    return sorted(found)


def _chain(messages: Sequence[Message], tools: Any) -> list[str]:
    """Hash after each message: chain[i] covers the tools and messages[: i + 1]."""
    digest = hashlib.sha256(b"messages\0")
    if tools:
        digest.update(_canonical(_without_marks(tools)))
    hashes = []
    for message in messages:
        digest.update(b"\0" + _canonical(_plain(message)))
        hashes.append(digest.copy().hexdigest())
    return hashes or [digest.hexdigest()]


def _plain(message: Message) -> Message:
    """A message without what does not change what it says.

    Clients move their cache marks from turn to turn, and a marked text has to be a list.
    """
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = _without_marks(content)
    if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].keys() == {"type", "text"}:
        return {**message, "content": parts[0]["text"]}
    return {**message, "content": parts}


def _without_marks(parts: Any) -> Any:
    if not isinstance(parts, list):
        return parts
    return [
        {name: value for name, value in part.items() if name != "cache_control"}
        if isinstance(part, dict) and "cache_control" in part
        else part
        for part in parts
    ]


def _canonical(value: Any) -> bytes:
    return _JSON.encode(value).encode()


def _first_sight(boundaries: Sequence[Boundary], asked: Message, last: int) -> Boundary | None:
    whole_messages = [b for b in boundaries if b.offset is None]
    if whole_messages:
        return whole_messages[-1]
    if not boundaries or last:
        return None
    content = asked.get("content")
    labels = _labels(content) if isinstance(content, str) else []
    if not labels:
        return boundaries[-1]
    # What follows the question, such as the document, differs with it.
    return next((b for b in reversed(boundaries) if (b.offset or 0) <= labels[-1][1]), None)


def _cut(
    messages: Sequence[Message], at: Boundary | None, last: int, boundaries: tuple[Boundary, ...]
) -> Split:
    user_text = text_of(messages[last].get("content"))
    if at is None:
        return Split(None, (), "", user_text.strip(), boundaries)
    context = list(messages[: at.index])
    query = user_text
    if at.offset is not None:
        text = text_of(messages[at.index].get("content"))
        context.append({**messages[at.index], "content": text[: at.offset].rstrip()})
        query = user_text if at.earlier else text[at.offset :]
    return Split(at, tuple(context), plain_text(context), query.strip(), boundaries)

"""Made-up requests of both kinds."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ids = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
names = st.from_regex(r"[a-z_]{1,10}", fullmatch=True)
schemas = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(names, st.just({"type": "string"}))}
)
arguments = st.dictionaries(names, st.one_of(texts, st.integers(), st.booleans()), max_size=3)
marks: st.SearchStrategy[Json] = st.one_of(
    st.just({}), st.just({"cache_control": {"type": "ephemeral"}})
)


@st.composite
def blocks_of_text(draw: st.DrawFn) -> Json:
    return {"type": "text", "text": draw(texts), **draw(marks)}


@st.composite
def images(draw: st.DrawFn) -> Json:
    url: st.SearchStrategy[Json] = st.just({"type": "url", "url": "https://x.y/z.png"})
    inline: st.SearchStrategy[Json] = st.just(
        {"type": "base64", "media_type": "image/png", "data": "aGk="}
    )
    return {"type": "image", "source": draw(st.one_of(url, inline)), **draw(marks)}


def _content(blocks: list[Json]) -> str | list[Json]:
    """As the translation writes it: one plain text is a string."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


@st.composite
def conversations(draw: st.DrawFn) -> list[Json]:
    """Turns in Anthropic's form: each call has its result in the turn after."""
    said = st.lists(st.one_of(blocks_of_text(), images()), min_size=1, max_size=3)
    turns: list[Json] = [{"role": "user", "content": _content(draw(said))}]
    for _ in range(draw(st.integers(0, 2))):
        thoughts: list[Json] = draw(
            st.sampled_from([[], [{"type": "thinking", "thinking": "Hm", "signature": "s"}]])
        )
        calls = [
            {"type": "tool_use", "id": call_id, "name": draw(names), "input": draw(arguments)}
            for call_id in draw(st.lists(ids, max_size=2, unique=True))
        ]
        answer = draw(st.lists(blocks_of_text(), min_size=0 if calls else 1, max_size=2))
        turns.append({"role": "assistant", "content": _content([*thoughts, *answer, *calls])})
        results: list[Json] = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": draw(texts)}
            for call in calls
        ]
        asked = draw(st.lists(blocks_of_text(), min_size=0 if calls else 1, max_size=2))
        turns.append({"role": "user", "content": _content([*results, *asked])})
    return turns


@st.composite
def tools(draw: st.DrawFn) -> Json:
    more = draw(st.fixed_dictionaries({}, optional={"description": texts, "strict": st.booleans()}))
    return {"name": draw(names), "input_schema": draw(schemas), **more, **draw(marks)}


@st.composite
def messages_requests(draw: st.DrawFn) -> Json:
    """Requests in the form in which the translation writes them."""
    limit = draw(st.integers(1, 4096))
    optional: dict[Any, st.SearchStrategy[Any]] = {
        "system": st.one_of(texts, st.lists(blocks_of_text(), min_size=2, max_size=3)),
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(1, 100),
        "stop_sequences": st.lists(ids, min_size=1, max_size=3),
        "metadata": st.fixed_dictionaries({"user_id": ids}),
        "service_tier": st.sampled_from(["auto", "standard_only"]),
        "output_config": st.fixed_dictionaries(
            {"format": st.fixed_dictionaries({"type": st.just("json_schema"), "schema": schemas})}
        ),
        "stream": st.just(True),
        "container": ids,
    }
    request = {
        "model": "claude-haiku-4-5",
        "max_tokens": limit,
        "messages": draw(conversations()),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }
    given = draw(st.lists(tools(), max_size=2))
    if given:
        kinds: list[Json] = [{"type": "auto"}, {"type": "any"}, {"type": "none"}]
        choices = [*kinds, {"type": "tool", "name": given[0]["name"]}, None]
        choice = draw(st.sampled_from(choices))
        request["tools"] = given
        if choice is not None:
            request["tool_choice"] = choice
    return request


usages = st.builds(
    lambda fresh, short, long, read, shown, thought, tier: {
        "input_tokens": fresh,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": long,
        },
        "cache_read_input_tokens": read,
        "output_tokens": shown + thought,
        "output_tokens_details": {"thinking_tokens": thought},
        **tier,
    },
    *[st.integers(0, 10_000)] * 6,
    st.sampled_from(
        [
            {},
            {"service_tier": "standard"},
            {"service_tier": "priority"},
            {"service_tier": "batch"},
            {"service_tier": "standard", "speed": "fast"},
        ]
    ),
)


@st.composite
def replies(draw: st.DrawFn) -> Json:
    """A message as Anthropic sends it."""
    text = draw(st.one_of(st.none(), texts))
    calls = [
        {"type": "tool_use", "id": call_id, "name": draw(names), "input": draw(arguments)}
        for call_id in draw(st.lists(ids, max_size=3, unique=True))
    ]
    thoughts = draw(
        st.sampled_from([
            [],
            [{"type": "thinking", "thinking": "Hm", "signature": "s"}],
            [{"type": "redacted_thinking", "data": "x"}],
        ])
    )  # fmt: skip
    shown = [] if text is None else [{"type": "text", "text": text}]
    words = "max_tokens pause_turn refusal model_context_window_exceeded".split()
    plain = ["tool_use"] if calls else ["end_turn"]
    reason = draw(st.sampled_from([*plain, *words, "stop_sequence"]))
    return {
        "id": f"msg_{draw(ids)}",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [*thoughts, *shown, *calls],
        "stop_reason": reason,
        "stop_sequence": "END" if reason == "stop_sequence" else None,
        "usage": draw(usages),
    }

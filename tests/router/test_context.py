from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.router.context import (
    MAX_TEXT_BOUNDARIES,
    Sightings,
    check_messages,
    context_hash,
    message_hashes,
    plain_text,
)
from forethought.router.errors import InvalidRequest
from tests.router.chats import DOCUMENT, QUESTION, chat, cut, message, system, user

TOOLS = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/1.png"}}
OTHER_IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/2.png"}}


def test_the_messages_before_the_last_user_message_are_the_context() -> None:
    found = cut(chat(system(DOCUMENT), user(QUESTION)))
    assert found.context_messages == (system(DOCUMENT),)
    assert (found.context_text, found.query) == (DOCUMENT, QUESTION)


def test_a_short_lone_user_message_has_no_context() -> None:
    found = cut(chat(user("Hello.\n\nHow are you?")))
    assert (found.boundary, found.hash, found.boundaries) == (None, None, ())
    assert found.query == "Hello.\n\nHow are you?"


def test_a_long_lone_user_message_without_paragraphs_has_no_context() -> None:
    assert cut(chat(user(f"{DOCUMENT} {QUESTION}"))).boundary is None


def test_a_document_above_the_question_is_the_context_at_first_sight() -> None:
    found = cut(chat(user(f"{DOCUMENT}\n\n{QUESTION}")))
    assert (found.context_text, found.query) == (DOCUMENT, QUESTION)
    assert found.context_messages == (user(DOCUMENT),)


def test_the_second_request_shows_which_paragraphs_are_shared() -> None:
    seen = Sightings()
    first = cut(chat(user(f"{DOCUMENT}\n\nBe brief, Ann.\n\n{QUESTION}")), seen=seen)
    assert first.context_text.endswith("Be brief, Ann.")
    second = cut(chat(user(f"{DOCUMENT}\n\nBe brief, Bob.\n\n{QUESTION}")), seen=seen)
    assert second.context_text == DOCUMENT
    assert second.query == f"Be brief, Bob.\n\n{QUESTION}"


def test_a_shared_document_inside_the_last_message_beats_the_system_prompt() -> None:
    seen = Sightings()
    for question in (QUESTION, "And clause 4?"):
        found = cut(chat(system("Be brief."), user(f"{DOCUMENT}\n\n{question}")), seen=seen)
    assert found.context_messages == (system("Be brief."), user(DOCUMENT))
    assert found.query == "And clause 4?"


def test_the_same_request_again_shows_no_sharing() -> None:
    seen, body = Sightings(), chat(system("Be brief."), user(f"{DOCUMENT}\n\n{QUESTION}"))
    assert cut(body, seen=seen).context_text == "Be brief."
    assert cut(body, seen=seen).context_text == "Be brief."


def test_what_another_tenant_sent_is_not_shared() -> None:
    seen = Sightings()
    for tenant, question in (("acme", QUESTION), ("other", "And clause 4?")):
        body = chat(system("Be brief."), user(f"{DOCUMENT}\n\n{question}"))
        found = cut(body, seen=seen, tenant=tenant)
        assert found.context_text == "Be brief."


def test_the_least_recently_seen_boundary_is_forgotten_first() -> None:
    seen = Sightings(limit=2)
    prompts = [cut(chat(system(f"Prompt {n}"), user("Hi"))) for n in range(3)]
    for n in (0, 1, 0, 2):
        seen.add("acme", prompts[n].boundaries, f"request {n}")
    remembered = [seen.shared("acme", prompts[n].hash or "", "another") for n in range(3)]
    assert remembered == [True, False, True]


def test_in_a_conversation_the_known_system_prompt_stays_the_context() -> None:
    known = {context_hash([system(DOCUMENT)])}
    turns = [system(DOCUMENT), user("Hi"), message("assistant", "Hello!"), user(QUESTION)]
    for n in (2, 4):
        found = cut(chat(*turns[:n]), known=known)
        assert found.context_messages == (system(DOCUMENT),)
    assert found.query == QUESTION


def test_without_a_known_context_the_earlier_turns_are_it() -> None:
    found = cut(chat(user("Hi"), message("assistant", "Hello!"), user(QUESTION)))
    assert found.context_text == "user: Hi\n\nassistant: Hello!"


def test_the_longest_known_prefix_wins_over_a_longer_shared_one() -> None:
    known = {context_hash([system(DOCUMENT)])}
    seen = Sightings()
    for question in (QUESTION, "And clause 4?"):
        body = chat(system(DOCUMENT), user(f"{DOCUMENT}\n\n{question}"))
        found = cut(body, known=known, seen=seen)
        assert found.context_messages == (system(DOCUMENT),)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(chat(system(DOCUMENT), user(QUESTION)), id="system"),
        pytest.param(chat(message("developer", DOCUMENT), user(QUESTION)), id="developer"),
        pytest.param(chat(user(DOCUMENT), user(QUESTION)), id="an own user message"),
        pytest.param(chat(user(f"{DOCUMENT}\n\n{QUESTION}")), id="above the question"),
        pytest.param(chat(user(f"\n {DOCUMENT} \n \n\n{QUESTION}")), id="with blanks around it"),
        pytest.param(chat(user(f"{DOCUMENT}\r\n\r\n{QUESTION}")), id="lines of Windows"),
        pytest.param(
            chat(system([{"type": "text", "text": DOCUMENT}]), user(QUESTION)), id="a text part"
        ),
    ],
)
def test_registered_text_is_found_in_any_role(body: dict[str, Any]) -> None:
    registered = context_hash([system(f"{DOCUMENT}\n")])
    found = cut(body, known={registered})
    assert found.hash == registered
    assert (found.context_text, found.query) == (DOCUMENT, QUESTION)


def test_registered_text_of_several_paragraphs_is_found_whole() -> None:
    text = "\n\n".join([DOCUMENT] * 3)
    body = chat(user(f"{text}\n\nA remark.\n\n{QUESTION}"))
    found = cut(body, known={context_hash([user(text)])})
    assert found.context_text == text


def test_tools_are_part_of_the_identity() -> None:
    plain, with_tools = (
        cut(chat(system(DOCUMENT), user(f"{DOCUMENT}\n\n{QUESTION}"), **fields))
        for fields in ({}, {"tools": TOOLS})
    )
    hashes = {b.hash for b in plain.boundaries}
    assert not hashes & {b.hash for b in with_tools.boundaries}
    assert with_tools.hash == context_hash([system(DOCUMENT)], TOOLS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([IMAGE], [OTHER_IMAGE], id="images"),
        pytest.param(
            [{"type": "text", "text": "Look:"}, IMAGE],
            [{"type": "text", "text": "Look:"}, OTHER_IMAGE],
            id="images with the same caption",
        ),
        pytest.param(DOCUMENT, [{"type": "text", "text": DOCUMENT}, IMAGE], id="text and image"),
    ],
)
def test_what_is_no_text_counts_in_the_identity(one: Any, other: Any) -> None:
    assert context_hash([user(one)]) != context_hash([user(other)])
    assert cut(chat(user(one), user(QUESTION))).hash == context_hash([user(one)])


def test_a_last_message_of_parts_is_not_cut_inside() -> None:
    parts = [{"type": "text", "text": f"{DOCUMENT}\n\n{QUESTION}"}, IMAGE]
    found = cut(chat(system("Be brief."), user(parts)))
    assert [b.offset for b in found.boundaries] == [None]
    assert found.query == f"{DOCUMENT}\n\n{QUESTION}"


def test_only_the_last_paragraphs_of_a_very_long_message_are_boundaries() -> None:
    text = "\n\n".join(f"{n} {DOCUMENT}" for n in range(3 * MAX_TEXT_BOUNDARIES))
    found = cut(chat(user(text)))
    assert len(found.boundaries) == MAX_TEXT_BOUNDARIES
    assert found.hash == context_hash([user(found.context_text)])


def test_a_megabyte_of_short_paragraphs_is_cut_in_a_moment() -> None:
    body = chat(user("ab\n\n" * 250_000))
    began = time.perf_counter()
    cut(body)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({}, "messages", id="missing"),
        pytest.param({"messages": []}, "messages", id="empty"),
        pytest.param({"messages": "Hi"}, "messages", id="a string"),
        pytest.param({"messages": {"role": "user"}}, "messages", id="an object"),
        pytest.param({"messages": ["Hi"]}, "messages[0].role", id="a message that is a string"),
        pytest.param({"messages": [{"content": "Hi"}]}, "messages[0].role", id="no role"),
        pytest.param({"messages": [user("a"), {"role": 1}]}, "messages[1].role", id="a number"),
        pytest.param({"messages": [user(5)]}, "messages[0].content", id="content is a number"),
        pytest.param({"messages": [user({"a": 1})]}, "messages[0].content", id="an object in it"),
    ],
)
def test_bad_messages_are_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_messages(body)
    assert caught.value.param == param
    assert f"'{param.partition('.role')[0]}" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param([], id="no parts"),
        pytest.param([{"type": "text"}, {"text": 5}, "x", None], id="odd parts"),
        pytest.param("\udcff lone surrogate", id="lone surrogate"),
        pytest.param("naïve 漢字 🌍\x00", id="unicode"),
    ],
)
def test_odd_contents_are_cut_without_error(content: Any) -> None:
    body = chat(system(content), user(content))
    check_messages(body)
    assert cut(body).hash == context_hash([system(content)])
    assert cut(chat(user(content))).boundary is None


def test_a_request_without_a_user_message_is_cut_at_its_last_message() -> None:
    found = cut(chat(system(DOCUMENT), message("assistant", "Hello!")))
    assert (found.context_text, found.query) == (DOCUMENT, "Hello!")


def test_unicode_documents_are_found_again() -> None:
    text = "Größe: 漢字 🌍 “quoted”. " * 12
    found = cut(chat(user(f"{text}\n\nWie groß?")), known={context_hash([system(text)])})
    assert found.context_text == text.strip()
    assert found.query == "Wie groß?"


WORDS = st.text(alphabet="ab \t漢\udcff", min_size=1, max_size=30)
TEXTS = st.lists(
    st.one_of(WORDS, st.sampled_from(["\n\n", "\n \n", "\r\n\r\n", " \n", "x" * 150])),
    max_size=14,
).map("".join)


@settings(deadline=None)
@given(text=TEXTS)
def test_paragraph_hashes_are_those_of_the_text_alone(text: str) -> None:
    for boundary in cut(chat(user(text))).boundaries:
        assert boundary.offset is not None
        prefix = text[: boundary.offset]
        assert boundary.hash == context_hash([user(prefix)])
        assert boundary.size == len(prefix.strip())


@settings(deadline=None)
@given(
    contents=st.lists(st.one_of(st.text(max_size=5), st.none()), min_size=1, max_size=6),
    tools=st.sampled_from([None, TOOLS]),
)
def test_message_hashes_are_those_of_the_messages_alone(
    contents: list[str | None], tools: list[dict[str, Any]] | None
) -> None:
    messages = [user(content) for content in contents]
    fields = {} if tools is None else {"tools": tools}
    found = cut(chat(*messages, **fields))
    whole = [b for b in found.boundaries if b.offset is None]
    assert [b.index for b in whole] == list(range(1, len(messages)))
    for boundary in whole:
        assert boundary.hash == context_hash(messages[: boundary.index], tools)


@settings(deadline=None)
@given(text=TEXTS, system_text=st.text(max_size=5))
def test_context_and_query_give_the_whole_text(text: str, system_text: str) -> None:
    for messages in ([user(text)], [system(system_text), user(text)]):
        found = cut(chat(*messages))
        for boundary in found.boundaries:
            again = cut(chat(*messages), known={boundary.hash})
            if boundary.offset is None:
                assert again.query == text.strip()
                continue
            context = again.context_messages[-1]["content"]
            assert text.startswith(context)
            assert again.query == text[boundary.offset :].strip()
            assert not text[len(context) : boundary.offset].strip()


def test_request_hashes_tell_conversations_apart_but_not_their_settings() -> None:
    one = chat(system(DOCUMENT), user(QUESTION))
    hashes = message_hashes(one)
    assert hashes == message_hashes({**one, "temperature": 1})
    assert hashes[-1] != message_hashes(chat(system(DOCUMENT), user("And clause 4?")))[-1]
    assert hashes[-1] != message_hashes({**one, "tools": TOOLS})[-1]


def test_plain_text_names_the_roles_of_several_messages_only() -> None:
    assert plain_text([system(f" {DOCUMENT}\n")]) == DOCUMENT
    assert plain_text([system("Be brief."), user([IMAGE])]) == "system: Be brief.\n\nuser:"


def test_a_cache_mark_that_moves_on_changes_no_context() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    marked_tools = [{**tools[0], "cache_control": {"type": "ephemeral"}}]
    part = {"type": "text", "text": "Hello"}
    bare: list[Any] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    marked = {**part, "cache_control": {"type": "ephemeral"}}
    for content in ([part], [marked]):
        same = [{"role": "user", "content": content}, bare[1]]
        assert context_hash(same, marked_tools) == context_hash(bare, tools)
    other = [{"role": "user", "content": [{**marked, "text": "Hallo"}]}, bare[1]]
    assert context_hash(other, tools) != context_hash(bare, tools)

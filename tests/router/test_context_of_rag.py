"""Document and question in one message, as RAG libraries put them, turn after turn."""

from __future__ import annotations

import time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.router.context import Sightings, context_hash
from forethought.router.strategies.base import Request, insert_learned
from tests.router.chats import DOCUMENT, QUESTION, chat, cut, make_learned, message, system, user

TWO: Final = f"{DOCUMENT}\n\nAppendix. {DOCUMENT}"

# The templates as the libraries ship them: langchain's stuff chain, its tutorial's chat prompt,
# llama-index' text_qa_template, haystack's PromptBuilder example, Anthropic's guide.
LANGCHAIN: Final = (
    "Use the following pieces of context to answer the question at the end. If you don't know the "
    "answer, just say that you don't know, don't try to make up an answer.\n\n{context}\n\n"
    "Question: {question}\nHelpful Answer:"
)
TUTORIAL: Final = (
    "Answer the question based only on the following context:\n{context}\n\nQuestion: {question}\n"
)
LLAMA_INDEX: Final = (
    "Context information is below.\n---------------------\n{context}\n---------------------\n"
    "Given the context information and not prior knowledge, answer the query.\n"
    "Query: {question}\nAnswer: "
)
HAYSTACK: Final = (
    "Given the following information, answer the question.\n\nContext:\n{context}\n\n"
    "Question: {question}?\nAnswer:"
)
PLAIN: Final = "Context: {context}\nQuestion: {question}\nAnswer:"
MARKDOWN: Final = "## Context\n{context}\n## Question: {question}"
XML: Final = "<context>\n{context}\n</context>\n<question>{question}</question>"
DOCUMENT_FIRST: Final = [
    pytest.param(LANGCHAIN, id="langchain"),
    pytest.param(TUTORIAL, id="langchain's tutorial"),
    pytest.param(LLAMA_INDEX, id="llama-index"),
    pytest.param(HAYSTACK, id="haystack"),
    pytest.param(PLAIN, id="plain"),
    pytest.param(MARKDOWN, id="markdown"),
    pytest.param(XML, id="xml"),
]
QUESTION_FIRST: Final = (
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
    "context to answer the question. If you don't know the answer, just say that you don't know. "
    "Use three sentences maximum and keep the answer concise.\n"
    "Question: {question} \nContext: {context} \nAnswer:"
)
"""langchain's rlm/rag-prompt."""


@pytest.mark.parametrize("document", [DOCUMENT, TWO], ids=["one paragraph", "two"])
@pytest.mark.parametrize("template", DOCUMENT_FIRST)
def test_the_document_is_the_context_from_the_first_request_on(
    template: str, document: str
) -> None:
    first, second = (
        cut(chat(user(template.format(context=document, question=question))))
        for question in (QUESTION, "And clause 4")
    )
    assert first.hash == second.hash is not None
    assert first.context_text.count(DOCUMENT) == document.count(DOCUMENT)
    assert QUESTION not in first.context_text
    assert (QUESTION in first.query, DOCUMENT in first.query) == (True, False)


@pytest.mark.parametrize("template", DOCUMENT_FIRST)
def test_a_later_turn_finds_it_inside_the_first_message(template: str) -> None:
    asked = user(template.format(context=TWO, question=QUESTION))
    first = cut(chat(asked))
    turns = [asked, message("assistant", "3 dollars."), user("And clause 4?")]
    for _ in range(2):
        later = cut(chat(*turns), known={first.hash or ""})
        assert later.hash == first.hash
        assert (later.context_messages, later.context_text) == (
            first.context_messages,
            first.context_text,
        )
        assert later.query == str(turns[-1]["content"])
        turns += [message("assistant", "4 dollars."), user("So both?")]


def test_what_was_learned_goes_to_the_same_place_in_every_turn() -> None:
    asked = user(PLAIN.format(context=TWO, question=QUESTION))
    bodies = [chat(asked), chat(asked, message("assistant", "3."), user("And clause 4?"))]
    known = {cut(bodies[0]).hash or ""}
    sent = [
        insert_learned(Request(body=body, split=cut(body, known=known), learned=make_learned()))
        for body in bodies
    ]
    assert sent[0][0] == sent[1][0] != asked
    assert [len(messages) for messages in sent] == [1, 3]


def test_tools_and_a_system_prompt_are_part_of_it_in_later_turns_too() -> None:
    tools = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
    asked = user(PLAIN.format(context=TWO, question=QUESTION))
    later = [asked, message("assistant", "3."), user("And clause 4?")]
    with_tools = cut(chat(asked, tools=tools)).hash
    assert cut(chat(*later, tools=tools), known={with_tools or ""}).hash == with_tools
    assert cut(chat(*later), known={with_tools or ""}).hash != with_tools
    behind = [b.hash for b in cut(chat(system("Be brief."), asked)).boundaries if b.offset]
    found = cut(chat(system("Be brief."), *later), known={behind[-1]})
    assert (found.hash, found.query) == (behind[-1], "And clause 4?")
    assert cut(chat(system("Be long."), *later), known={behind[-1]}).hash != behind[-1]


def test_where_the_question_comes_first_it_is_no_part_of_the_context() -> None:
    found = [
        cut(chat(user(QUESTION_FIRST.format(context=TWO, question=question))))
        for question in (QUESTION, "And clause 4?")
    ]
    assert found[0].hash == found[1].hash is not None
    assert QUESTION not in found[0].context_text
    assert found[0].query.startswith(f"Question: {QUESTION}")
    short = f"Answer.\nQuestion: {QUESTION}\nContext: {TWO}"
    assert cut(chat(user(short))).boundary is None


def test_the_turns_of_one_conversation_show_no_sharing() -> None:
    seen = Sightings()
    asked, other = (
        user(PLAIN.format(context=TWO, question=question)) for question in (QUESTION, "What now?")
    )
    turns = [chat(asked, message("assistant", f"{n}"), user(f"And {n}?")) for n in range(3)]
    # Nor does another conversation on the document: nobody has said yet that it is a context.
    for body in (*turns, chat(other, message("assistant", "9"), user("And 9?"))):
        found = cut(body, seen=seen)
        assert found.boundary is not None
        assert found.boundary.offset is None


def test_a_document_that_differs_in_one_letter_is_another() -> None:
    one = cut(chat(user(PLAIN.format(context=TWO, question=QUESTION))))
    changed = user(PLAIN.format(context=TWO.replace("8 dollars", "9 dollars"), question=QUESTION))
    later = [changed, message("assistant", "3."), user("And clause 4?")]
    assert cut(chat(*later), known={one.hash or ""}).hash != one.hash


def test_a_registered_document_is_found_in_a_later_turn() -> None:
    known = {context_hash([system(DOCUMENT)])}
    asked = user(f"{DOCUMENT}\n\n{QUESTION}")
    found = cut(chat(asked, message("assistant", "3."), user("Sure?")), known=known)
    assert (found.context_text, found.query) == (DOCUMENT, "Sure?")


@given(
    texts=st.lists(st.sampled_from([DOCUMENT, "\n\n", "\nQuestion: ", "x", "\n**Query:** "])),
    n=st.integers(0, 9),
)
def test_an_inner_boundary_is_known_by_all_that_precedes_it(texts: list[str], n: int) -> None:
    asked = user("".join(texts))
    own = {b.offset: b.hash for b in cut(chat(asked)).boundaries}
    later = cut(chat(asked, message("assistant", "Yes."), user(f"And {n}?"))).boundaries
    assert {b.offset: b.hash for b in later if b.earlier} == own


@pytest.mark.parametrize("line", ["\n" + " " * 200_000, "\n#* " * 60_000, "\nuser " * 60_000])
def test_odd_lines_are_cut_in_a_moment(line: str) -> None:
    began = time.process_time()
    cut(chat(user(DOCUMENT + line + "x")))
    assert time.process_time() - began < 2

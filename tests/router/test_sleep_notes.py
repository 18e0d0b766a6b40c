from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.router.records import Note
from forethought.router.sleep.notes import (
    checked_pairs,
    parse_answers,
    parse_pairs,
    render,
    within_limit,
)

WHO = "Who lost the mill?"
WHERE = "Where did he go?"


def note(text: str, confidence: float) -> Note:
    return Note(kind="question", text=text, answer="yes", confidence=confidence)


@pytest.mark.parametrize(
    ("draft", "pairs"),
    [
        pytest.param(f"Q: {WHO} | A: the miller", [(WHO, "the miller")], id="as asked for"),
        pytest.param(f"Q: {WHO}\nA: the miller", [(WHO, "the miller")], id="on two lines"),
        pytest.param(f"Q: {WHO} A: the miller", [(WHO, "the miller")], id="without a bar"),
        pytest.param(f"Q:{WHO}|A:the miller|", [(WHO, "the miller")], id="without blanks"),
        pytest.param(f"1. Q: {WHO} | A: the miller", [(WHO, "the miller")], id="numbered"),
        pytest.param(f"Q1: {WHO} | A1: the miller", [(WHO, "the miller")], id="numbered inside"),
        pytest.param(f"Here they are:\n\nQ: {WHO}\n\nA:\n the miller\n", [(WHO, "the miller")],
                     id="with much room"),
        pytest.param(f"Q: {WHO} | A: x\nQ: {WHO} | A: y", [(WHO, "x")], id="a question twice"),
        pytest.param(f"Q: {WHO} | A: x Q: {WHERE} | A: y", [(WHO, "x"), (WHERE, "y")],
                     id="two on a line"),
        pytest.param(f"Q: {WHO} | A: x\nQ: {WHERE} | A:", [(WHO, "x")], id="cut off in an answer"),
        pytest.param(f"Q: {WHO} | A: x\nQ: Where did", [(WHO, "x")], id="cut off in a question"),
        pytest.param("Q: He lost it. | A: x", [], id="no question"),
        pytest.param(f"Q: One | {WHO} | A: x", [], id="a table"),
        pytest.param(f"Q: First line\n{WHO} | A: x", [], id="a question of two lines"),
        pytest.param(f"Q: {WHO}\nQ: {WHERE}\nA: there", [(WHERE, "there")], id="no answer"),
        pytest.param("", [], id="nothing"),
    ],
)  # fmt: skip
def test_pairs_are_read_from_messy_drafts(draft: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_pairs(draft) == pairs


@pytest.mark.parametrize(
    ("reply", "answers"),
    [
        pytest.param("1. a\n2. b", ["a", "b", None], id="as asked for"),
        pytest.param("1) a\n\n  2)b ", ["a", "b", None], id="brackets and blanks"),
        pytest.param("3. c\n1. a", ["a", None, "c"], id="out of order"),
        pytest.param("1. a\n1. b", ["a", None, None], id="a number twice"),
        pytest.param("0. x\n4. y\n999. z", [None] * 3, id="numbers out of range"),
        pytest.param("1. 3.5 million\n2.5 is it", ["3.5 million", None, None], id="decimals"),
        pytest.param("1.\n2. ", [None] * 3, id="empty answers"),
        pytest.param("9" * 5000 + ". x", [None] * 3, id="a number of 5000 digits"),
        pytest.param("Sure! Here:", [None] * 3, id="no answer"),
    ],
)
def test_answers_are_read_from_messy_replies(reply: str, answers: list[str | None]) -> None:
    assert parse_answers(reply, 3) == answers


@settings(deadline=None)
@given(text=st.text(alphabet=st.sampled_from(list("QA:?| \n\t1.)ab9\u0663"))))
def test_no_reply_whatever_raises(text: str) -> None:
    for question, answer in parse_pairs(text):
        assert question.endswith("?")
        assert answer
        assert "\n" not in question + answer
    assert len(parse_answers(text, 3)) == 3


@pytest.mark.parametrize("unit", [" ", "\n", "?", "Q: ?", "Q: ? ", "1.", "1 ", "|", "A:"])
def test_a_model_that_repeats_itself_costs_little_time(unit: str) -> None:
    text = f"Q: a?{unit * 20_000}x"
    began = time.perf_counter()
    parse_pairs(text)
    parse_answers(text, 3)
    assert time.perf_counter() - began < 2


PAIRS = [(WHO, "the old miller"), (WHERE, "to the farm")]


def test_answers_that_come_out_the_same_are_kept_and_verified() -> None:
    found, dropped = checked_pairs(PAIRS, [["The miller.", "the farm"]])
    assert dropped == 0
    assert found[0] == Note(
        kind="question", text=WHO, answer="the old miller", confidence=1.0, verified=True
    )


def test_an_answer_that_comes_out_differently_is_dropped() -> None:
    found, dropped = checked_pairs(PAIRS, [["nobody", "the farm"]])
    assert ([n.text for n in found], dropped) == ([WHERE], 1)


def test_confidence_is_the_share_of_answers_that_agree() -> None:
    found, _ = checked_pairs(PAIRS[:1], [["the miller"], ["the king"], [None]])
    assert (found[0].confidence, found[0].verified) == (0.5, True)


def test_a_pair_that_no_check_answered_stays_unverified() -> None:
    found, dropped = checked_pairs(PAIRS[:1], [[None], [None]])
    assert (found[0].confidence, found[0].verified, dropped) == (0.333, False, 0)
    assert not checked_pairs(PAIRS[:1], [])[0][0].verified


@pytest.mark.parametrize("answer", ["unknown", "Unknown.", "Not mentioned", "!"])
def test_an_answer_that_says_nothing_is_dropped(answer: str) -> None:
    assert checked_pairs([(WHO, answer)], [[answer]]) == ([], 1)


def test_the_least_trusted_notes_go_first_when_the_text_is_too_long() -> None:
    notes = [note("a", 0.5), note("b", 1.0), note("c", 0.5), note("d", 0.9)]
    longest = len(render([notes[0], notes[1], notes[3]]))
    kept, dropped = within_limit(notes, len, longest)
    assert ([n.text for n in kept], dropped) == (["a", "b", "d"], 1)
    assert within_limit(notes, len, 0) == ((), 4)
    assert within_limit(notes, len, 10_000) == (tuple(notes), 0)


def test_derivations_go_before_notes_the_least_trusted_first() -> None:
    notes = [replace(note(name, c), derivation="x = 1 + 1") for name, c in [("a", 0.5), ("b", 1.0)]]
    kept, dropped = within_limit(notes, len, len(render(notes)) - 1)
    assert ([n.derivation for n in kept], dropped) == ([None, "x = 1 + 1"], 0)
    bare = [replace(n, derivation=None) for n in notes]
    assert within_limit(notes, len, len(render(bare))) == (tuple(bare), 0)
    assert within_limit(notes, len, len(render(bare)) - 1) == ((bare[1],), 1)


@settings(deadline=None)
@given(
    trust=st.lists(
        st.tuples(st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([None, "x = 1 + 1"])),
        max_size=8,
    ),
    limit=st.integers(0, 500),
)
def test_the_token_limit_holds_and_nothing_better_than_what_stayed_is_dropped(
    trust: list[tuple[float, str | None]], limit: int
) -> None:
    notes = [replace(note(f"note {i}", c), derivation=d) for i, (c, d) in enumerate(trust)]
    kept, dropped = within_limit(notes, len, limit)
    assert len(render(kept)) <= limit or not kept
    assert len(kept) + dropped == len(notes)
    names = [n.text for n in kept]
    assert names == [n.text for n in notes if n.text in names]
    gone = [n.confidence for n in notes if n.text not in names]
    assert not gone or not kept or max(gone) <= min(n.confidence for n in kept)
    assert not gone or all(n.derivation is None for n in kept)


def test_notes_are_rendered_with_answer_and_derivation() -> None:
    notes = [
        Note(kind="computed", text="How many left?", answer="19", derivation="left = 24 - 5"),
        Note(kind="inference", text="Tom is generous."),
    ]
    assert render(notes).splitlines()[1:-1] == [
        "- How many left? 19 (left = 24 - 5)",
        "- Tom is generous.",
    ]
    assert render([]) == ""

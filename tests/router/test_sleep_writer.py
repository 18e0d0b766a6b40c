from __future__ import annotations

from collections.abc import Sequence

import pytest

from forethought.router.records import SleepLevel, Usage
from forethought.router.sleep.notes import MAX_TOKENS
from forethought.router.sleep.prompts import (
    answer_messages,
    program_messages,
    question_messages,
    rethink_messages,
)
from forethought.router.sleep.writer import (
    DRAFT_TEMPERATURE,
    Call,
    Reply,
    Written,
    estimated_tokens,
    is_quantitative,
    write,
)

NUMBERS = "Tom has 3 boxes with 8 pens each. He gives 5 pens away. Pens cost $2 each."
STORY = "The miller lost his mill in the flood, and went to his brother's farm to sleep there."
GOOD = "```python\ntotal = 3 * 8  # How many pens?\nleft = total - 5  # How many are left?\n```"
BAD = "```python\ntotal = 3 * 5  # How many pens?\n```"
QUESTIONS = "Q: Who lost the mill? | A: the miller\nQ: Where did he go? | A: to the farm"


class Scripted:
    """A model that gives its replies in order; each costs the same."""

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies = list(replies)
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        usage = Usage(input_tokens=100, cached_tokens=40, output_tokens=10, reasoning_tokens=1)
        return Reply(self.replies[len(self.calls) - 1], usage)

    @property
    def labels(self) -> list[str]:
        return [call.label for call in self.calls]


def slept(model: Scripted, text: str, *, drafts: int = 1, rounds: int = 1) -> Written:
    written = write(text, SleepLevel(drafts=drafts, rounds=rounds), model)
    assert written.calls == len(model.calls) == len(model.replies)
    return written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(NUMBERS, True, id="quantities"),
        pytest.param(STORY, False, id="a story"),
        pytest.param("It took 2 days and 3 nights.", False, id="few numbers"),
        pytest.param("1 2 3" + " word" * 200, False, id="numbers in much text"),
        pytest.param("", False, id="empty"),
    ],
)
def test_the_kind_of_notes_depends_on_the_density_of_numbers(text: str, expected: bool) -> None:
    assert is_quantitative(text) is expected


def test_three_drafts_are_merged_and_paid_for() -> None:
    model = Scripted([GOOD, BAD, GOOD])
    written = slept(model, NUMBERS, drafts=3)
    assert model.labels == ["draft 1", "draft 2", "draft 3"]
    assert {n.text: n.answer for n in written.notes} == {
        "How many pens?": "24",
        "How many are left?": "19",
    }
    assert written.dropped == 1
    assert written.usage == Usage(
        input_tokens=300, cached_tokens=120, output_tokens=30, reasoning_tokens=3
    )
    assert "How many are left? 19 (left = total - 5)" in written.text


def test_the_first_draft_is_greedy_and_the_others_differ() -> None:
    model = Scripted([GOOD] * 3)
    slept(model, NUMBERS, drafts=3)
    assert [c.temperature for c in model.calls] == [0.0, DRAFT_TEMPERATURE, DRAFT_TEMPERATURE]
    assert [c.seed for c in model.calls] == [0, 1, 2]
    assert model.calls[0].messages == tuple(program_messages(NUMBERS))


def test_a_further_round_adds_what_was_missing_and_builds_on_the_draft() -> None:
    more = "worth = left * 2  # How much are they worth?"
    model = Scripted([GOOD, BAD, more, more])
    written = slept(model, NUMBERS, drafts=2, rounds=2)
    assert model.labels == ["draft 1", "draft 2", "rethink 1.1", "rethink 1.2"]
    program = GOOD.removeprefix("```python\n").removesuffix("```")
    assert model.calls[2].messages == tuple(rethink_messages(NUMBERS, program))
    # The second draft has no `left` that the further line could build on; where the two drafts
    # contradict each other, the first, greedy one stays.
    assert {n.text: (n.answer, n.confidence) for n in written.notes} == {
        "How many pens?": ("24", 0.5),
        "How many are left?": ("19", 0.5),
        "How much are they worth?": ("38", 0.5),
    }
    assert written.dropped == 1  # the other answer to how many pens there are


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(f"Sure!\n{GOOD}\nDone: 19.", id="talk around the code"),
        pytest.param(GOOD.removesuffix("```"), id="an open block"),
        pytest.param(GOOD.replace("```python\n", "").replace("```", ""), id="no block"),
        pytest.param(GOOD.replace("python", ""), id="a block without a language"),
        pytest.param(GOOD.replace("\nleft", "\n```\nand\n```\nleft"), id="two blocks"),
    ],
)
def test_programs_are_found_in_messy_replies(reply: str) -> None:
    written = slept(Scripted([reply]), NUMBERS)
    assert [n.answer for n in written.notes] == ["24", "19"]


def test_questions_are_asked_again_once_for_two_drafts() -> None:
    model = Scripted([QUESTIONS, "1. The miller\n2. He went to bed"])
    written = slept(model, STORY, drafts=3)
    assert model.labels == ["questions 1", "check 1"]
    assert model.calls[0].messages == tuple(question_messages(STORY))
    asked = ["Who lost the mill?", "Where did he go?"]
    assert model.calls[1].messages == tuple(answer_messages(STORY, asked))
    assert [(n.text, n.answer, n.verified) for n in written.notes] == [
        ("Who lost the mill?", "the miller", True)
    ]
    assert (written.dropped, written.usage.output_tokens) == (1, 20)


def test_rounds_ask_for_more_questions_and_drafts_for_more_checks() -> None:
    second = "Q: Who lost the mill? | A: nobody\nQ: Why? | A: the flood"
    check = "1. the miller\n2. the farm\n3. the flood"
    model = Scripted([QUESTIONS, second, check, check])
    written = slept(model, STORY, drafts=4, rounds=2)
    assert model.labels == ["questions 1", "questions 2", "check 1", "check 2"]
    assert [c.seed for c in model.calls] == [0, 1, 0, 1]
    assert [(n.text, n.answer) for n in written.notes] == [
        ("Who lost the mill?", "the miller"),
        ("Where did he go?", "to the farm"),
        ("Why?", "the flood"),
    ]


def test_one_draft_is_not_checked_and_says_so() -> None:
    written = slept(Scripted([QUESTIONS]), STORY)
    assert [n.verified for n in written.notes] == [False, False]


def test_without_questions_nothing_is_asked_again() -> None:
    written = slept(Scripted(["I do not know what to ask."]), STORY, drafts=3)
    assert (written.notes, written.text, written.dropped) == ((), "", 0)
    assert written.usage.input_tokens == 100


def test_a_useless_draft_leaves_no_notes_but_its_cost() -> None:
    written = slept(Scripted(["import os", ""]), NUMBERS, drafts=2)
    assert (written.notes, written.text) == ((), "")
    assert written.usage.output_tokens == 20


def test_the_text_keeps_to_the_token_limit() -> None:
    lines = [f"total_{i} = 3 * {i % 12}  # How many pens in {'very ' * 20}{i}?" for i in range(60)]
    written = slept(Scripted(["\n".join(lines)]), NUMBERS)
    assert estimated_tokens(written.text) <= MAX_TOKENS
    assert len(written.notes) + written.dropped == 60
    assert written.dropped > 0


def test_tokens_can_be_counted_by_the_caller() -> None:
    written = write(NUMBERS, SleepLevel(drafts=1), Scripted([GOOD]), count_tokens=lambda _: 10**6)
    assert (written.notes, written.dropped) == ((), 2)


def test_the_same_replies_write_the_same_text() -> None:
    # A durable caller reads finished replies back and must end up at the same calls.
    first, second = Scripted([GOOD, BAD, GOOD]), Scripted([GOOD, BAD, GOOD])
    assert slept(first, NUMBERS, drafts=3) == slept(second, NUMBERS, drafts=3)
    assert first.calls == second.calls

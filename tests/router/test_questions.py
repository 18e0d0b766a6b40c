"""When two questions are the same: what may differ, and what must never be overlooked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.router.questions import MAX_CHARS, question_form, same_question

SAME = [
    ("How many eggs are left?", "How many eggs are left?", "word for word"),
    ("how many eggs are left", "How many eggs are left?", "case and mark"),
    ("  How  many eggs\nare left ? ", "How many eggs are left?", "blanks"),
    ("How much did he pay, in dollars?", "How much did he pay in dollars?", "comma"),
    ("How many did he sell in 1,200 days?", "How many did he sell in 1200 days?", "thousands"),
    ("How many do the three boys have?", "How many do the 3 boys have?", "number word"),
    ("What was the second-largest?", "What was the 2nd-largest?", "ordinal"),
    ("What's the total cost?", "What is the total cost?", "what's"),
    ("Why didn't she stay?", "Why did not she stay?", "didn't"),
    ("What can't they see?", "What cannot they see?", "can't"),
    ("How many eggs does she have in total?", "How many eggs does she have altogether?", "total"),
    ("How many eggs does she have in all?", "How many eggs does she have in total?", "in all"),
    ("Please, who won the race?", "Who won the race?", "please"),
    ("Who won the race, please?", "Who won the race?", "please behind"),
    ("Who won the race? Thank you!", "Who won the race?", "thanks"),
    ("Can you tell me: who won the race?", "Who won the race?", "tell me"),
    ("Hi, could you please tell me who won the race?", "Who won the race?", "greeting"),
    ("Question: Who won the race?", "Who won the race?", "prefix"),
    ("What is Joanne’s share?", "What is Joanne's share?", "typographic apostrophe"),
    ("Who met the cafe\u0301's owner?", "Who met the café's owner?", "combining accent"),
]

TRAPS = [
    ("How many pupils do not like blue?", "How many pupils like blue?", "not, from GSM8K's notes"),
    ("Which rooms didn't he paint?", "Which rooms did he paint?", "didn't"),
    ("Who never paid?", "Who paid?", "never"),
    ("How many paid nothing?", "How many paid?", "nothing"),
    ("Which are unpaid?", "Which are paid?", "un-"),
    ("How many pens do 3 boxes hold?", "How many pens do 4 boxes hold?", "count"),
    ("How many pens do three boxes hold?", "How many pens do 4 boxes hold?", "count in words"),
    ("What was the revenue in 2019?", "What was the revenue in 2018?", "year"),
    ("What is 15% of it?", "What is 5% of it?", "percentage"),
    ("What is 5% of it?", "What is 5 of it?", "percent sign"),
    ("What is .5 of it?", "What is 5 of it?", "decimal point"),
    ("What is -5 plus it?", "What is 5 plus it?", "sign"),
    ("What is 5!?", "What is 5?", "factorial"),
    ("How much is $5 more?", "How much is 5 more?", "currency"),
    ("What is left at 3:30?", "What is left at 3:45?", "time"),
    ("How many MB are left?", "How many Mb are left?", "unit by case"),
    ("What did the US pay?", "What did us pay?", "acronym"),
    ("How many eggs did Sarah paint?", "How many eggs did Camden paint?", "name"),
    ("How old is Ann?", "How old is Anna?", "near name"),
    ("How many apples does she gather?", "How many pears does she gather?", "thing"),
    ("How many had the letter A?", "How many had the letter D?", "letter"),
    ("How much does plan A cost?", "How much does plan cost?", "a that is a name"),
    ("How many did she sell?", "How many did he sell?", "pronoun"),
    ("What is Joanne's sister's share?", "What is Joanne's share?", "whose"),
    ("What do the boy's boxes hold?", "What do the boys' boxes hold?", "one owner or several"),
    ("How many boys saw the dog?", "How many boys saw the dogs?", "one or several"),
    ("Who ate more than Bob?", "Who ate less than Bob?", "more and less"),
    ("How many more eggs has Ann?", "How many eggs has Ann?", "how many more"),
    ("How much more did Ann pay than Bob?", "How much more did Bob pay than Ann?", "order"),
    ("Who chased the dog, Tom?", "Who chased Tom, the dog?", "order of things"),
    ("What was the first prize?", "What was the last prize?", "first and last"),
    ("What was the first prize?", "What was the 2nd prize?", "first and second"),
    ("What did he do before the storm?", "What did he do after the storm?", "before and after"),
    ("What was the increase?", "What was the decrease?", "increase and decrease"),
    ("What was the highest price?", "What was the lowest price?", "highest and lowest"),
    ("Which tree is tallest?", "Which tree is shortest?", "tallest and shortest"),
    ("Who won the race?", "Why won the race?", "question word"),
    ("How did Murmur win?", "Why did Murmur win?", "how and why"),
    ("How many did he win?", "How did he win?", "how many and how"),
    ("How much did it cost?", "How many did it cost?", "much and many"),
    ("When did he leave?", "Where did he leave?", "when and where"),
    ("How many would he have if he had bought two more?", "How many would he have?", "condition"),
    ("If Tom had sold 2, how many would he have?", "How many would he have?", "condition first"),
    ("How many eggs were left on Monday?", "How many eggs were left?", "time added"),
    ("How many eggs did he sell each day?", "How many eggs did he sell?", "rate"),
    ("How many eggs did all the boys find?", "How many eggs did the boys find?", "all"),
    ("What do cars have?", "What do the cars have?", "the"),
    ("How many did only Ann find?", "How many did Ann find?", "only"),
    ("How many eggs does he have?", "How many eggs did he have?", "tense"),
    ("How many eggs will he have?", "How many eggs would he have?", "would"),
    ("Did he pay?", "Who did he pay?", "yes or no"),
    ("Who paid and who did not?", "Who paid?", "two questions"),
    ("Who paid? Answer in French.", "Who paid?", "instruction added"),
    ("Who paid? Explain why.", "Who paid?", "reason asked for"),
    ("Whom did he please?", "Whom did he?", "please that is a verb"),
    (
        "Which color is there in all?",
        "Which color is there in total?",
        "in all that counts nothing",
    ),
    ("Did they sing all together?", "Did they sing altogether?", "all together"),
    ("How many days are left today?", "How many days are left today?", "today is another day"),
    ("How many years ago was it?", "How many years ago was it?", "ago counts from now"),
    ("Why?", "Why?", "no question without what came before"),
    ("", "", "nothing"),
    ("Who " + "x" * MAX_CHARS, "Who " + "x" * MAX_CHARS, "more than a question"),
]


@pytest.mark.parametrize(("one", "other"), [pytest.param(a, b, id=name) for a, b, name in SAME])
def test_these_are_the_same_question(one: str, other: str) -> None:
    assert same_question(one, other)
    assert same_question(other, one)


@pytest.mark.parametrize(("one", "other"), [pytest.param(a, b, id=name) for a, b, name in TRAPS])
def test_these_are_not(one: str, other: str) -> None:
    assert not same_question(one, other)
    assert not same_question(other, one)


WORDS = st.sampled_from(
    "not never more less fewer first last before after if only each all other un the a an in on "
    "Ann Bob Tom eggs pens boxes 2 3 40 2018 2019 who why how many much increase decrease".split()
)
QUESTIONS = st.lists(WORDS, min_size=2, max_size=12)


@given(QUESTIONS, st.data())
def test_no_word_can_be_added_taken_away_or_changed(words: list[str], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(words) - 1))
    word = data.draw(WORDS)
    question = " ".join(words)
    added = " ".join([*words[:at], word, *words[at:]])
    less = " ".join([*words[:at], *words[at + 1 :]])
    assert not same_question(question, added)
    assert not same_question(question, less)
    if word.lower() != words[at].lower():
        changed = " ".join([*words[:at], word, *words[at + 1 :]])
        assert not same_question(question, changed)


@given(QUESTIONS, st.randoms(use_true_random=False))
def test_no_two_words_can_change_places(words: list[str], rng: object) -> None:
    shuffled = list(words)
    rng.shuffle(shuffled)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    alike = [w.lower() for w in words] == [w.lower() for w in shuffled]
    assert same_question(" ".join(words), " ".join(shuffled)) == alike


@given(QUESTIONS)
def test_courtesies_change_nothing(words: list[str]) -> None:
    question = " ".join(words)
    for polite in (f"Please {question}?", f"Can you tell me {question}?", f"{question}, thanks!"):
        assert same_question(question, polite)


@given(st.text(max_size=60))
def test_any_text_has_a_form_that_is_its_own_or_none(text: str) -> None:
    form = question_form(text)
    assert form is None or question_form(text) == form
    assert same_question(text, text) == (form is not None)

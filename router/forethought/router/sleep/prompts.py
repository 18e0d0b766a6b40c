"""What sleep asks the model. One example each: small models follow examples, not rules.

Changing a prompt changes what is learned: raise ``PROMPT_VERSION`` with it, so that the
log tells learned contexts of different prompts apart.
"""

from __future__ import annotations

from forethought.router.records import Message

PROMPT_VERSION = "1"

_PROGRAM_RULES = (
    "You read a text before anyone asks about it. Write a Python program of simple assignments: "
    "first every number given in the text, then every quantity that can be derived from it, step "
    "by step, up to the final totals, differences, ratios, averages and money amounts that someone "
    "could ask about. One assignment a line, arithmetic only, no functions. After each derived "
    "line put, as a comment, the question that it answers."
)
_PROGRAM_TEXT = (
    "Tom has 3 boxes with 8 pens each. He gives 5 pens to his sister. Pens cost $2 each."
)
_PROGRAM = """```python
# given
boxes = 3
pens_per_box = 8
pens_given_to_sister = 5
price_per_pen = 2
# derived
total_pens = boxes * pens_per_box  # How many pens did Tom have at first?
pens_left = total_pens - pens_given_to_sister  # How many pens does Tom have left?
cost_of_all_pens = total_pens * price_per_pen  # How much did all the pens cost in dollars?
value_of_pens_left = pens_left * price_per_pen  # How much are the pens that are left \
worth in dollars?
```"""

_QUESTIONS_RULES = (
    "You read a text before anyone asks about it. Write the questions that a reader is most likely "
    "to ask about it, each with its short answer taken from the text: who did what, why, how, what "
    "happened then, what someone felt. One line each, in the form `Q: question | A: answer`. "
    "Cover the text from start to end, 10 lines."
)
_QUESTIONS_TEXT = (
    "The old miller lost his mill in the flood. He walked to his brother's farm, because he had "
    "nowhere to sleep. The brother was glad and gave him soup."
)
_QUESTIONS = """Q: What did the miller lose? | A: his mill
Q: Why did the miller lose his mill? | A: there was a flood
Q: Where did the miller go? | A: to his brother's farm
Q: Why did he go to the farm? | A: he had nowhere to sleep
Q: How did the brother feel when the miller came? | A: glad
Q: What did the brother give him? | A: soup"""

_ANSWER_RULES = (
    "Answer each numbered question from the text in a few words, one line each, in the form "
    "`number. answer`. Write `unknown` where the text does not say."
)


def program_messages(text: str) -> list[Message]:
    """Ask for the quantities that follow from ``text``, as a program of assignments."""
    return _with_example(_PROGRAM_RULES, _PROGRAM_TEXT, _PROGRAM, text)


def rethink_messages(text: str, program: str) -> list[Message]:
    """Ask for what ``program`` left out (a further round of the paper's rethinking)."""
    return [
        *program_messages(text),
        {"role": "assistant", "content": f"```python\n{program}\n```"},
        {
            "role": "user",
            "content": "Which quantities that someone could ask about are still missing? Write "
            "only the further derived lines, in the same form.",
        },
    ]


def question_messages(text: str) -> list[Message]:
    """Ask for anticipated questions on ``text`` with their short answers."""
    return _with_example(_QUESTIONS_RULES, _QUESTIONS_TEXT, _QUESTIONS, text)


def answer_messages(text: str, questions: list[str]) -> list[Message]:
    """Ask anticipated questions again, without the first answers, to check them."""
    numbered = "\n".join(f"{i}. {q}" for i, q in enumerate(questions, 1))
    return [
        {"role": "system", "content": text},
        {"role": "user", "content": f"{_ANSWER_RULES}\n\n{numbered}"},
    ]


def _with_example(rules: str, example: str, reply: str, text: str) -> list[Message]:
    return [
        {"role": "system", "content": rules},
        {"role": "user", "content": example},
        {"role": "assistant", "content": reply},
        {"role": "user", "content": text},
    ]

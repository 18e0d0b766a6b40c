"""Whether two questions on the same context are the same question, beyond doubt.

Two questions are the same if their forms are: the same words in the same order, after what
cannot change a question's meaning was taken away (case, a comma, a contraction, "please"). Every
other difference is a different question: "left" beside "remaining" as much as "more" beside "less".

Embeddings do not decide here. A static vector of a sentence barely moves with "not", a name or
an order of words: ``bench.recall`` prints how often a threshold on the cosine would take one
question for another.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

MAX_CHARS: Final = 400
"""A longer query is more than a question."""

_REMEMBERED: Final = 4096
"""Forms kept, a few hundred bytes each: the notes' are needed for every query on their context."""

# ".5" is not "5" and "3:30" not "3 30": what joins digits belongs to their number.
_TOKEN: Final = re.compile(
    r"\d+(?:st|nd|rd|th)\b|\d*(?:[.,:/]\d+)+|\d+|[^\W\d_]+(?:'[^\W\d_]+)*|\S"
)
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_LEAD_IN: Final = re.compile(
    r"(?:(?:hi|hello|hey)\b[,.!]?\s+)?"
    r"(?:(?:question|q)\s*:\s*)?"
    r"(?:please\b,?\s+)?"
    r"(?:(?:(?:can|could|would)\s+you\s+(?:please\s+)?)?tell\s+me\b[,:]?\s+)?"
    r"(?:please\b,?\s+)?",
    re.IGNORECASE,
)
# "Whom did he please?" ends on a verb, "Who won, please?" on a courtesy.
_LEAD_OUT: Final = re.compile(
    r"(?:[,.?]\s*(?:please|thanks|thank you)\s*!?)?[\s.?]*\Z", re.IGNORECASE
)
_CONTRACTIONS: Final = {
    "can't": "can not", "cannot": "can not", "won't": "will not", "what's": "what is",
    "who's": "who is", "where's": "where is", "when's": "when is", "why's": "why is",
    "how's": "how is", "what're": "what are", "who're": "who are",
}  # fmt: skip
_CONTRACTED: Final = re.compile(
    rf"\b(?:{'|'.join(_CONTRACTIONS)})\b|(?<=[a-z])n't\b", re.IGNORECASE
)
_CARDINALS: Final = "zero one two three four five six seven eight nine ten eleven twelve".split()
_ORDINALS: Final = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_SPELT: Final = {
    **{word: str(n) for n, word in enumerate(_CARDINALS)},
    **dict(zip(_ORDINALS, "1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th".split(), strict=True)),
}
_IN_ALL: Final = (["in", "total"], ["in", "all"])

_WHEN_ASKED: Final = frozenset(
    "ago currently now nowadays recently today tomorrow tonight yesterday".split()
)
"""Their meaning moves with the clock, and a note was written earlier."""

Form = tuple[str, ...]
"""The words of a question; equal forms ask the same."""


def same_question(one: str, other: str) -> bool:
    """Whether both ask the same of one context. Symmetric; False where there is any doubt."""
    form = question_form(one)
    return form is not None and form == question_form(other)


@lru_cache(maxsize=_REMEMBERED)
def question_form(text: str) -> Form | None:
    """The form of a question; None where no answer could have been written before it came."""
    text = unicodedata.normalize("NFC", text).strip().replace("’", "'")
    if not text or len(text) > MAX_CHARS:
        return None
    text = _LEAD_OUT.sub("", _LEAD_IN.sub("", text, count=1), count=1)
    text = _CONTRACTED.sub(_expanded, text)
    words = [_word(token) for token in _TOKEN.findall(text) if token not in {",", "."}]
    if words[:1] == ["how"] and words[-2:] in _IN_ALL:
        words[-2:] = ["altogether"]
    if len(words) < 2 or not _WHEN_ASKED.isdisjoint(words):
        return None
    return tuple(words)


def _expanded(match: re.Match[str]) -> str:
    return _CONTRACTIONS.get(match[0].lower(), " not")


def _word(token: str) -> str:
    if _THOUSANDS.fullmatch(token):
        return token.replace(",", "")
    # "MB" is not "Mb" nor "US" "us": only a capital at the beginning says nothing.
    lowered = token.lower()
    if token[1:] != lowered[1:]:
        return token
    return _SPELT.get(lowered, lowered)

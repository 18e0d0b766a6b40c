r"""Numbers as people and models write them: signs, separators, currency, brackets and units.

``figures`` lists those of a text, ``whole_figure`` reads a text that is one number and nothing
else, and ``final_figure`` finds the one that an answer ends on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w)])[-−])?                  # a minus, not the hyphen of "16-3" or "CO-2"
    (?P<currency>[$€£¥]\s*(?P<inner_sign>[-−])?)?  # "-$5" and "$-5"
    (?<![A-Za-z\d])(?<!\d\.)                   # not the 2 of "x2" nor the 3 of "1.2.3"
    (?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
    (?:(?:\)?\s*|\s*\((?:in\s+)?)(?P<unit>%|percent|hundred|thousand|million|billion))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_OPERATION = re.compile(r"\s*[-−+*/×÷^=]\s*[$€£¥(]?\d")
_QUOTIENT = re.compile(r"\W*(\d+)\s*/\s*(\d+)(?![\d/.]|\s*[-−+*/×÷^=])")
_LATEX_QUOTIENT = re.compile(r"(\d*)\s*\\[dt]?frac\{(\d+(?:\.\d+)?)\}\{(\d+(?:\.\d+)?)\}")
_MARKER = re.compile(r"####|\\boxed\{|\banswer\s*(?:is\b\s*:?|[:=])", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_MONTHS = "january february march april may june july august september october november december"
_AFTER_MONTH = re.compile(rf"\b(?:{_MONTHS.replace(' ', '|')})\s+$", re.IGNORECASE)
_BEFORE_MONTH = re.compile(rf"\s+(?:{_MONTHS.replace(' ', '|')})\b", re.IGNORECASE)
_MARKUP = (
    ("{,}", ","),
    ("\\,", ""),
    ("\\!", ""),
    ("\\$", "$"),
    ("\\%", "%"),
    ("\\text{", " "),
    ("**", " "),
    ("\xa0", " "),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number in a text."""

    value: float
    """By its digits and its minus sign; brackets do not count."""
    unit: str = ""
    """"%", "percent", "hundred", "thousand", "million", "billion", or nothing."""
    bracketed: bool = False
    """Alone in brackets, as accountants write what is negative."""
    only_digits: bool = False
    """Brackets hold nothing but digits and a point."""
    dates: bool = False
    """It reads as a year, or as a day beside the name of a month."""
    start: int = 0
    end: int = 0

    @property
    def readings(self) -> tuple[float, float]:
        """The value as meant, and as TAT-QA's official ``to_number`` takes it.

        Both read (12.6) as -12.6. The official pattern for brackets knows digits and dots only,
        so that (1,212) and (1.5%) stay positive there.
        """
        negative = -abs(self.value)
        meant = negative if self.bracketed else self.value
        return meant, negative if self.bracketed and self.only_digits else self.value


def figures(text: str) -> list[Figure]:
    """The numbers of a plain text, from left to right."""
    return [_figure(match) for match in _NUMBER.finditer(text)]


def whole_figure(span: str) -> Figure | None:
    """The number that a span is: of "2019" and "$(1.5%)", but not of "5 apples"."""
    clean = plain(span)
    found = next(iter(figures(clean)), None)
    if found is None or re.search(r"[^\s().$€£¥]", clean[: found.start] + clean[found.end :]):
        return None
    return found


def final_figure(text: str, *, dates: bool = True) -> Figure | None:
    r"""The number that an answer ends on.

    It is the one stated after the last "answer:", "####" or ``\boxed{``; without these, the last
    of the text. With ``dates=False``, years and days of a month count only where nothing else does.
    """
    clean = plain(text)
    for marker in reversed(list(_MARKER.finditer(clean))):
        line = clean[marker.end() :].lstrip().split("\n", 1)[0]
        stated = _stated(line, dates=dates)
        if stated is not None:
            return stated
    return _last(figures(clean), dates=dates)


def plain(text: str) -> str:
    """The text without the Markdown and LaTeX that models wrap numbers in."""
    for markup, bare in _MARKUP:
        text = text.replace(markup, bare)
    return _LATEX_QUOTIENT.sub(_worked_out, text)


def _figure(match: re.Match[str]) -> Figure:
    digits, unit = match["digits"], (match["unit"] or "").lower()
    before, after = match.string[: match.start()], match.string[match.end("digits") :]
    magnitude = float(digits.replace(",", ""))
    is_year = bool(re.fullmatch(r"(?:19|20)\d\d", digits)) and not unit and not match["currency"]
    is_day = digits.isdigit() and magnitude <= 31 and not unit
    return Figure(
        value=-magnitude if match["sign"] or match["inner_sign"] else magnitude,
        unit=unit,
        bracketed=before.endswith("(") and bool(re.match(r"%?\)", after)),
        only_digits="," not in digits and after.startswith(")"),
        dates=is_year
        or (is_day and bool(_AFTER_MONTH.search(before) or _BEFORE_MONTH.match(after))),
        start=match.start(),
        end=match.end(),
    )


def _stated(line: str, *, dates: bool) -> Figure | None:
    """The number that a line such as "18 eggs in 2 days." or "9 * 2 = 18" states."""
    quotient = _QUOTIENT.match(line)
    if quotient and float(quotient[2]):
        return Figure(value=float(quotient[1]) / float(quotient[2]))
    found = figures(line)
    if not found:
        return None
    leading = found[0]
    opens_the_line = not re.search(r"\w", line[: leading.start])
    if opens_the_line and not _OPERATION.match(line, leading.end):
        return leading
    sentence = next(part for part in _SENTENCE_END.split(line) if figures(part))
    after_equals = figures(sentence.rpartition("=")[2]) if "=" in sentence else []
    return after_equals[0] if after_equals else _last(figures(sentence), dates=dates)


def _last(found: list[Figure], *, dates: bool) -> Figure | None:
    kept = found if dates else [figure for figure in found if not figure.dates] or found
    return kept[-1] if kept else None


def _worked_out(match: re.Match[str]) -> str:
    whole, numerator, denominator = match.groups()
    if not float(denominator):
        return match[0]
    value = float(numerator) / float(denominator)
    return str(float(whole) + value) if whole else str(value)

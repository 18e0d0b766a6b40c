"""Derive what readers ask of a table, without a model: changes, percentages and averages.

Small models misread tables and calculate badly on them; a parser does neither. The questions on
a table with one column a year are mostly the same: how much did a row change, by how many
percent, what was it on average. One note a row answers them for every pair of years.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Final

from forethought.router.records import Note

MIN_BARS: Final = 2
"""Of a line that is a row of a table."""

MAX_CELL: Final = 400
"""Characters of a cell that can be a number or a heading; a longer one is prose."""

MAX_PERIODS: Final = 6
"""Columns that are compared; of more, the latest."""

_RULE: Final = re.compile(r"[\s|:+=-]*")
_YEAR: Final = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_NUMBER: Final = re.compile(
    r"(?P<open>\()?\s*(?P<sign>[-–—−+])?\s*(?:[A-Z]{2,3}\s?)?(?P<money>[$€£¥₹])?\s*(?P<open2>\()?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)\s*%?\s*\)?\s*%?"
    r"\s*(?:\(\w\)|\*)*"
)
_NO_VALUE: Final = frozenset("-–—")
"""A cell of one of these is nil."""

_ASIDE: Final = re.compile(r"\([^()]*\)")
_NOT_A_PERIOD: Final = re.compile(r"change|variance|increase|decrease|growth|^notes?$|^%")
_SCALE: Final = re.compile(
    r"\b(?:in|of)\s+(?:[a-z$€£¥.']+\s+){0,3}?(thousand|million|billion)s?\b"
    r"|[$€£¥]\s?['’]?(000|m|bn|thousand|million|billion)s?\b|['’](000)\b",
    re.IGNORECASE,
)
_SCALES: Final = {"000": "thousand", "m": "million", "bn": "billion"}

_DATE_WORDS: Final = frozenset(
    "january february march april may june july august september october november december "
    "jan feb mar apr jun jul aug sep sept oct nov dec year years fiscal ended ending end as of at "
    "for the in months twelve million millions thousand thousands billion billions dollars usd "
    "us m".split()
)


@dataclass(frozen=True, slots=True)
class Table:
    """The headings of the columns, the first row's label included, and the rows below them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A number as written: its value, and whether it is a percentage."""

    value: Decimal
    percent: bool


def is_row(line: str) -> bool:
    """Whether a line is a row of a table written with bars."""
    return line.count("|") >= MIN_BARS


def read_tables(text: str) -> list[Table]:
    """The tables of ``text`` that have a heading and a row of numbers, in order."""
    found = []
    for block in _blocks(text):
        rows = [_cells(line) for line in block if not _RULE.fullmatch(line)]
        start = next((i for i, row in enumerate(rows) if _is_data(row)), 0)
        # A label alone above the first numbers heads the rows that follow, not the columns.
        while start > 1 and not any(rows[start - 1][1:]):
            start -= 1
        if start:
            width = max(map(len, rows))
            heads = [row + [""] * (width - len(row)) for row in rows[:start]]
            columns = tuple(" ".join(filter(None, parts)) for parts in zip(*heads, strict=True))
            found.append(Table(columns, tuple(tuple(row) for row in rows[start:])))
    return found


def read_number(cell: str) -> Cell | None:
    """The number of a cell: ``(1,234)`` and ``-1,234`` are negative; None where it is none."""
    if len(cell) > MAX_CELL:
        return None
    if cell.strip("$€£¥ ") in _NO_VALUE:
        return Cell(Decimal(0), percent=False)
    match = _NUMBER.fullmatch(cell.strip())
    if match is None:
        return None
    negative = match["open"] or match["open2"] or match["sign"] in {"-", "–", "—", "−"}
    value = Decimal(match["digits"].replace(",", ""))
    return Cell(-value if negative else value, "%" in cell)


def scale_of(text: str) -> str:
    """The unit in which a table says that its numbers are, for instance ``million``, or none."""
    found = {
        _SCALES.get(word.lower(), word.lower())
        for match in _SCALE.finditer(text)
        for word in match.groups()
        if word
    }
    return found.pop() if len(found) == 1 else ""


def derive(text: str) -> list[Note]:
    """A note for each quantity that a table gives for two years or more, in order.

    The year stands over a column, or over the rows that follow ("2019:"). Totals are the surest
    to be asked for: their confidence is 1, that of the others 0.9, so that these go first where
    the learned context is too long.
    """
    scale = scale_of(text)
    notes = {
        note.text: note
        for table in read_tables(text)
        for name, values in _series(table).items()
        if len(values) > 1 and any(cell.value for cell in values.values())
        for note in [_note(name, values, scale)]
    }
    return list(notes.values())


def _series(table: Table) -> dict[str, dict[int, Cell]]:
    """The quantities of a table by name, each with its value by year."""
    found: dict[str, dict[int, Cell]] = {}
    heads = [_heading(column) for column in table.columns]
    group, group_year = "", None
    for label, *cells in table.rows:
        if not any(cells):
            group, group_year = label.rstrip(":"), _heading(label).year
            continue
        name = label or f"{group}, total".removeprefix(", ")
        if any(f"{name}{head.kind}" in found for head in heads if head.year):
            name = f"{group}, {name}".removeprefix(", ")
        for head, text in zip(heads[1:], cells, strict=False):
            year = head.year or group_year
            number = read_number(text) if year and head.compared else None
            if year and number is not None:
                found.setdefault(f"{name}{head.kind}", {}).setdefault(year, number)
    return found


@dataclass(frozen=True, slots=True)
class _Heading:
    """Of a column: its one year, what else it says (", high"), and whether years compare."""

    year: int | None
    kind: str
    compared: bool


def _heading(text: str) -> _Heading:
    text = _ASIDE.sub(" ", text[:MAX_CELL])
    years = {int(year) for year in _YEAR.findall(text)}
    words = re.findall(r"[a-z%]+", _YEAR.sub("", text).lower())
    kind = " ".join(word for word in words if word not in _DATE_WORDS)
    return _Heading(
        year=years.pop() if len(years) == 1 else None,
        kind=f", {kind}" if kind else "",
        compared=not _NOT_A_PERIOD.search(kind) and len(years) < 2,
    )


def _note(name: str, values: Mapping[int, Cell], scale: str) -> Note:
    years = sorted(values)[-MAX_PERIODS:]
    percent = any(values[year].percent for year in years)
    unit = " percent" if percent else f" {scale}" if scale else ""
    pairs = [*pairwise(years)]
    if len(years) > 2:
        pairs.append((years[0], years[-1]))
    said = []
    with localcontext(prec=28):
        for before, after in reversed(pairs):
            old, new = values[before].value, values[after].value
            change = f"{before} to {after}: change {_shown(new - old)}{unit}"
            if old and not percent:
                change += f", {_shown((new - old) / abs(old) * 100)} percent"
            said.append(change)
        for first in range(max(0, len(years) - 3), len(years) - 1):
            own = [values[year].value for year in years[first:]]
            mean = sum(own, Decimal(0)) / len(own)
            said.append(f"average {years[first]} to {years[-1]}: {_shown(mean)}{unit}")
    return Note(
        kind="computed",
        text=f"{name}:",
        answer="; ".join(said),
        confidence=1.0 if "total" in name.lower() else 0.9,
        verified=True,
    )


def _shown(value: Decimal) -> str:
    """Two decimals, as reports give them, without trailing zeros."""
    rounded = round(value, 2)
    if not rounded:
        return "0"
    shown = f"{rounded:,f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _blocks(text: str) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if is_row(line):
            block.append(line)
        elif block:
            yield block
            block = []


def _cells(line: str) -> list[str]:
    parts = [part.strip() for part in line.strip().split("|")]
    # A bar at either end opens and closes the row; it is no cell of its own.
    first = 1 if line.lstrip().startswith("|") else 0
    return parts[first : -1 if line.rstrip().endswith("|") else None]


def _is_data(row: Sequence[str]) -> bool:
    """A row with a number that is not a year, as headings have them."""
    return any(
        read_number(cell) is not None and not _YEAR.fullmatch(cell.strip()) for cell in row[1:]
    )

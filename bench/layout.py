"""Plain-text tables: the same columns for each scope (held out, all), side by side or below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
Cells = Sequence[str]


def table(head: Cells, rows: Sequence[Cells]) -> str:
    """Columns as wide as they need to be, the first flush left."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Cells) -> str:
        cells = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        return "    " + "  ".join(cells).rstrip()

    rule = "    " + "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(head), rule, *map(line, rows)])


def columns(
    title: str,
    first: str,
    heads: Cells,
    by_scope: Mapping[str, T],
    rows: Callable[[T], Mapping[str, Cells]],
) -> str:
    """One table with the same columns for each scope, joined by the label of the row."""
    found = {scope: rows(results) for scope, results in by_scope.items()}
    labels = list(dict.fromkeys(label for part in found.values() for label in part))
    empty = ["-"] * len(heads)
    head = [first, *(f"{name}: {scope}" for scope in found for name in heads)]
    lines = [
        [label, *(cell for part in found.values() for cell in part.get(label, empty))]
        for label in labels
    ]
    return f"  {title}\n{table(head, lines)}" if title else table(head, lines)


def one_below_the_other(
    title: str,
    first: str,
    heads: Cells,
    by_scope: Mapping[str, T],
    rows: Callable[[T], Mapping[str, Cells]],
) -> str:
    """As ``columns``, for tables too wide to stand side by side."""
    parts = [columns("", first, heads, {s: results}, rows) for s, results in by_scope.items()]
    return "\n".join([f"  {title}", *parts])

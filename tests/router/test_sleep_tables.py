"""What is derived from tables: read as a person reads them, computed exactly."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.router.records import SleepLevel, Usage
from forethought.router.sleep.tables import Cell, derive, read_number, read_tables, scale_of
from forethought.router.sleep.typical import road_of, usage_of
from forethought.router.sleep.writer import Call, Reply, write

RECEIVABLES = """|  |  | Fiscal Year End |
|  | 2019 | 2018 |
|  |  | (in millions) |
| Trade accounts receivable | $ 875.8 | $ 557.8 |
| Less allowance for doubtful accounts | (2.0) | (2.2) |
|  | $873.8 | $555.6 |
| Of which overdue | — | 4 |

Receivables grew with sales."""

PRICES = """|  | High | Low |
| 2019: |  |  |
| First Quarter | $18.19 | $8.87 |
| 2018: |  |  |
| First Quarter | $7.35 | $6.00 |"""


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1,234", "1234"), ("$ 1,234.50", "1234.50"), ("(1,234)", "-1234"), ("$(0.5)", "-0.5"),
        ("-7", "-7"), ("−7", "-7"), ("RMB77", "77"), (".25", "0.25"), ("—", "0"), ("$ -", "0"),
    ],
)  # fmt: skip
def test_a_number_is_read_as_written_in_reports(cell: str, value: str) -> None:
    assert read_number(cell) == Cell(Decimal(value), percent=False)


@pytest.mark.parametrize("cell", ["23%", "23 %", "(13)%", "(13%)"])
def test_a_percentage_is_known_as_one(cell: str) -> None:
    found = read_number(cell)
    assert found is not None
    assert found.percent
    assert abs(found.value) in {Decimal(23), Decimal(13)}
    assert (found.value < 0) == cell.startswith("(")


@pytest.mark.parametrize("cell", ["", "n/a", "Land", "2 to 5", "1,23,4", "12 months", "9" * 500])
def test_what_is_no_number_is_none(cell: str) -> None:
    assert read_number(cell) is None


def test_changes_percentages_and_averages_are_derived_by_row() -> None:
    notes = {note.text: note.answer for note in derive(RECEIVABLES)}
    assert notes == {
        "Trade accounts receivable:": "2018 to 2019: change 318 million, 57.01 percent; "
        "average 2018 to 2019: 716.8 million",
        "Less allowance for doubtful accounts:": "2018 to 2019: change 0.2 million, 9.09 percent; "
        "average 2018 to 2019: -2.1 million",
        "total:": "2018 to 2019: change 318.2 million, 57.27 percent; "
        "average 2018 to 2019: 714.7 million",
        "Of which overdue:": "2018 to 2019: change -4 million, -100 percent; "
        "average 2018 to 2019: 2 million",
    }
    assert all(note.verified and note.kind == "computed" for note in derive(RECEIVABLES))


def test_years_may_stand_over_rows() -> None:
    assert {note.text: note.answer for note in derive(PRICES)} == {
        "First Quarter, high:": "2018 to 2019: change 10.84, 147.48 percent; "
        "average 2018 to 2019: 12.77",
        "First Quarter, low:": "2018 to 2019: change 2.87, 47.83 percent; "
        "average 2018 to 2019: 7.44",
    }


def test_of_percentages_no_percentage_change_is_derived() -> None:
    table = "| | 2019 | 2018 | 2017 |\n| Discount rate | 2.5% | 2.4% | 3.2% |"
    (note,) = derive(table)
    assert note.answer == (
        "2017 to 2019: change -0.7 percent; 2018 to 2019: change 0.1 percent; "
        "2017 to 2018: change -0.8 percent; average 2017 to 2019: 2.7 percent; "
        "average 2018 to 2019: 2.45 percent"
    )


def test_equal_rows_of_two_groups_are_told_apart() -> None:
    table = """| | 2019 | 2018 |
| Industrial: | | |
| Sales | 10 | 5 |
| Medical: | | |
| Sales | 3 | 4 |"""
    assert [note.text for note in derive(table)] == ["Sales:", "Medical, Sales:"]


@pytest.mark.parametrize(
    "text",
    [
        "Tom has 3 boxes with 8 pens each.",
        "| a | b |\n| c | d |",
        "| | Note | 2019 |\n| Cash | 4 | 10 |",
        "| | 2019 | % change 2018 |\n| Cash | 4 | 10 |",
        "| | 2019 | 2018 |\n| Cash | — | - |",
    ],
)
def test_where_nothing_can_be_compared_nothing_is_derived(text: str) -> None:
    assert derive(text) == []


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("(in millions)", "million"), ("in thousands of Canadian dollars", "thousand"),
        ("£m", "million"), ("$'000", "thousand"), ("(€ billion)", "billion"), ("no unit", ""),
        ("in millions, but $'000 below", ""),
    ],
)  # fmt: skip
def test_the_scale_is_taken_where_the_text_gives_one(text: str, scale: str) -> None:
    assert scale_of(text) == scale


numbers = st.decimals(-(10**6), 10**6, places=2, allow_nan=False)


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
def test_a_written_table_gives_back_its_numbers(rows: list[tuple[Decimal, Decimal]]) -> None:
    def cell(value: Decimal) -> str:
        return f"({-value:,})" if value < 0 else f"$ {value:,}"

    lines = ["|  | 2021 | 2020 |", "|---|---|---|"]
    lines += [f"| row {i}x | {cell(new)} | {cell(old)} |" for i, (new, old) in enumerate(rows)]
    (table,) = read_tables("\n".join(lines))
    read = [tuple(read_number(text) for text in row[1:]) for row in table.rows]
    assert read == [(Cell(new, False), Cell(old, False)) for new, old in rows]
    found = {note.text: note.answer or "" for note in derive("\n".join(lines))}
    for i, (new, old) in enumerate(rows):
        if new or old:
            said = found[f"row {i}x:"]
            change = Decimal(said.split("change ")[1].split(",  ")[0].split("; ")[0].split(", ")[0]
                             .replace(",", ""))  # fmt: skip
            assert change == new - old


@settings(deadline=None)
@given(st.text(alphabet="|-—0123456789,.()$% \nabc:2019", max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    for note in derive(text):
        assert note.answer


def test_adversarial_tables_take_bounded_time() -> None:
    began = time.perf_counter()
    derive("| a | 2019 | 2018 |\n" + "|" * 1_000_000)
    derive("| a | 2019 | 2018 |\n| b | " + "1" * 500_000 + " | " + "(" * 500_000 + " |")
    derive("| a | 2019 | 2018 |\n" + "| b | 1 | 2 |\n" * 20_000)
    assert time.perf_counter() - began < 10


def test_a_table_sleeps_without_a_call() -> None:
    def call(_: Call) -> Reply:
        raise AssertionError("no model is needed")

    written = write(RECEIVABLES, SleepLevel(), call)
    assert (written.calls, written.usage.output_tokens, len(written.notes)) == (0, 0, 4)
    assert "- Trade accounts receivable: 2018 to 2019: change 318 million" in written.text


def test_the_planner_expects_a_free_sleep_on_a_table() -> None:
    assert road_of(RECEIVABLES) == "tables"
    assert usage_of("tables", SleepLevel(), 500) == Usage()

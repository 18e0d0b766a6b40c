"""The recorder against a real socket: every row once, and a rerun adds only what lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bench import record
from bench.journal import Journal, key_of, read_rows
from bench.publish import golds, published, write_tables
from bench.training_rows import training_rows
from forethought.training.recorded import read_recorded
from tests.fake_upstream import FakeUpstreamServer

CONTEXT = "Tom has 3 boxes with 8 pens each. He gives 5 pens to his sister. Pens cost $2 each."
PROGRAM = "boxes = 3\npens = boxes * 8  # How many pens?\nleft = pens - 5  # How many are left?"
PROBLEM = {
    "id": "p1", "dataset": "gsm8k", "split": "train", "context": CONTEXT, "licence": "MIT",
    "queries": [
        {"id": "p1-q0", "query": "How many pens are left?", "answer": "19", "kind": "final"},
        {"id": "p1-q1", "query": "How many pens were there?", "answer": "24", "kind": "step"},
    ],
}  # fmt: skip


def reply(body: dict[str, Any]) -> str:
    if "Python program" in body["messages"][0]["content"]:
        return f"```python\n{PROGRAM}\n```"
    asked = " ".join(str(m["content"]) for m in body["messages"])
    return "19" if "are left?" in asked.rpartition("Notes")[0] else "The answer is 24."


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_multi.jsonl"
    path.write_text(json.dumps(PROBLEM) + "\n")
    return path


def recorded(journal: Path, dataset: Path, url: str, *more: str) -> list[dict[str, Any]]:
    arguments = ["--base-url", url, "--model", "fake", "--dataset", str(dataset)]
    record.main([str(journal), *arguments, "--level", "k1r1", "k2r1", *more])
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_every_strategy_level_and_sample_is_recorded_once(tmp_path: Path, dataset: Path) -> None:
    with FakeUpstreamServer(answer=reply) as fake:
        rows = recorded(tmp_path / "j.jsonl", dataset, fake.base_url, "--samples", "2")
        calls = fake.completed
    answers = [row for row in rows if row["kind"] == "answer"]
    # Two queries; direct, two efforts, two samples, and two learned strategies at two levels.
    assert len(answers) == 2 * (3 + 2 + 2 * 2)
    assert len({key_of(row) for row in rows}) == len(rows)
    # The second level's first draft is the first level's: it is not made, but counted, again.
    drafts = [row for row in rows if row["kind"] == "sleep_call"]
    assert len(drafts) == 2
    assert calls == len(answers) + len(drafts)
    one, two = (row for row in rows if row["kind"] == "sleep")
    assert two["output_tokens"] == sum(row["output_tokens"] for row in drafts)
    assert one["output_tokens"] == drafts[0]["output_tokens"]
    assert {row["temperature"] for row in answers if row["seed"]} == {0.7}


def test_a_row_has_what_a_reader_needs(tmp_path: Path, dataset: Path) -> None:
    with FakeUpstreamServer(answer=reply) as fake:
        rows = recorded(tmp_path / "j.jsonl", dataset, fake.base_url, "--strategy", "learned:low")
    answers = {(r["query_id"], r["level"]): r for r in rows if r["kind"] == "answer"}
    assert set(answers) == {(q, level) for q in ("p1-q0", "p1-q1") for level in ("k1r1", "k2r1")}
    row = answers["p1-q1", "k1r1"]
    assert row["split"] == "train"
    assert row["quality"] == 1.0
    assert row["output_tokens"] == 4
    assert row["latency_ms"] >= row["ttft_ms"] > 0
    assert row["finish_reason"] == "stop"


def test_a_rerun_after_a_kill_makes_only_the_missing_calls(tmp_path: Path, dataset: Path) -> None:
    journal = tmp_path / "j.jsonl"
    with FakeUpstreamServer(answer=reply) as fake:
        first = recorded(journal, dataset, fake.base_url)
        whole = journal.read_bytes()
        lines = whole.splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:-2]) + lines[-2][:40])  # killed in mid-write
        before = fake.completed
        second = recorded(journal, dataset, fake.base_url)
        assert fake.completed - before == 2
    assert {key_of(r) for r in first} == {key_of(r) for r in second}


def test_a_failed_call_is_reported_and_left_for_a_rerun(tmp_path: Path, dataset: Path) -> None:
    journal = tmp_path / "j.jsonl"
    with FakeUpstreamServer(answer=reply) as fake:
        fake.script("status=400")
        with pytest.raises(SystemExit, match="1 calls failed"):
            recorded(journal, dataset, fake.base_url, "--strategy", "direct", "--parallel", "1")
        rows = recorded(journal, dataset, fake.base_url, "--strategy", "direct")
    assert sum(row["kind"] == "sleep" for row in rows) == 2
    assert sum(row["kind"] == "answer" for row in rows) == 2


def test_a_broken_line_within_a_journal_is_never_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"kind": "sl\n{"kind": "sleep"}\n')
    with pytest.raises(ValueError, match="broken line"):
        Journal(path)
    assert path.read_text().startswith('{"kind": "sl\n')


def test_published_tables_are_graded_anew_and_feed_the_training(
    tmp_path: Path, dataset: Path
) -> None:
    journal = tmp_path / "j.jsonl"
    with FakeUpstreamServer(answer=reply) as fake:
        recorded(journal, dataset, fake.base_url, "--variant", "main")
    rows = read_rows(journal)
    for row in rows:
        row["quality"] = 0.5
    tables = tmp_path / "tables"
    write_tables(published(rows, golds(tmp_path)), tables)
    answers = pq.read_table(tables / "answers.parquet").to_pylist()
    assert {row["quality"] for row in answers} <= {0.0, 1.0}
    assert {row["licence"] for row in answers} == {"MIT"}

    found = list(training_rows(tables, tmp_path, model="fake", variant="main", main_level="k2r1"))
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in found))
    data = read_recorded(lines)
    # Without sleep each answer counts twice: before and after the main level's sleep.
    assert len(data) == 2 * (3 * 2 + 2 * 2)
    notes = {(r["seen_at"], r["features"]["art_notes"]) for r in found}
    assert ("k2r1", 2.0) in notes
    assert all(n is None or n == 0 for level, n in notes if level == "none")


def test_a_journal_with_a_row_twice_has_its_later_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    row = {"kind": "sleep", "context_id": "c", "level": "k1r1", "variant": "2", "dropped": 1}
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "dropped": 2}) + "\n")
    assert [r["dropped"] for r in read_rows(path)] == [2]


def test_rows_of_data_that_may_not_ship_are_refused() -> None:
    row = {"kind": "answer", "context_id": "xquad-1"}
    with pytest.raises(ValueError, match="licence"):
        published([row], {})

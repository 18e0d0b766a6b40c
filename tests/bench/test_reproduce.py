"""Asking the published rows again: the same model agrees with itself, another does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import record, reproduce
from bench.journal import read_rows
from bench.publish import golds, published, write_tables
from tests.fake_upstream import FakeUpstreamServer

PROBLEM = {
    "id": "p1", "dataset": "gsm8k", "split": "test", "licence": "MIT",
    "context": "Tom has 3 boxes with 8 pens each. He gives 5 pens to his sister.",
    "queries": [{"id": "p1-q0", "query": "How many pens are left?", "answer": "19"}],
}  # fmt: skip


def reply(body: dict[str, Any]) -> str:
    asked = body["messages"][0]["content"]
    return "left = 3 * 8 - 5  # How many are left?" if "Python program" in asked else "19"


@pytest.mark.parametrize(("answer_now", "same"), [("19", 1.0), ("24", 0.0)])
def test_rows_are_asked_again_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer_now: str, same: float
) -> None:
    (tmp_path / "tiny_multi.jsonl").write_text(json.dumps(PROBLEM) + "\n")
    journal = tmp_path / "j.jsonl"
    with FakeUpstreamServer(answer=reply) as fake:
        record.main(
            [
                str(journal),
                "--base-url",
                fake.base_url,
                "--model",
                "fake",
                "--level",
                "k1r1",
                "--dataset",
                str(tmp_path / "tiny_multi.jsonl"),
            ]
        )
    sent_then = {json.dumps(r.body["messages"]) for r in fake.requests}
    write_tables(published(read_rows(journal), golds(tmp_path)), tmp_path)
    capsys.readouterr()
    with FakeUpstreamServer(answer=lambda _: answer_now) as fake:
        reproduce.main(
            [
                "--base-url",
                fake.base_url,
                "--model",
                "fake",
                "--recorded",
                str(tmp_path),
                "--datasets",
                str(tmp_path),
            ]
        )
    assert {json.dumps(r.body["messages"]) for r in fake.requests} <= sent_then
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert set(figures.values()) == {same}
    assert len(figures) == 5

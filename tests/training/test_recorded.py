from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forethought.training.errors import TrainingError
from forethought.training.recorded import read_recorded


def _row(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "answer",
        "context_id": "c1",
        "query_id": "q1",
        "strategy": "direct",
        "features": {"ctx_chars": 10.0, "art_notes": None},
        "quality": 1.0,
        "output_tokens": 12,
        "input_tokens": 80,
        "cached_tokens": 8,
        "latency_ms": 100.5,
        "model": "m",
        "split": "train",
        "answer": "seven",
    } | changes


def _file(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "recorded.jsonl"
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows))
    return path


def test_recorded_rows_are_read_with_their_split(tmp_path: Path) -> None:
    found = read_recorded(
        _file(
            tmp_path,
            {"kind": "sleep", "context_id": "c1"},
            _row(),
            _row(context_id="c2", split="validation", quality=None, strategy="learned:low"),
        )
    )
    assert found.recorded
    assert found.held_out.tolist() == [False, True]
    assert np.isnan(found.rows[0]["art_notes"])
    assert np.isnan(found.quality[1])
    assert found.usages[0].cached_tokens == 8
    assert found.queries == ["c1/q1", "c2/q1"]
    assert found.left_out == {"lines of kind sleep": 1}
    assert found.source == "recorded.jsonl"


def test_without_splits_contexts_are_held_out_by_their_id(tmp_path: Path) -> None:
    rows = [_row(context_id=f"c{n}", split=None) for n in range(40)]
    found = read_recorded(_file(tmp_path, *rows))
    assert 0 < found.held_out.sum() < 40


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param(_row(quality=1.5), "Line 2.*quality", id="quality out of range"),
        pytest.param(_row(strategy="guess"), "Line 2.*unknown strategy 'guess'", id="strategy"),
        pytest.param(_row(features={"nope": 1}), "Line 2.*unknown 'nope'", id="feature"),
        pytest.param(_row(output_tokens=None), "Line 2.*output_tokens", id="no tokens"),
        pytest.param('{"context_id": ', "Line 2.*Expecting value", id="cut off"),
        pytest.param("[1]", "Line 2.*line: Input should be", id="no object"),
        pytest.param(_row(split="test"), "in two splits", id="a context on both sides"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        read_recorded(_file(tmp_path, _row(), row))


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nothing\.jsonl cannot be read: No such file"):
        read_recorded(tmp_path / "nothing.jsonl")
    with pytest.raises(TrainingError, match="holds no recorded outcomes"):
        read_recorded(_file(tmp_path))

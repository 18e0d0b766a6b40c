"""Recorded outcomes made up for tests, in the published form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.publish import write_tables
from bench.recordings import Recording, read_recordings
from forethought.router.sleep.prompts import PROMPT_VERSION

Row = dict[str, Any]


def answer(
    query_id: str,
    strategy: str = "direct",
    quality: float = 1.0,
    *,
    level: str = "none",
    tokens: int = 10,
    **more: Any,
) -> Row:
    """A row of answers; ``c1-q0`` is a query on the context ``c1``."""
    return {
        "kind": "answer", "dataset": "gsm8k", "split": "test",
        "context_id": query_id.rpartition("-")[0], "query_id": query_id, "query_kind": "step",
        "model": "m", "level": level, "variant": "none" if level == "none" else PROMPT_VERSION,
        "strategy": strategy, "seed": 0, "temperature": 0.0, "answer": "1",
        "finish_reason": "stop", "quality": quality, "input_tokens": 100, "cached_tokens": 0,
        "output_tokens": tokens, "latency_ms": 1.0, "ttft_ms": 1.0, "licence": "MIT", **more,
    }  # fmt: skip


def note(text: str, answer: str) -> Row:
    return {"kind": "question", "text": text, "answer": answer, "derivation": None,
            "confidence": 1.0, "verified": True}  # fmt: skip


def sleep(
    context_id: str, level: str, notes: Sequence[Row], *, tokens: int = 100, **more: Any
) -> Row:
    return {
        "kind": "sleep", "dataset": "gsm8k", "split": "test", "context_id": context_id,
        "model": "m", "level": level, "variant": PROMPT_VERSION, "notes": json.dumps(notes),
        "text": "", "dropped": 0, "calls": 1, "input_tokens": 100, "cached_tokens": 0,
        "output_tokens": tokens, "licence": "MIT", **more,
    }  # fmt: skip


def recording(folder: Path, rows: Sequence[Row]) -> Recording:
    write_tables(rows, folder)
    return read_recordings(folder)["m"]

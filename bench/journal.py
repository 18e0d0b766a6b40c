"""The recorder's journal: one JSON line a finished call, appended and flushed at once.

A kill loses at most the calls that were under way; a line that it cut short is dropped at the
next start.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[str, ...]


def key_of(row: Mapping[str, Any]) -> Key:
    """What makes a row unique: the same call is never made twice."""
    match row["kind"]:
        case "sleep_call":
            return ("sleep_call", row["context_id"], row["request"])
        case "sleep":
            return ("sleep", row["context_id"], row["level"], row["variant"])
        case "answer":
            return (
                "answer", row["query_id"], row["strategy"], row["level"], row["variant"],
                str(row["seed"]),
            )  # fmt: skip
        case other:
            raise ValueError(f"unknown kind of row {other!r}")


def read_rows(path: Path) -> list[Row]:
    """The rows of a journal. Where it has one twice, the later line counts."""
    rows, _ = _load(path)
    return list(rows.values())


class Journal:
    """An append-only file of rows, safe to use from many threads.

    Raises:
        ValueError: A line that is not the last is broken; nothing is cut off then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._rows: dict[Key, Row] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._rows, whole = _load(path)
            if whole < path.stat().st_size:
                os.truncate(path, whole)
        self._file = path.open("a", encoding="utf-8")

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: Key) -> Row | None:
        return self._rows.get(key)

    def append(self, row: Row) -> None:
        line = json.dumps(row, ensure_ascii=False)
        with self._lock:
            self._rows[key_of(row)] = row
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def _load(path: Path) -> tuple[dict[Key, Row], int]:
    """The rows, and the bytes up to where a kill cut the last line short."""
    rows: dict[Key, Row] = {}
    whole = 0
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if row is None or not line.endswith(b"\n"):
            if number < len(lines):
                raise ValueError(
                    f"{path} has a broken line {number} that is not its last: repair it, or "
                    "record into another file."
                )
            break
        whole += len(line)
        rows[key_of(row)] = row
    return rows, whole

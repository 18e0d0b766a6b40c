"""The log: contexts, learned contexts, decisions, outcomes and feedback, kept durably."""

from __future__ import annotations

from forethought.router.log.reader import LogReader
from forethought.router.log.store import Store
from forethought.router.log.writer import LogWriter, WriterStats

__all__ = ["LogReader", "LogWriter", "Store", "WriterStats"]

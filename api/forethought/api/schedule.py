"""Training and drift checks on a schedule, if switched on: each a process of its own.

The proxy never imports what training needs. Of several servers on one data folder, one runs each
job: a lock file says who, and the time of the last run is kept beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forethought.api.metrics import Metrics
from forethought.api.settings import ENV_PREFIX, Settings
from forethought.api.tasks import end

log = logging.getLogger(__name__)

CHECK_S: Final = 10.0
"""So often it is looked whether a job is due."""

NICE: Final = 10
"""Training yields the processor to serving."""

_SHOWN: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command of ``forethought``, and how often it runs. ``fine``: exit statuses of a success."""

    name: str
    arguments: Sequence[str]
    every_s: float
    fine: frozenset[int] = frozenset({0})


def jobs_of(settings: Settings) -> list[Job]:
    """The jobs that the settings switch on."""
    jobs = []
    folder = str(settings.data_dir)
    if settings.retrain_every_h is not None:
        options = ["--data-dir", folder, "--challenge", f"--margin={settings.quality_margin}"]
        jobs.append(
            Job(
                name="train",
                arguments=["train", *options, *settings.retrain_options],
                every_s=3600 * settings.retrain_every_h,
            )
        )
    if settings.drift_every_h is not None:
        jobs.append(
            Job(
                name="drift",
                arguments=["drift", "--data-dir", folder, "--demote"],
                every_s=3600 * settings.drift_every_h,
                fine=frozenset({0, 1}),  # 1: an alarm, which it has written down
            )
        )
    return jobs


class Scheduler:
    """Runs the jobs that are due. Without any, it does nothing."""

    def __init__(self, settings: Settings, metrics: Metrics, *, check_s: float = CHECK_S) -> None:
        self._jobs = jobs_of(settings)
        self._folder = settings.data_dir / "schedule"
        self._environment = _environment(settings)
        self._metrics = metrics
        self._check_s = check_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for jobs that are due."""
        if self._jobs:
            self._task = asyncio.create_task(self._watch(), name="schedule")

    async def stop(self) -> None:
        """Stop, ending a job under way."""
        task, self._task = self._task, None
        await end(task)

    async def _watch(self) -> None:
        while True:
            for job in self._jobs:
                try:
                    await self._run_if_due(job)
                except OSError as error:
                    log.warning("the scheduled %s could not be run: %s", job.name, error)
                    self._metrics.scheduled(job.name, "failed")
            await asyncio.sleep(self._check_s)

    async def _run_if_due(self, job: Job) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / f"{job.name}.lock") as ours:
            if not ours:
                return
            ran = self._folder / f"{job.name}.ran"
            if not ran.exists():
                ran.touch()  # the first run is due one interval after it was switched on
            if time.time() < ran.stat().st_mtime + job.every_s:
                return
            ran.touch()
            await self._run(job)

    async def _run(self, job: Job) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "forethought.api.cli", *job.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
        )  # fmt: skip
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        try:
            said, _ = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        fine = process.returncode in job.fine
        self._metrics.scheduled(job.name, "ok" if fine else "failed")
        text = said.decode(errors="replace")[-_SHOWN:].strip()
        log.log(
            logging.INFO if fine else logging.WARNING,
            "the scheduled %s ended with status %s:\n%s", job.name, process.returncode, text,
        )  # fmt: skip


def _environment(settings: Settings) -> dict[str, str]:
    """Settings that the commands read there; a database's password must not be an argument."""
    given = {
        "VALUE_USD": settings.value_usd,
        "LATENCY_USD_PER_S": settings.latency_usd_per_s,
        "MAX_LATENCY_MS": settings.max_latency_ms,
        "EXPLORATION": settings.exploration,
        "EXPLORATION_KIND": settings.exploration_kind,
        "EXPLORATION_TEMPERATURE_USD": settings.exploration_temperature_usd,
    }
    found = os.environ | {
        f"{ENV_PREFIX}{name}": str(value) for name, value in given.items() if value is not None
    }
    if settings.database_url is not None:
        found[f"{ENV_PREFIX}DATABASE_URL"] = settings.database_url.get_secret_value()
    return found


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the lock is ours until the end of the block; it falls with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)

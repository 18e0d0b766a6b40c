"""Scheduled jobs run in processes of their own, once, whoever looks."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from forethought.api.metrics import Metrics
from forethought.api.schedule import Scheduler, jobs_of
from forethought.api.settings import Settings
from forethought.api.settings_sources import load_settings


def _settings(tmp_path: Path, **given: Any) -> Settings:
    return load_settings(
        data_dir=tmp_path / "data", upstream_base_url="http://127.0.0.1:9", **given
    )


def test_nothing_is_scheduled_unless_switched_on(tmp_path: Path) -> None:
    assert jobs_of(_settings(tmp_path)) == []


def test_a_job_is_a_command_with_the_servers_settings(tmp_path: Path) -> None:
    settings = _settings(
        tmp_path, retrain_every_h=24, retrain_options=["--tune-minutes=5"], quality_margin=0.01
    )
    (job,) = jobs_of(settings)
    assert job.every_s == 86_400
    folder = str(tmp_path / "data")
    assert job.arguments == [
        "train", "--data-dir", folder, "--challenge", "--margin=0.01", "--tune-minutes=5",
    ]  # fmt: skip


@pytest.mark.timeout(120)
async def test_of_two_servers_one_runs_a_job_that_is_due(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = _settings(tmp_path, drift_every_h=0.5)
    schedule = tmp_path / "data" / "schedule"
    schedule.mkdir(parents=True)
    (schedule / "drift.ran").touch()
    an_hour_ago = time.time() - 3600
    os.utime(schedule / "drift.ran", (an_hour_ago, an_hour_ago))
    metrics = Metrics()
    pair = [Scheduler(settings, metrics, check_s=0.05) for _ in range(2)]
    for scheduler in pair:
        scheduler.start()
    try:
        async with asyncio.timeout(100):
            while b"scheduled_runs_total{" not in metrics.text():  # noqa: ASYNC110 - it ends itself
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
    finally:
        for scheduler in pair:
            await scheduler.stop()
    # There is no log yet: the job says so, and that is seen.
    assert b'scheduled_runs_total{result="failed",what="drift"} 1.0' in metrics.text()
    assert "There is no log at" in caplog.text


async def test_a_job_just_switched_on_waits_its_time(tmp_path: Path) -> None:
    metrics = Metrics()
    scheduler = Scheduler(_settings(tmp_path, drift_every_h=1), metrics, check_s=0.01)
    scheduler.start()
    await asyncio.sleep(0.2)
    await scheduler.stop()
    assert b"scheduled_runs_total{" not in metrics.text()
    assert (tmp_path / "data" / "schedule" / "drift.ran").exists()

"""What the demo runs on: the machine, the model's prices and what they stand for."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from forethought.router.pricing import RENT_USD_PER_HOUR, Prices


def machine() -> str:
    """The CPU's model and the number of cores that this process may use."""
    return f"{_cpu_model()}, {cores()} core{'s' if cores() != 1 else ''}"


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def priced(prices: Prices | None) -> str:
    """The prices in words, with what they stand for."""
    if prices is None:
        return "unknown, so costs cannot be shown; tokens are"
    listed = (
        f"{prices.input:.2f} USD per million input tokens, {prices.cached_input:.3f} cached, "
        f"{prices.output:.2f} output"
    )
    if prices.source == "reference":
        return (
            f"{listed}. They stand for the machine: 2 vCPU rented at {RENT_USD_PER_HOUR} USD an "
            "hour, divided by the model's tokens per second there"
        )
    return f"{listed} ({prices.source})"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

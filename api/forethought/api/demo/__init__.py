"""``forethought demo``: the main job, end to end, on a real model."""

from __future__ import annotations

from forethought.api.demo.command import command

__all__ = ["command"]

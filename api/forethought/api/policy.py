"""Serve the champion: watch the registry's pointers and swap bundles between two requests.

A new bundle is read, verified and tried before it serves. One that cannot be loaded is
counted and logged, and the policy that served before goes on. What tenants' answers by it were
judged to be is then read from the log, while it serves. The challenger is watched in the same way,
and what the last check for drift found is taken into the metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from forethought.api.metrics import Metrics
from forethought.api.tasks import end
from forethought.models.bundle import PolicyBundle, pretrained_dir
from forethought.models.errors import ForethoughtError
from forethought.models.features import DECISION_FEATURES
from forethought.router.blending import Blending
from forethought.router.decision import Decider
from forethought.router.log import LogReader
from forethought.router.registry import Registry
from forethought.router.shadow import Shadow

log = logging.getLogger(__name__)

RETRY_S: Final = 30.0
"""A bundle that could not be loaded is tried again after this, or when another is named."""

DRIFT_STATUS: Final = "drift.json"
"""In the registry's folder; ``forethought drift`` writes it."""

MOST_GRADED: Final = 5_000
"""Graded answers read from the log, the latest: a third of a second, beside the serving."""

Source = Literal["champion", "pretrained", "none"]


@dataclass(frozen=True, slots=True)
class Serving:
    """Which policy serves, where it is from, and what is wrong, if anything."""

    version: str
    source: Source
    problem: str | None = None


class PolicyWatcher:
    """Keeps ``decider.bundle`` what the registry names."""

    def __init__(
        self,
        *,
        registry: Registry,
        decider: Decider,
        metrics: Metrics,
        poll_s: float,
        shadow: Shadow | None = None,
        reader: LogReader | None = None,
    ) -> None:
        self._registry = registry
        self._decider = decider
        self._metrics = metrics
        self._poll_s = poll_s
        self._shadow = shadow
        self._reader = reader
        self._reading: asyncio.Task[None] | None = None
        self._challenger: str | None = None
        self._drift_at = 0
        self._task: asyncio.Task[None] | None = None
        self._wanted: str | None = None
        self._tried_at: float | None = None
        self.serving = Serving("none", "none", "no policy was loaded yet")

    async def start(self) -> None:
        """Load the policy that is to serve now, then watch."""
        await self._check_all()
        self._task = asyncio.create_task(self._watch(), name="policy-watch")

    async def stop(self) -> None:
        tasks, self._task, self._reading = (self._task, self._reading), None, None
        for task in tasks:
            await end(task)

    async def check(self) -> None:
        """Take up the policy that the registry names, if it is another. Never raises."""
        try:
            wanted = await asyncio.to_thread(self._registry.champion)
        except ForethoughtError as error:
            self._keep(f"the champion is unknown: {error}")
            return
        waiting = self._tried_at is not None and (
            self.serving.problem is None or time.monotonic() < self._tried_at + RETRY_S
        )
        if waiting and wanted == self._wanted:
            return
        self._wanted, self._tried_at = wanted, time.monotonic()
        try:
            bundle = await asyncio.to_thread(_loaded, self._registry, wanted)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it must not serve
            self._keep(str(error))
            if self._decider.bundle is None and wanted is not None:
                await self._serve_pretrained()
            return
        self._serve(bundle, "pretrained" if wanted is None else "champion")

    async def _check_challenger(self) -> None:
        """Let the challenger that the registry names score, or none. Never raises."""
        shadow = self._shadow
        if shadow is None:
            return
        try:
            wanted = await asyncio.to_thread(self._registry.challenger)
            if wanted == self._challenger:
                return
            self._challenger = wanted
            bundle = None
            if wanted is not None:
                bundle = await asyncio.to_thread(_loaded, self._registry, wanted)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it must not score
            log.warning("no challenger: %s", error)
            bundle = None
        shadow.bundle = bundle
        self._metrics.challenges(None if bundle is None else bundle.version)

    async def _check_drift(self) -> None:
        """Show what the last check for drift found. Never raises."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            read = await asyncio.to_thread(self._drift_status)
            if read is None:
                return
            self._metrics.drift_found(
                alarm=bool(read["alarm"]), psi=read["psi_max"], error=read["calibration_error"]
            )
            if read["alarm"]:
                log.warning("drift: policy %s, %s", read["policy"], _what_drifted(read))

    def _drift_status(self) -> dict[str, Any] | None:
        """The status file if it was written anew since it was last read."""
        path = self._registry.folder / DRIFT_STATUS
        if not path.exists() or (at := path.stat().st_mtime_ns) == self._drift_at:
            return None
        self._drift_at = at
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    async def _serve_pretrained(self) -> None:
        problem = self.serving.problem
        with contextlib.suppress(Exception):
            self._serve(await asyncio.to_thread(_loaded, self._registry, None), "pretrained")
            self.serving = Serving(self.serving.version, "pretrained", problem)

    def _serve(self, bundle: PolicyBundle, source: Source) -> None:
        blending = self._decider.blending
        if blending is not None:
            concentration = bundle.predictability.concentration
            blending.begin(bundle.version, concentration=concentration)
            if self._reading is not None:
                self._reading.cancel()
            self._reading = asyncio.create_task(
                self._resume(blending, bundle.version, concentration)
            )
        self._decider.bundle = bundle
        self.serving = Serving(bundle.version, source)
        self._metrics.policy_serves(bundle.version, source)
        log.info("policy %s (%s) serves", bundle.version, source)

    async def _resume(self, blending: Blending, version: str, concentration: float) -> None:
        """Blend with what the log has of this policy's answers. Never raises."""
        reader = self._reader
        if reader is None:
            return

        def read() -> Blending:
            past = reader.graded_answers(version, limit=MOST_GRADED)
            return Blending.of_past(version, past, concentration=concentration)

        try:
            blending.adopt(await asyncio.to_thread(read))
        except Exception as error:  # noqa: BLE001 - the policy serves without it
            log.warning("graded answers of the past cannot be read: %s", error)

    def _keep(self, problem: str) -> None:
        if problem != self.serving.problem:
            self._metrics.policy_failed()
            log.warning("no new policy: %s", problem)
        self.serving = Serving(self.serving.version, self.serving.source, problem)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self._check_all()

    async def _check_all(self) -> None:
        await self.check()
        await self._check_challenger()
        await self._check_drift()


def _loaded(registry: Registry, version: str | None) -> PolicyBundle:
    """Read and verify a policy, and predict with it once."""
    bundle = PolicyBundle.load(pretrained_dir()) if version is None else registry.load(version)
    row = {feature.name: 0.0 for feature in DECISION_FEATURES}
    bundle.foresee(row)
    bundle.demand.expected_more(1)
    return bundle


def _what_drifted(read: dict[str, Any]) -> str:
    said = [f"{name} moved (index {value:.2f})" for name, value in list(read["moved"].items())[:5]]
    if read["calibration_alarm"]:
        said.append(f"predictions are {100 * read['calibration_error']:+.0f} points off")
    if read["demoted_to"] is not None:
        said.append(f"taken back, {read['demoted_to']} serves")
    return "; ".join(said)

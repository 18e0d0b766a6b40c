"""The durable sleep workflow: every model call is one step of a DBOS workflow.

A process killed in mid-sleep resumes where it was: finished calls are read back from DBOS's
store, never made and never paid again. The workflow's id is made of the context, the level and
the version, so that the same sleep is never bought twice: nor by two processes whose store is the
same Postgres database, which share the work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any, Final

from dbos import DBOS, DBOSConfig, SetWorkflowID, WorkflowStatus
from sqlalchemy.engine import make_url

from forethought.router.errors import StoreError
from forethought.router.log import LogReader, LogWriter
from forethought.router.pricing import STANDARD_TIERS, PriceTable, cost
from forethought.router.records import Context, LearnedContext, SleepLevel, Usage
from forethought.router.sleep import prompts
from forethought.router.sleep.calls import Ask, complete
from forethought.router.sleep.executors import Executors
from forethought.router.sleep.writer import Call, Reply, estimated_tokens, write

log = logging.getLogger(__name__)

Workflow = Callable[..., str]
"""What DBOS runs; its arguments are stored, so only those of ``enqueue`` below."""

QUEUE: Final = "forethought-sleep"
WORKFLOW: Final = "forethought.sleep"
VERSION: Final = f"sleep-{prompts.PROMPT_VERSION}"
"""DBOS's name for the code: fixed, so that an upgraded server finishes what the older one began."""

STATUS: Final = {
    "PENDING": "running",
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "SUCCESS": "done",
    "ERROR": "failed",
    "CANCELLED": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepSettings:
    """Which model sleeps, and how many sleeps run at once.

    ``provider_url`` finds the model's prices. ``fields`` are more of a request's fields for
    each call; ``thinking_tokens`` come on top of what an answer may have, for a model that
    cannot but think first.
    """

    model: str
    concurrency: int = 1
    provider_url: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    thinking_tokens: int = 0


class Sleeper:
    """Runs sleep workflows in this process. One a process: DBOS is a process-wide singleton.

    ``ask`` begins the calls to the model, ``on_learned`` is told what was learned.
    """

    def __init__(
        self,
        *,
        settings: SleepSettings,
        ask: Ask,
        system_database_url: str,
        reader: LogReader,
        writer: LogWriter,
        prices: PriceTable,
        on_learned: Callable[[LearnedContext], None] | None = None,
    ) -> None:
        self._settings = settings
        self._ask = ask
        self._url = system_database_url
        self._reader = reader
        self._writer = writer
        self._prices = prices
        self._on_learned = on_learned
        self._workflow: Workflow | None = None
        self._executors: Executors | None = None
        self._enqueueing = Lock()
        self._stopping = Event()

    def start(self) -> None:
        """Open DBOS's store and resume the sleeps that a crash interrupted."""
        self._stopping = Event()
        try:
            self._enter()
            self._launch()
        except Exception as error:
            self.stop()
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            shown = make_url(self._url).render_as_string(hide_password=True)
            raise StoreError(
                f"The sleep store {shown} cannot be opened: {reason}.",
                param="database_url" if self._is_shared else "data_dir",
                remedy="Check that it is reachable and may be written to; a damaged file can be "
                "moved away to begin with a new one.",
            ) from error

    def _launch(self) -> None:
        config: DBOSConfig = {
            "name": "forethought",
            "system_database_url": self._url,
            "application_version": VERSION,
            # One process takes up what it had begun itself; of several, each has a name.
            "executor_id": "local" if self._executors is None else self._executors.name,
            "log_level": "WARNING",
            "console_log_level": "WARNING",
            "enable_otlp": False,
        }
        DBOS(config=config)
        self._workflow = DBOS.workflow(name=WORKFLOW)(self._as_function())
        DBOS.launch()
        DBOS.register_queue(
            QUEUE, worker_concurrency=self._settings.concurrency, polling_interval_sec=0.2
        )
        if self._executors is not None:
            self._executors.start()

    def stop(self) -> None:
        """Stop; running sleeps resume at the next start."""
        self._workflow = None
        executors, self._executors = self._executors, None
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=0)
        # Only now: what running sleeps raise must not be recorded as their failure.
        self._stopping.set()
        logging.getLogger("dbos").setLevel(logging.CRITICAL)  # nor be shown as one
        if executors is not None:
            executors.leave()

    @property
    def _is_shared(self) -> bool:
        """Whether other processes may have the same store."""
        return make_url(self._url).get_backend_name() == "postgresql"

    def _enter(self) -> None:
        if self._is_shared:
            self._executors = Executors(self._url, begun_by=_begun_by, take_up=_recover)
            self._executors.enter()

    def enqueue(self, context: Context, level: SleepLevel, *, tier: str | None = None) -> str:
        """Queue a sleep on ``context``; returns the workflow's id.

        Its calls ask for the service ``tier``, in the provider's word; None: the standard one.
        The same sleep queues once. One that failed is taken up where it failed, under a new id:
        its finished calls are not repeated.
        """
        workflow = self._workflow
        if workflow is None:
            message = "start the Sleeper first"
            raise RuntimeError(message)
        # Two processes may have found it at once, under two ids: the store has one of them.
        context = self._reader.context_by_hash(context.tenant, context.hash) or context
        with self._enqueueing:
            under_way = [a for a in _attempts(f"sleep:{context.id}") if _is_under_way(a)]
            for attempt in under_way:
                if attempt.workflow_id.split(":")[2] == level.name:
                    return attempt.workflow_id
            latest = self._reader.latest_learned(context.id)
            versions = [int(a.workflow_id.split(":")[3].removeprefix("v")) for a in under_way]
            version = 1 + max([0 if latest is None else latest.version, *versions])
            workflow_id = f"sleep:{context.id}:{level.name}:v{version}"
            attempts = _attempts(workflow_id)
            if attempts and STATUS.get(attempts[-1].status) != "failed":
                return attempts[-1].workflow_id
            if attempts:
                return _take_up(attempts[-1].workflow_id, f"{workflow_id}:retry{len(attempts)}")
            with SetWorkflowID(workflow_id):
                DBOS.enqueue_workflow(
                    QUEUE,
                    workflow,
                    context.id,
                    context.text,
                    level.drafts,
                    level.rounds,
                    version,
                    None if tier in STANDARD_TIERS else tier,
                )
        return workflow_id

    def enqueue_first(self, context: Context, level: SleepLevel) -> str | None:
        """``enqueue``, unless something was learned already; another process may have done it."""
        stored = self._reader.context_by_hash(context.tenant, context.hash) or context
        if self._reader.latest_learned(stored.id) is not None:
            return None
        return self.enqueue(stored, level)

    def status(self, context_id: str) -> str:
        """``none``, ``queued``, ``running``, ``done`` or ``failed``: the latest sleep's."""
        attempts = _attempts(f"sleep:{context_id}")
        return STATUS.get(attempts[-1].status, "running") if attempts else "none"

    def forget(self, context_id: str) -> None:
        """Delete the jobs of a context that was deleted: their input and results hold its text.

        One that is under way ends first, and stays.
        """
        ended = [a for a in _attempts(f"sleep:{context_id}") if not _is_under_way(a)]
        if ended:
            DBOS.delete_workflows([attempt.workflow_id for attempt in ended])

    def _as_function(self) -> Workflow:
        # DBOS sets attributes on what it registers, which a bound method does not allow.
        # A workflow that an earlier version queued has no tier.
        def sleep(
            context_id: str,
            text: str,
            drafts: int,
            rounds: int,
            version: int,
            tier: str | None = None,
        ) -> str:
            level = SleepLevel(drafts=drafts, rounds=rounds)
            return self._sleep(context_id, text, level, version, tier)

        return sleep

    def _sleep(
        self, context_id: str, text: str, level: SleepLevel, version: int, asked_tier: str | None
    ) -> str:
        settings, stopping = self._settings, self._stopping
        costs: list[float | None] = []

        def call(wanted: Call) -> Reply:
            body = _request(settings, wanted, asked_tier)
            made = DBOS.run_step(
                {"name": wanted.label}, lambda: complete(self._ask, body, wanted.label, stopping)
            )
            usage = Usage(**made["usage"])
            # A call that an earlier version stored says nothing of its tier.
            tier = made.get("service_tier")
            prices = self._prices.lookup(settings.model, settings.provider_url, tier)
            costs.append(cost(usage, prices))
            return Reply(made["text"], usage)

        written = write(text, level, call)
        learned_id = f"lc_{context_id.removeprefix('ctx_')}_{level.name}_v{version}"
        learned = LearnedContext(
            id=learned_id,
            context_id=context_id,
            version=version,
            level=level.name,
            model=settings.model,
            notes=written.notes,
            text=written.text,
            tokens=estimated_tokens(written.text),
            usage=written.usage,
            cost_usd=_total(costs),
            created_at=time.time(),
            dropped=written.dropped,
        )
        DBOS.run_step({"name": "store"}, lambda: self._store(learned))
        self._tell(learned)
        return learned_id

    def _store(self, learned: LearnedContext) -> str:
        # A crash between the commit and the step's record repeats this step, not the row.
        if self._reader.learned_context(learned.id) is None:
            try:
                self._writer.write_sync(learned)
            except StoreError:
                if self._reader.has_context(learned.context_id):
                    raise
                self._reader.add_deleted_sleep(learned)  # deleted meanwhile, but paid for
        return learned.id

    def _tell(self, learned: LearnedContext) -> None:
        if self._on_learned is None:
            return
        try:
            self._on_learned(learned)
        except Exception:  # the sleep is done all the same
            log.exception("the news of %s could not be passed on", learned.id)


def _is_under_way(attempt: WorkflowStatus) -> bool:
    return STATUS.get(attempt.status) in {"queued", "running"}


def _begun_by() -> set[str]:
    """The executors that have begun sleeps which are not finished."""
    begun = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
    return {one.executor_id for one in begun if one.executor_id}


def _recover(executors: list[str]) -> None:
    """Queue again what dead executors had begun: as DBOS does on starting, for its own name."""
    DBOS._recover_pending_workflows(executors)  # noqa: SLF001 - no other way without its cloud


def _attempts(prefix: str) -> list[WorkflowStatus]:
    """The workflows whose id is ``prefix`` or goes on from it after a colon, the latest last."""
    found = DBOS.list_workflows(workflow_id_prefix=prefix, load_input=False, load_output=False)
    own = [w for w in found if f"{w.workflow_id}:".startswith(f"{prefix}:")]
    return sorted(own, key=lambda w: w.created_at or 0)


def _take_up(failed_id: str, workflow_id: str) -> str:
    """Queue a failed workflow again from the first step that has no result."""
    steps = DBOS.list_workflow_steps(failed_id)
    failed = [step["function_id"] for step in steps if step["error"] is not None]
    after_all = 1 + max((step["function_id"] for step in steps), default=0)
    with SetWorkflowID(workflow_id):
        DBOS.fork_workflow(
            failed_id,
            min(failed, default=after_all),
            application_version=VERSION,
            queue_name=QUEUE,
        )
    return workflow_id


def _request(settings: SleepSettings, wanted: Call, tier: str | None) -> dict[str, Any]:
    return {
        "model": settings.model,
        "messages": list(wanted.messages),
        "max_tokens": wanted.max_tokens + settings.thinking_tokens,
        "temperature": wanted.temperature,
        "seed": wanted.seed,
        **settings.fields,
        **({} if tier is None else {"service_tier": tier}),
    }


def _total(costs: Sequence[float | None]) -> float | None:
    """The sum; None where one of them is unknown."""
    known = [spent for spent in costs if spent is not None]
    return sum(known) if len(known) == len(costs) else None

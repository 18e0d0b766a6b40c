"""The durable sleep workflow: every model call is one step of a DBOS workflow.

A process killed in mid-sleep resumes where it was: finished calls are read back from DBOS's
store, never made and never paid again. The workflow's id is made of the context, the level and
the version, so that the same sleep is never bought twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from dbos import DBOS, DBOSConfig, SetWorkflowID
from openai import OpenAI, OpenAIError

from forethought.router.errors import StoreError, UpstreamError
from forethought.router.log import LogReader, LogWriter
from forethought.router.pricing import PriceTable, cost
from forethought.router.records import Context, LearnedContext, SleepLevel, Usage
from forethought.router.sleep import prompts
from forethought.router.sleep.writer import Call, Reply, estimated_tokens, write

log = logging.getLogger(__name__)

QUEUE: Final = "forethought-sleep"
WORKFLOW: Final = "forethought.sleep"

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
    """Where sleep's tokens come from, and how many sleeps run at once."""

    model: str
    base_url: Callable[[], str]
    api_key: str
    concurrency: int = 1
    timeout_s: float = 600.0
    provider_url: str | None = None


class Sleeper:
    """Runs sleep workflows in this process. One a process: DBOS is a process-wide singleton."""

    def __init__(
        self,
        *,
        settings: SleepSettings,
        system_database_url: str,
        reader: LogReader,
        writer: LogWriter,
        prices: PriceTable,
        on_learned: Callable[[LearnedContext], None] | None = None,
    ) -> None:
        self._settings = settings
        self._url = system_database_url
        self._reader = reader
        self._writer = writer
        self._prices = prices
        self._on_learned = on_learned
        self._workflow: Callable[..., str] | None = None

    def start(self) -> None:
        """Open DBOS's store and resume the sleeps that a crash interrupted."""
        config: DBOSConfig = {
            "name": "forethought",
            "system_database_url": self._url,
            # A fixed version: an upgraded server finishes what the older one began.
            "application_version": f"sleep-{prompts.PROMPT_VERSION}",
            "executor_id": "local",
            "log_level": "WARNING",
            "console_log_level": "WARNING",
            "enable_otlp": False,
        }
        try:
            DBOS(config=config)
            self._workflow = DBOS.workflow(name=WORKFLOW)(self._sleep)
            DBOS.launch()
            DBOS.register_queue(
                QUEUE, worker_concurrency=self._settings.concurrency, polling_interval_sec=0.2
            )
        except Exception as error:
            DBOS.destroy(destroy_registry=True)
            raise StoreError(
                f"The sleep store {self._url} cannot be opened: {error}.",
                param="data_dir",
                remedy="Check the file, or move it away to begin with a new one.",
            ) from error

    def stop(self) -> None:
        """Stop; running sleeps resume at the next start."""
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=0)

    def enqueue(self, context: Context, level: SleepLevel) -> str:
        """Queue a sleep on ``context``; returns the workflow's id. The same sleep queues once."""
        if self._workflow is None:
            message = "start the Sleeper first"
            raise RuntimeError(message)
        latest = self._reader.latest_learned(context.id)
        version = 1 if latest is None else latest.version + 1
        workflow_id = f"sleep:{context.id}:{level.name}:v{version}"
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow(
                QUEUE,
                self._workflow,
                context.id,
                context.text,
                level.drafts,
                level.rounds,
                version,
            )
        return workflow_id

    def status(self, context_id: str) -> str:
        """``none``, ``queued``, ``running``, ``done`` or ``failed``: the latest sleep's."""
        found = DBOS.list_workflows(
            workflow_id_prefix=f"sleep:{context_id}:", load_input=False, load_output=False
        )
        if not found:
            return "none"
        latest = max(found, key=lambda w: w.created_at or 0)
        return STATUS.get(latest.status, "running")

    def _sleep(self, context_id: str, text: str, drafts: int, rounds: int, version: int) -> str:
        level = SleepLevel(drafts=drafts, rounds=rounds)
        client = OpenAI(
            api_key=self._settings.api_key,
            base_url=self._settings.base_url(),
            timeout=self._settings.timeout_s,
        )
        model = self._settings.model

        def call(wanted: Call) -> Reply:
            made = DBOS.run_step(
                {"name": wanted.label, "retries_allowed": True, "max_attempts": 4},
                lambda: _complete(client, model, wanted),
            )
            return Reply(made["text"], Usage(**made["usage"]))

        written = write(text, level, call)
        learned_id = f"lc_{context_id.removeprefix('ctx_')}_{level.name}_v{version}"
        prices = self._prices.lookup(model, self._settings.provider_url)
        learned = LearnedContext(
            id=learned_id,
            context_id=context_id,
            version=version,
            level=level.name,
            model=model,
            notes=written.notes,
            text=written.text,
            tokens=estimated_tokens(written.text),
            usage=written.usage,
            cost_usd=cost(written.usage, prices),
            created_at=time.time(),
            dropped=written.dropped,
        )
        DBOS.run_step({"name": "store"}, lambda: self._store(learned))
        if self._on_learned is not None:
            self._on_learned(learned)
        return learned_id

    def _store(self, learned: LearnedContext) -> str:
        # A crash between the commit and the step's record repeats this step, not the row.
        if self._reader.learned_context(learned.id) is None:
            self._writer.write_sync(learned)
        return learned.id


def _complete(client: OpenAI, model: str, wanted: Call) -> dict[str, Any]:
    try:
        reply = client.chat.completions.create(
            model=model,
            messages=list(wanted.messages),  # type: ignore[arg-type]
            max_tokens=wanted.max_tokens,
            temperature=wanted.temperature,
            seed=wanted.seed,
        )
    except OpenAIError as error:
        raise UpstreamError(f"Sleep's call {wanted.label!r} failed: {error}") from error
    used = reply.usage
    details = used.prompt_tokens_details if used else None
    usage = Usage(
        input_tokens=used.prompt_tokens if used else 0,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        output_tokens=used.completion_tokens if used else 0,
    )
    return {"text": reply.choices[0].message.content or "", "usage": asdict(usage)}

"""What a running server owns, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from forethought.api.memory import settle
from forethought.api.metrics import Metrics
from forethought.api.policy import PolicyWatcher
from forethought.api.schedule import Scheduler
from forethought.api.serving import serving_of
from forethought.api.settings import Settings
from forethought.api.spending import asked_within, open_budget, while_affordable
from forethought.api.upstreams import upstream_of
from forethought.models.embedding import Embedder, HashEmbedder, WordLlamaEmbedder
from forethought.models.errors import ForethoughtError
from forethought.models.features import FeatureExtractor
from forethought.router.blending import Blending
from forethought.router.bookkeeping import Bookkeeping
from forethought.router.budget import Budget
from forethought.router.decision import Decider
from forethought.router.dialects.thinking import least_thinking
from forethought.router.errors import ConfigError
from forethought.router.experience import Experience
from forethought.router.gateway import Gateway
from forethought.router.known import KnownContexts
from forethought.router.log import LogReader, LogWriter, Store
from forethought.router.log.past import read_past
from forethought.router.past_policies import PastPolicies
from forethought.router.pricing import PriceTable
from forethought.router.records import LearnedContext
from forethought.router.registry import Registry
from forethought.router.serving import Serving
from forethought.router.shadow import Shadow
from forethought.router.sleep.background import BackgroundSleep
from forethought.router.sleep.planner import SleepPlanner
from forethought.router.sleep.starting import StartingSleeper
from forethought.router.surprisal import Surprisals
from forethought.router.turns import Turns
from forethought.router.upstream import Upstream, UpstreamReply
from forethought.router.upstream.scoring import scorer_of

if TYPE_CHECKING:
    from forethought.router.sleep.workflow import Sleeper

log = logging.getLogger(__name__)

READERS = 4
"""Threads that read the store: a read takes a fraction of a millisecond."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything the routes use."""

    settings: Settings
    metrics: Metrics
    store: Store
    writer: LogWriter
    reader: LogReader
    executor: ThreadPoolExecutor
    contexts: KnownContexts
    upstream: Upstream
    serving: Serving
    decider: Decider
    experience: Experience
    policy: PolicyWatcher
    past_policies: PastPolicies
    gateway: Gateway
    planner: SleepPlanner | None
    sleeper: StartingSleeper | None
    budget: Budget | None = None

    async def blocking(self, call: Callable[[], T]) -> T:
        """Run a call that reads the store, or queues sleep, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, call)


@asynccontextmanager
async def opened(settings: Settings, metrics: Metrics) -> AsyncIterator[Services]:
    """Open all that ``settings`` ask for; close it in the end, whatever happens.

    Raises:
        ForethoughtError: Something cannot be opened; the error names it.
    """
    async with AsyncExitStack() as stack:
        _make_data_dir(settings.data_dir)
        upstream = upstream_of(settings)
        stack.push_async_callback(upstream.aclose)
        starting = asyncio.create_task(upstream.start())
        stack.push_async_callback(_cancelled, starting)  # it loads while the rest is opened
        store = stack.enter_context(await asyncio.to_thread(Store.open, settings.store_url))
        # It ends before the store is closed, which only closes what nobody is reading by.
        executor = ThreadPoolExecutor(READERS, thread_name_prefix="forethought-read")
        stack.callback(executor.shutdown)
        writer = LogWriter(store)
        stack.push_async_callback(asyncio.to_thread, writer.close)
        metrics.watch(writer)
        reader = LogReader(store)
        prices = await asyncio.to_thread(
            PriceTable,
            {settings.placed(name): p.as_prices() for name, p in settings.prices.items()},
            settings.tier_multipliers,
            {name: one.base_url for name, one in settings.upstreams.items()},
        )
        embedder = await asyncio.to_thread(_embedder)
        extractor = FeatureExtractor(embedder)
        experience = _experience(stack, extractor, store, executor)
        decider = Decider(
            extractor=extractor,
            bundle=None,
            prices=prices,
            preferences=settings.preferences,
            rng=random.Random(settings.seed),
            experience=experience,
            blending=Blending() if settings.blending else None,
        )
        registry = Registry(settings.data_dir)
        shadow = Shadow(
            data_dir=settings.data_dir,
            preferences=lambda: decider.preferences,
            prices_of=lambda model: prices.lookup(
                model, None if settings.embedded else upstream.base_url
            ),
            observer=metrics,
        )
        stack.push_async_callback(asyncio.to_thread, shadow.close)
        metrics.after_reply = lambda decision, _: shadow.consider(decision)
        policy = PolicyWatcher(
            registry=registry,
            decider=decider,
            metrics=metrics,
            poll_s=settings.policy_poll_s,
            shadow=shadow,
            reader=reader,
        )
        # A policy was fitted on word vectors: on other features it would only guess.
        if isinstance(embedder, WordLlamaEmbedder):
            await policy.start()
        stack.push_async_callback(policy.stop)
        scheduler = Scheduler(settings, metrics)
        scheduler.start()
        stack.push_async_callback(scheduler.stop)
        await starting
        serving = await serving_of(settings, upstream)
        contexts = KnownContexts(reader, executor)
        budget = await asyncio.to_thread(
            partial(
                open_budget,
                settings,
                serving=serving,
                prices=prices,
                decider=decider,
                reader=reader,
            )
        )
        if budget is not None:
            metrics.watch_budget(budget)
        sleeper = _sleeper(
            settings, upstream, serving, reader, writer, prices, metrics, contexts, budget
        )
        planner = background = None
        if sleeper is not None and serving.model is not None:
            stack.push_async_callback(asyncio.to_thread, sleeper.stop)
            waking = asyncio.create_task(asyncio.to_thread(_wake, sleeper))
            stack.push_async_callback(asyncio.wait, [waking])
            planner = SleepPlanner(
                decider=decider,
                reader=reader,
                sleeper=sleeper,
                prices=prices,
                model=serving.model,
                levels=settings.auto_levels,
                tier_waits_s=settings.sleep_tiers,
                provider_url=serving.provider_url,
                price_multiplier=settings.sleep_price_multiplier,
            )
            if settings.sleep == "always" or prices.lookup(serving.model, serving.provider_url):
                background = BackgroundSleep(
                    mode=settings.sleep,
                    planner=planner,
                    sleeper=sleeper,
                    decider=decider,
                    level=settings.sleep_level,
                    executor=executor,
                )
            else:
                log.warning("no price of %s is known: sleep only on request", serving.model)
        surprisals = _surprisals(stack, settings, upstream, serving, writer, experience)
        gateway = Gateway(
            upstream=upstream,
            turns=Turns(decider=decider, contexts=contexts, serving=serving, surprisals=surprisals),
            books=Bookkeeping(
                contexts=contexts,
                writer=writer,
                prices_of=lambda model, tier: prices.lookup(model, serving.provider_url, tier),
                observer=metrics,
                after_reply=None if background is None else while_affordable(background, budget),
                budget=budget,
                experience=experience,
                surprisals=surprisals,
            ),
            prices=prices,
            serving=serving,
        )
        yield Services(
            settings=settings,
            metrics=metrics,
            store=store,
            writer=writer,
            reader=reader,
            executor=executor,
            contexts=contexts,
            upstream=upstream,
            serving=serving,
            decider=decider,
            experience=experience,
            policy=policy,
            past_policies=PastPolicies(registry),
            gateway=gateway,
            planner=planner,
            sleeper=sleeper,
            budget=budget,
        )


def _experience(
    stack: AsyncExitStack, extractor: FeatureExtractor, store: Store, executor: ThreadPoolExecutor
) -> Experience:
    experience = Experience(extractor)
    reading = experience.load(partial(read_past, store), time.time(), executor)
    loading = asyncio.create_task(reading)  # requests do not wait for it
    stack.push_async_callback(_cancelled, loading)
    return experience


def _surprisals(
    stack: AsyncExitStack,
    settings: Settings,
    upstream: Upstream,
    serving: Serving,
    writer: LogWriter,
    experience: Experience,
) -> Surprisals | None:
    if settings.surprisal == "off":
        return None
    scorer = None if serving.model is None else scorer_of(upstream, serving.model)
    if scorer is None:
        log.warning("queries are not scored: this upstream cannot, or has no --model")
        return None
    ahead = settings.surprisal == "ahead"
    found = Surprisals(scorer=scorer, ahead=ahead, writer=writer, experience=experience)
    stack.push_async_callback(found.stop)
    return found


def _sleeper(
    settings: Settings,
    upstream: Upstream,
    serving: Serving,
    reader: LogReader,
    writer: LogWriter,
    prices: PriceTable,
    metrics: Metrics,
    contexts: KnownContexts,
    budget: Budget | None,
) -> StartingSleeper | None:
    if settings.sleep == "off":
        return None
    if serving.model is None:
        log.warning("sleep is off: start the server with --model to say which model sleeps")
        return None
    loop, model = asyncio.get_running_loop(), serving.model

    def on_learned(learned: LearnedContext) -> None:
        metrics.slept(learned)
        with contextlib.suppress(RuntimeError):  # the loop was closed: the store has it
            loop.call_soon_threadsafe(contexts.learned, learned)

    prices_at = partial(prices.lookup, serving.model, serving.provider_url)
    anthropic = serving.upstream_of(serving.model).speaks_anthropic

    def ask(body: Mapping[str, Any]) -> Future[UpstreamReply]:
        if budget is None:
            return asyncio.run_coroutine_threadsafe(_whole(upstream, body), loop)
        asked = asked_within(budget, upstream, body, prices_at)
        return asyncio.run_coroutine_threadsafe(asked, loop)

    def made() -> Sleeper:
        # It brings DBOS, for which no request has to wait.
        from forethought.router.sleep.workflow import Sleeper, SleepSettings  # noqa: PLC0415

        return Sleeper(
            settings=SleepSettings(
                model=model,
                concurrency=settings.sleep_concurrency,
                provider_url=serving.provider_url,
                fields={"reasoning_effort": "none"} if anthropic else {},
                thinking_tokens=least_thinking(model) if anthropic else 0,
            ),
            ask=ask,
            system_database_url=settings.sleep_store_url,
            reader=reader,
            writer=writer,
            prices=prices,
            on_learned=on_learned,
        )

    return StartingSleeper(made)


def _wake(sleeper: StartingSleeper) -> None:
    sleeper.start()
    settle()


async def _whole(upstream: Upstream, body: Mapping[str, Any]) -> UpstreamReply:
    return await upstream.complete(body, {})


def _embedder() -> Embedder:
    try:
        return WordLlamaEmbedder().load()
    except ForethoughtError as error:
        log.warning("features are computed without word vectors: %s", error)
        return HashEmbedder()


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The data folder {path} cannot be made ({error.strerror}).",
            param="data_dir",
            remedy="Name another with --data-dir.",
        ) from error


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task

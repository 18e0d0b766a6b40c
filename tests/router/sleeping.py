"""A Sleeper with all that it needs, in this process or, run as a module, in one of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from forethought.router.log import LogReader, LogWriter, Store
from forethought.router.log.store import database_url as parsed_url
from forethought.router.pricing import Prices, PriceTable
from forethought.router.records import Context, LearnedContext, SleepLevel
from forethought.router.sleep.calls import Ask
from forethought.router.sleep.workflow import Sleeper, SleepSettings
from forethought.router.upstream import Upstream
from forethought.router.upstream.openai import OpenAIUpstream
from tests.router.log.factories import make_context
from tests.waiting import wait_for

LEVEL = SleepLevel(drafts=3)
TEXT = "Tom has 3 boxes with 8 pens each. He gives 5 pens away. Pens cost $2 each."
DRAFT = "total = 3 * 8  # How many pens?\nleft = total - 5  # How many are left?"


@dataclass(frozen=True, slots=True)
class Sleeping:
    """A running Sleeper and the log that it writes to."""

    sleeper: Sleeper
    reader: LogReader
    writer: LogWriter

    def enqueue(self, n: int) -> str:
        """Store the context ``ctx_n`` and queue a sleep on it."""
        context = make_context(n, text=TEXT)
        self.writer.write_sync(context)
        return self.sleeper.enqueue(context, LEVEL)

    def context(self, n: int) -> Context:
        found = self.reader.context(f"ctx_{n}", "acme")
        assert found is not None
        return found

    def learned(self, n: int) -> LearnedContext:
        found = self.reader.latest_learned(f"ctx_{n}")
        assert found is not None
        return found

    def status(self, n: int) -> str:
        return self.sleeper.status(f"ctx_{n}")

    def wait_until_ended(self, n: int) -> str:
        wait_for(lambda: self.status(n) in {"done", "failed"}, every_s=0.05)
        return self.status(n)


@contextmanager
def running_sleeper(
    folder: Path,
    base_url: str,
    *,
    sleep_store: Path | None = None,
    database_url: str | None = None,
    on_learned: Callable[[LearnedContext], None] | None = None,
    upstream: Upstream | None = None,
    settings: SleepSettings | None = None,
) -> Iterator[Sleeping]:
    sleep_url = f"sqlite:///{sleep_store or folder / 'sleep.sqlite'}"
    if database_url is not None:
        sleep_url = parsed_url(database_url).render_as_string(hide_password=False)
    with ExitStack() as stack:
        store = stack.enter_context(Store.open(database_url or str(folder / "log.sqlite")))
        writer = stack.enter_context(LogWriter(store))
        reader = LogReader(store)
        sleeper = Sleeper(
            settings=settings or SleepSettings(model="m"),
            ask=stack.enter_context(
                asking(upstream or OpenAIUpstream(base_url, "k", max_retries=0))
            ),
            system_database_url=sleep_url,
            reader=reader,
            writer=writer,
            prices=PriceTable({"m": Prices(input=1.0, cached_input=0.1, output=4.0)}),
            on_learned=on_learned,
        )
        stack.callback(sleeper.stop)
        sleeper.start()
        yield Sleeping(sleeper, reader, writer)


@contextmanager
def asking(upstream: Upstream) -> Iterator[Ask]:
    """Calls of ``upstream`` in an event loop of their own, as the server has one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda body: asyncio.run_coroutine_threadsafe(upstream.complete(body, {}), loop)
    finally:
        asyncio.run_coroutine_threadsafe(upstream.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def main(folder: str, base_url: str, database_url: str | None = None) -> None:
    """Queue two sleeps and go on until killed."""
    with running_sleeper(Path(folder), base_url, database_url=database_url) as sleeping:
        sleeping.enqueue(0)
        sleeping.enqueue(1)
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
